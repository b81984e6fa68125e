"""Where the time of a run goes, how fast its steps are and what memory they take.

Nothing here waits for a device, and nothing here decides what is computed.
"""

import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jax

PHASES = ("step", "compile", "data", "checkpoint", "evaluation", "start", "lost")
"""step: training steps, their share of all is the goodput; data: the device has nothing to do,
because the next batch is not there; start: parameters are made or restored; lost: steps that were
done again, because the run was killed after its last checkpoint."""

COMPILING = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)


class Compilations:
    """While entered, counts the programs that jax compiles for this thread, and their seconds."""

    def __enter__(self):
        self.count = 0
        self._spans: list[tuple[float, float]] = []
        self._thread = threading.get_ident()
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, seconds: float, **_) -> None:
        """Take down what has just ended."""
        if event not in COMPILING or threading.get_ident() != self._thread:
            return
        self.count += event == COMPILING[-1]
        end = time.perf_counter()
        while self._spans and self._spans[-1][0] >= end - seconds:  # it was a part of this one
            self._spans.pop()
        self._spans.append((end - seconds, end))

    def seconds(self) -> float:
        """Tracing, lowering and compiling since this was last asked."""
        spent = sum(end - begin for begin, end in self._spans)
        self._spans.clear()
        return spent


class Clock:
    """Divides a run's time among the phases, of which it is in one at any time; `with` it.

    tokens, operations: of a step, over all devices; peak: operations a second of all of them. The
    last two are None where they are not known. every: the number of steps between two looks.
    """

    def __init__(
        self, tokens: int, every: int, operations: float | None = None, peak: float | None = None
    ):
        self._tokens, self._every = tokens, every
        self._operations, self._peak = operations, peak
        self._compilations = Compilations()
        self._last: tuple[int, float] | None = None
        self._speed: dict[str, float] = {}

    def __enter__(self):
        self._compilations.__enter__()
        self._spent = dict.fromkeys(PHASES, 0.0)
        self._phase, self._since = "start", time.perf_counter()
        return self

    def __exit__(self, *_):
        self._compilations.__exit__()

    @property
    def knows_peak(self) -> bool:
        """Whether the speeds will have an MFU."""
        return bool(self._operations and self._peak)

    def carry(self, spent: dict[str, float]) -> None:
        """Add what earlier processes have spent on the run."""
        for phase in self._spent.keys() & spent.keys():  # a damaged log may name others
            self._spent[phase] += spent[phase]

    def enter(self, phase: str, *, spent_on: str | None = None) -> str:
        """Go over to a phase; returns the one before, to which the time counts, or `spent_on`."""
        before, now = self._phase, time.perf_counter()
        seconds = now - self._since
        compiling = min(self._compilations.seconds(), seconds)
        self._spent["compile"] += compiling
        self._spent[spent_on or before] += seconds - compiling
        self._phase, self._since = phase, now
        return before

    @contextmanager
    def phase(self, name: str, hidden: Callable[[], bool] = lambda: False):
        """A phase within another one, to which its time counts all the same where it is `hidden`
        behind what the device does meanwhile."""
        outer = self.enter(name)
        try:
            yield
        finally:
            self.enter(outer, spent_on=outer if hidden() else name)

    def spent(self) -> dict[str, float]:
        """Seconds in each phase; together all that has passed."""
        self.enter(self._phase)
        return dict(self._spent)

    def at(self, number: int) -> dict[str, float]:
        """The latest speeds, once step `number` is done; empty before the first.

        They are measured anew every so many steps. Evaluation, checkpoints, compilation and the
        first step do not count.
        """
        if self._last is not None and (number % self._every or number <= self._last[0]):
            return self._speed
        spent = self.spent()
        seconds = spent["step"] + spent["data"]
        if self._last is not None:
            since, began = self._last
            seconds_each = (seconds - began) / (number - since)
            self._speed = {
                "speed/step ms": 1e3 * seconds_each,
                "speed/tokens per s": self._tokens / seconds_each,
                "speed/peak MiB": peak_memory(),
            }
            if self._operations:
                rate = self._operations / seconds_each
                self._speed["speed/FLOP per s"] = rate
                if self._peak:
                    self._speed["speed/MFU"] = rate / self._peak
        self._last = (number, seconds)
        return self._speed

    def curves(self) -> dict[str, float]:
        """The share of each phase in all time, which add up to 1, programs compiled, memory."""
        spent = self.spent()
        total = sum(spent.values())
        shares = {f"goodput/{phase}": seconds / total for phase, seconds in spent.items()}
        return shares | {"speed/programs compiled": self._compilations.count} | memory()


def peak_memory() -> float:
    """Peak memory so far in MiB: of the fullest device, or resident where these do not count."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if peak := max(known.get("peak_bytes_in_use", 0) for known in stats):
        return peak / 2**20
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident / (2**20 if sys.platform == "darwin" else 2**10)


def memory() -> dict[str, float]:
    """MiB in use now, on each device of this process that counts, and of the host where known."""
    used = {}
    for device in jax.local_devices():
        if (stats := device.memory_stats()) and "bytes_in_use" in stats:
            used[f"memory/device {device.id} MiB"] = stats["bytes_in_use"] / 2**20
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1])  # Linux alone has it
        used["memory/host MiB"] = resident * resource.getpagesize() / 2**20
    except OSError:
        pass
    return used
