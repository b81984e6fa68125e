"""Several processes that train one run: where they meet, and that none is left waiting for another.

`start` finds the other processes and starts jax's distributed runtime, before anything touches a
device. From then on they watch one another (`liveness`): whoever fails says why, and all end.
"""

import contextlib
import importlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any, Literal

from wsrnn.checks import check_fields
from wsrnn.errors import RunError, UserError
from wsrnn.liveness import Liveness

log = logging.getLogger("wsrnn")

# What a scheduler or launcher tells each of the processes that it starts: how many there are.
COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE",
          "SKYPILOT_NUM_NODES", "MEGASCALE_NUM_SLICES")  # fmt: skip
ON_MACHINE = "SLURM_STEP_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE"  # how many of them are here
INDEXED = "JOB_COMPLETION_INDEX"  # Kubernetes: one pod of a job, which may have others


@dataclass(frozen=True)
class Options:
    """How a command finds the other processes of its run."""

    distributed: Literal["auto", "on", "off"] = "auto"
    """Train with other processes: auto does where the flags below, their variables, Slurm,
    Kubernetes, Open MPI or a TPU pod tell of them, and never trains alone where one of these does;
    on must find them; off trains alone."""
    coordinator: str | None = None
    """HOST:PORT of process 0, which listens there; None is $WSRNN_COORDINATOR."""
    processes: int | None = None
    """How many processes train the run; None is $WSRNN_PROCESSES."""
    process: int | None = None
    """Which of them this is, from 0 on; None is $WSRNN_PROCESS."""
    connect_timeout: float = 60
    """Seconds after which processes that have not all met end."""
    heartbeat: float = 20
    """Seconds of silence after which a process counts as lost, and the others end."""

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Place:
    """Where a process stands among the others."""

    coordinator: str
    processes: int
    process: int
    devices: tuple[int, ...] | None = None
    """The accelerators of this machine that are its own; None takes all."""

    def __post_init__(self):
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator takes HOST:PORT of process 0, not {self.coordinator}")
        if not 0 <= self.process < self.processes:
            raise UserError(
                f"--process {self.process} of --processes {self.processes}: count from 0 on, "
                "below --processes"
            )

    @property
    def address(self) -> tuple[str, int]:
        """Of process 0, for a socket."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


def start(options: Options) -> None:
    """Join the other processes of the run, if there are any.

    Raises UserError where they cannot be found, though they must be. Where they do not all come
    within `connect_timeout`, this process ends with one line and exit code 1.
    """
    for name in ("connect_timeout", "heartbeat"):
        if not getattr(options, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0 seconds")
    place = find(options)
    if place is None:
        return
    import jax

    # Ours notices signals itself; jax's notifier would take SIGTERM away from it.
    with contextlib.suppress(AttributeError):
        jax.config.update("jax_enable_preemption_service", False)
    if place.process == 0 and _answers(place.address):
        raise UserError(
            f"--coordinator {place.coordinator}: the port is in use already, perhaps by another "
            "run: choose another one"
        )
    global _liveness
    peers = _meet(place, options)
    _liveness = Liveness(place.process, place.processes, peers, options.heartbeat)
    if place.process:
        log.setLevel(logging.WARNING)  # process 0 speaks for all
    log.info("%d processes train together, coordinator %s", place.processes, place.coordinator)


def find(options: Options) -> Place | None:
    """Where this process stands, None of one that is to train alone; starts nothing.

    Raises UserError where others are told of but not where they meet, or `distributed` is on and
    there are none.
    """
    coordinator = options.coordinator or os.environ.get("WSRNN_COORDINATOR")
    count, index = _number("processes", options.processes), _number("process", options.process)
    given = {"coordinator": coordinator, "processes": count, "process": index}
    told = {name: os.environ[name] for name in COUNTS if _several(os.environ.get(name))}
    if options.distributed == "off":
        if told or None not in given.values():
            log.info("--distributed off: this process trains alone")
        return None
    missing = [
        f"--{name} (or $WSRNN_{name.upper()})"
        for name, value in given.items()
        if not value and value != 0
    ]
    if coordinator and count is not None and index is not None:
        return Place(coordinator, count, index)
    if len(missing) < len(given):
        raise UserError(f"several processes need {' and '.join(missing)} too")
    cluster = _detected()
    if cluster is not None:
        return cluster
    if told:
        name, number = next(iter(told.items()))
        raise UserError(
            f"${name} is {number}, but where the other processes are is not known: give "
            "--coordinator, --processes and --process, or train alone with --distributed off"
        )
    if INDEXED in os.environ:
        raise UserError(
            f"${INDEXED} tells of a pod among others, which are not known: give --coordinator, "
            "--processes and --process (or install jax[k8s]), or train alone with --distributed off"
        )
    if options.distributed == "on":
        raise UserError(
            "--distributed on, but no other processes are known: give --coordinator, --processes "
            "and --process, or start it by srun or in a pod of several"
        )
    return None


def _number(name: str, given: int | None) -> int | None:
    word = os.environ.get(f"WSRNN_{name.upper()}")
    if given is not None or not word:
        return given
    if not word.isdecimal():
        raise UserError(f"$WSRNN_{name.upper()} is {word}: it takes a number")
    return int(word)


def _several(word: str | None) -> bool:
    return bool(word and word.isdecimal() and int(word) > 1)


def _detected() -> Place | None:
    """What jax's own detection finds (Slurm, Open MPI, TPU pods, Kubernetes); None of one process.

    Asked here and not by `jax.distributed.initialize`, which gives each task of Slurm one device,
    also where a task has its machine, or its device, for itself.
    """
    clusters = importlib.import_module("jax._src.clusters")  # there is no public way to ask
    kinds = [kind for kind in clusters.ClusterEnv._cluster_types if not kind.opt_in_only_method]
    try:
        found = next((kind for kind in kinds if kind.is_env_present()), None)
        if found is None or (count := found.get_process_count()) < 2:
            return None
        address = found.get_coordinator_address(60, os.environ.get("JAX_COORDINATOR_PORT"))
        local = found.get_local_process_id()
        here = [os.environ.get(name, "").partition("(")[0] for name in ON_MACHINE]
        alone = "1" in here or os.environ.get("CUDA_VISIBLE_DEVICES", "").isdecimal()
        devices = None if local is None or alone else (local,)
        return Place(address, count, found.get_process_id(), devices)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"the other processes were not found ({reason}): give --coordinator, --processes and "
            "--process, or train alone with --distributed off"
        ) from error


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


def _meet(place: Place, options: Options) -> dict[int, socket.socket]:
    """Start jax's runtime and connect to the others; ends the process if that takes too long.

    jax waits in C++, deaf to signals, and aborts in the end: so it waits in another thread.
    """
    import jax

    peers: dict[int, socket.socket] = {}
    errors: list[Exception] = []

    def meet():
        try:
            jax.distributed.initialize(
                place.coordinator, place.processes, place.process,
                local_device_ids=place.devices, cluster_detection_method="deactivate",
                initialization_timeout=int(options.connect_timeout) + 60,  # ours comes first
                heartbeat_timeout_seconds=int(max(100, 5 * options.heartbeat)),
            )  # fmt: skip
            peers.update(_connect(place))
        except Exception as error:
            errors.append(error)

    meeting = threading.Thread(target=meet, daemon=True)
    meeting.start()
    meeting.join(options.connect_timeout)
    if errors:
        reason = str(errors[0]).strip().partition("\n")[0]
        raise RunError(f"the processes cannot meet at {place.coordinator}: {reason}")
    if not meeting.is_alive():
        return peers
    if place.process and not _answers(place.address):
        why = (
            f"process {place.process} could not reach the coordinator {place.coordinator} within "
            f"{options.connect_timeout:g} s: start process 0, or correct --coordinator"
        )
    else:
        why = (
            f"not all of {place.processes} processes came to {place.coordinator} within "
            f"{options.connect_timeout:g} s: start those that are missing, or correct --processes"
        )
    print(f"wsrnn: {why}", file=sys.stderr, flush=True)
    os._exit(1)


def _connect(place: Place) -> dict[int, socket.socket]:
    """The connections of process 0 to all others, or of another one to process 0."""
    from jax._src import distributed  # its store of keys, which orbax uses too, has no public name

    store: Any = distributed.global_state.client
    if place.process:
        port, token = store.blocking_key_value_get("wsrnn/watch", 10**6).split()
        peer = socket.create_connection((place.address[0], int(port)))
        peer.sendall(f"{token} {place.process}\n".encode())
        return {0: peer}
    token = secrets.token_hex(16)
    peers: dict[int, socket.socket] = {}
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as server:
        store.key_value_set("wsrnn/watch", f"{server.getsockname()[1]} {token}")
        while len(peers) < place.processes - 1:
            peer, _ = server.accept()
            peer.settimeout(5)
            with contextlib.suppress(OSError, ValueError):  # a stranger has no token
                # unbuffered: what follows is for `Liveness`
                said, index = peer.makefile("rb", buffering=0).readline().split()
                if said == token.encode():
                    peers[int(index)] = peer
    return peers


_liveness: Liveness | None = None


def is_lead() -> bool:
    """Whether this process speaks for the run: process 0, or the only one."""
    return _liveness is None or _liveness.process == 0


def end(why: str, code: int, patience: float = 0) -> None:
    """End all processes of the run, this one too, with one line; returns if this is the only one.

    A process that is lost shows up as an error of jax in the others: within `patience` seconds the
    other says so instead.
    """
    if _liveness is not None:
        time.sleep(patience)
        _liveness.end(why, code)


def fail(error: Exception) -> None:
    """End all processes of the run for an error that no line explains; returns if this is alone."""
    if _liveness is not None:
        time.sleep(2)  # as in `end`
        with contextlib.suppress(OSError):  # where nobody reads it any more
            traceback.print_exception(error)
        _liveness.end(f"{type(error).__name__}: {error}".partition("\n")[0], 1)


def leave() -> None:
    """The run is over: wait for the other processes, if there are any."""
    if _liveness is not None:
        _liveness.leave()
