"""Eight simulated devices and strict numerics, decided before jax is imported."""

import gc
import os
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# Compiling hundreds of small programs well would take longer than all their runs.
QUICK = ["--xla_backend_optimization_level=0"]
if version("jax").startswith("0.10."):  # where emitters of fusions take most of the time
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK])

from jaxtyping import install_import_hook

install_import_hook("wsrnn", "strict.typechecked")

import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
gc.set_threshold(100_000, 20, 50)  # tracing makes many objects and little garbage


@pytest.fixture(scope="session", autouse=True)
def _compilation_cache(tmp_path_factory):
    """Many runs here are of one program: compile it once, for all workers and child processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each of whose workers has a folder in a common one
        folder = folder.parent
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Those of one file are of no use to the next, and would fill the memory."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked():
    """Without runtime type checks, so that a wrong literal reaches the package's own check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def run(capsys):
    """Call the command line; returns (exit code, stdout, stderr)."""
    from wsrnn import cli

    def call(*argv):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(word) for word in argv])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call
