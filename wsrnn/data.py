"""Batches as a pure function of the step, for any number of workers and processes.

Keep it so: a run resumes by slicing the data at its step, and no iterator state is saved.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import islice

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer

from wsrnn.errors import RunError
from wsrnn.tasks import SPLITS, Batch, Split, Task
from wsrnn.tasks.check import first_fault
from wsrnn.tasks.drawn import Drawn, Raw

LOST = "terminated unexpectedly with exit code"  # what grain says of a killed worker


def train_stream(
    task: Task,
    batch_size: int,
    seed: int,
    *,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    workers: int = 0,
    on_loss: Callable[[str], None] | None = None,
) -> Iterator[Batch]:
    """Yield this process's part of the global training batches, from step `start` on, without end.

    batch_size is global. The position in the data *is* the step: the global batches are cut into
    one piece for each process, and resuming slices the dataset instead of restoring an iterator's
    state, which would be tied to the number of workers and processes.

    Where a worker is killed and `on_loss` is given, that hears of it, and this process makes the
    batches that follow itself.
    """
    index, processes = process
    size = batch_size // processes
    if task.endless:
        ds = task.batches("train", seed, size)
    else:
        ds = task.dataset("train", seed).shuffle(seed).repeat().batch(size, drop_remainder=True)
    ds = ds[index::processes][start:]
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)
    if not workers:
        return iter(ds.to_iter_dataset(reading))
    _parse_absl_flags()
    options = grain.MultiprocessingOptions(num_workers=workers)
    prefetched = ds.to_iter_dataset(reading).mp_prefetch(options, worker_init_fn=_begin_worker)

    def made_here(done: int) -> Iterator[Batch]:
        return iter(ds[done:].to_iter_dataset(reading))

    return _survive(iter(prefetched), made_here, on_loss) if on_loss else iter(prefetched)


def _survive(
    stream: Iterator[Batch], made_here: Callable[[int], Iterator[Batch]], on_loss: Callable
) -> Iterator[Batch]:
    """The batches of a stream, the rest of them made here once a worker is killed."""
    done = 0
    try:
        for batch in stream:
            yield batch
            done += 1
        return
    except RuntimeError as error:  # grain's, which has no class of its own
        if LOST not in str(error):
            raise
        code = str(error).partition(LOST)[2].split(".")[0]
    on_loss(f"a data worker was killed (exit code{code}), perhaps for lack of memory")
    yield from made_here(done)


def batches_again(
    task: Task, batch_size: int, seed: int, steps: range, draw: str
) -> Iterator[Batch]:
    """The global training batches of some steps, made again to be looked at."""
    if draw == "host":
        stream = train_stream(task, batch_size, seed, start=steps.start)
        yield from islice(stream, len(steps))
        return
    assert isinstance(task, Drawn)  # nothing else is drawn inside the step
    drawn = jax.jit(batches_in_step(task, batch_size, seed))
    for step in steps:
        yield jax.device_get(drawn(jnp.asarray(step)))


def batches_in_step(task: Drawn, batch_size: int, seed: int) -> Callable[[Int[Array, ""]], Batch]:
    """Return the function from a step to its global training batch, for use inside that step."""
    examples = in_step(task, "train", seed)

    def batch(step: Int[Array, ""]) -> Batch:
        first = step.astype(jnp.uint32) * batch_size
        return examples(first + jnp.arange(batch_size, dtype=jnp.uint32))._replace(latents={})

    return batch


def in_step(task: Drawn, split: Split, seed: int) -> Callable[[Integer[Array, " N"]], Batch]:
    """Return the function from positions in a split to examples, for use inside a compiled step.

    The distribution is that of `Drawn.dataset`, the numbers are jax's own, a function of (seed,
    position), on any number of devices.
    """
    draws = sorted(task.draws(split).items())
    stream = jax.random.fold_in(jax.random.key(seed), SPLITS.index(split))

    def drawn(raw: Raw, key: Array) -> Array:
        match raw.distribution:
            case "normal":
                return jax.random.normal(key, raw.shape)
            case "uniform":
                return jax.random.uniform(key, raw.shape)
            case "below":
                return jax.random.randint(key, raw.shape, 0, raw.high)

    def examples(positions: Integer[Array, " N"]) -> Batch:
        index = task.stands_at(positions, split)

        def numbers(i):
            key = jax.random.fold_in(stream, i)
            keys = jax.random.split(key, len(draws))
            return {name: drawn(raw, k) for (name, raw), k in zip(draws, keys, strict=True)}

        with jax.numpy_rank_promotion("allow"):  # tasks are written once, to numpy's rules
            return task.build(jax.vmap(numbers)(index) | {"index": index}, split, jnp)

    return examples


def examples(task: Task, split: Split, seed: int, count: int) -> Batch:
    """Return the first `count` examples of a split, or all there are, as one batch.

    Raises RunError that names the first of them that is not what the task promises: what solves for
    a baseline would say that its matrix is singular.
    """
    batch = task.batches(split, seed, min(count, len(task.dataset(split, seed))))[0]
    if wrong := first_fault(task, split, batch):
        raise RunError(f"the {split} data of {type(task).__name__} are not sound: {wrong}")
    return batch


def eval_stream(
    task: Task,
    split: Split,
    batch_size: int,
    seed: int,
    *,
    batches: int | None = None,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield this process's part of one pass over a split, or of its first `batches` batches.

    The last batch of a finite split is filled up with copies of its last example whose mask is
    zero.
    """
    index, processes = process
    ds = task.dataset(split, seed)
    if batches is not None:
        ds = ds[: min(batches * batch_size, len(ds))]
    local = batch_size // processes
    chunks = -(-len(ds) // batch_size)
    ds = ds.batch(local)
    for i in range(index, chunks * processes, processes):
        yield _filled(ds[i], local) if i < len(ds) else _filled(ds[len(ds) - 1], local, used=0)


def _filled(batch: Batch, size: int, used: int | None = None) -> Batch:
    have = len(batch.mask)
    used = have if used is None else used
    if used == size:
        return batch
    rows = np.minimum(np.arange(size), have - 1)
    batch = jax.tree.map(lambda x: x[rows], batch)
    return batch._replace(mask=batch.mask * (np.arange(size) < used)[:, None].astype(np.float32))


def _parse_absl_flags() -> None:
    """Grain's workers read absl flags, which nobody parses outside of absl programs."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _begin_worker(worker: int, workers: int) -> None:
    """Run first in a worker, which must not outlive its parent, however that ends."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # grain imports jax, which must not take an accelerator
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow():
        parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
