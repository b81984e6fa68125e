"""Progress bar and log lines, step times, peak memory, and Ctrl-C, for whatever takes minutes.

Nothing here decides what is computed: only `StopFlag` ends a loop early, between two steps.
"""

import logging
import resource
import signal
import sys
import time
from contextlib import contextmanager

import jax
from tqdm import tqdm

log = logging.getLogger("wsrnn")


def peak_memory() -> float:
    """Peak memory so far in MiB: of the fullest device, or resident where these do not count."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if peak := max(known.get("peak_bytes_in_use", 0) for known in stats):
        return peak / 2**20
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident / (2**20 if sys.platform == "darwin" else 2**10)


class StepTimer:
    """Step time and tokens per second, without compilation, validation and checkpoints."""

    def __init__(self, tokens: int, every: int, start: int):
        self._tokens = tokens  # of a step
        # The first step compiles: the clock starts after it.
        self._last: tuple[int, float | None] = (start + 1, None)
        self._every = every
        self._speed: dict[str, float] = {}

    def at(self, number: int) -> dict[str, float]:
        """The latest speeds, measured anew every log_every steps; empty before the first."""
        now = time.perf_counter()
        since, began = self._last
        if began is None:
            self._last = (number, now)
        elif number % self._every == 0 and number > since:
            seconds = (now - began) / (number - since)
            self._speed = {
                "speed/step ms": 1e3 * seconds,
                "speed/tokens per s": self._tokens / seconds,
                "speed/peak MiB": peak_memory(),
            }
            self._last = (number, now)
        return self._speed

    @contextmanager
    def paused(self):
        """Leave out the time spent inside."""
        began = time.perf_counter()
        yield
        number, clock = self._last
        if clock is not None:
            self._last = (number, clock + time.perf_counter() - began)


class StopFlag:
    """True after Ctrl-C or SIGTERM: the loop saves and stops. A second one kills at once."""

    def __enter__(self):
        self._came = False
        self._before = {}
        if jax.process_count() == 1:  # several processes must agree on the step: not by signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number, _):
        self._came = True
        signal.signal(number, self._before[number])
        log.info("stopping after this step; again to stop at once")

    def __bool__(self):
        return self._came

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Progress:
    """A bar on a terminal, elsewhere a log line every so often."""

    def __init__(self, total: int, start: int = 0, unit: str = "step"):
        self._total, self._start, self._unit = total, start, unit

    def __enter__(self):
        self._next = time.perf_counter()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total, initial=self._start, unit=self._unit, dynamic_ncols=True
            )
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def __call__(self, number: int, text: str, speed: dict[str, float] | None = None) -> None:
        """Show that `number` of the total are done."""
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.update(1)
            if now >= self._next:
                self._next = now + 0.2
                self._bar.set_postfix_str(text)
        elif now >= self._next:
            self._next = now + 10
            speed = speed or {}
            ms = speed.get("speed/step ms")
            if ms:
                text += f"  {ms:.1f} ms/step, {speed['speed/tokens per s']:,.0f} tokens/s"
                text += f", {(self._total - number) * ms / 1e3:.0f} s left"
            log.info("%s %d/%d  %s", self._unit, number, self._total, text)

    def note(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            log.info(text)
