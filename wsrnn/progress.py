"""What a person sees and does while a run goes on: its pace, a bar or lines, and Ctrl-C."""

import logging
import signal
import sys
import time
from contextlib import contextmanager

import jax
from tqdm import tqdm

log = logging.getLogger("wsrnn")


class Pace:
    """Step time and tokens a second between points of the log, validation and compilation apart."""

    def __init__(self, tokens: int, every: int, start: int):
        self._tokens = tokens  # of a step
        self._last = (start + 1, None)  # the first step compiles: the clock starts after it
        self._every = every
        self._speed: dict[str, float] = {}

    def at(self, number: int) -> dict[str, float]:
        """The latest speeds, renewed every log_every steps."""
        now = time.perf_counter()
        since, began = self._last
        if began is None:
            self._last = (number, now)
        elif number % self._every == 0 and number > since:
            seconds = (now - began) / (number - since)
            self._speed = {
                "speed/step ms": 1e3 * seconds,
                "speed/tokens per s": self._tokens / seconds,
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
    """True once Ctrl-C or SIGTERM has come: the loop saves and leaves. A second is not held."""

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
    """A bar on a terminal, a line every so often elsewhere."""

    def __init__(self, steps: int, start: int):
        self._steps, self._start = steps, start

    def __enter__(self):
        self._next = time.perf_counter()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._steps, initial=self._start, unit="step", dynamic_ncols=True
            )
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def __call__(self, number: int, values: dict[str, float], speed: dict[str, float]) -> None:
        """Show a step."""
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.update(1)
            if now >= self._next:
                self._next = now + 0.2
                self._bar.set_postfix_str(f"loss {values['loss']:.4g}")
        elif now >= self._next:
            self._next = now + 10
            ms = speed.get("speed/step ms")
            pace = f"  {ms:.1f} ms/step, {speed['speed/tokens per s']:,.0f} tokens/s" if ms else ""
            left = f", {(self._steps - number) * ms / 1e3:.0f} s left" if ms else ""
            log.info("step %d/%d  loss %.4g%s%s", number, self._steps, values["loss"], pace, left)

    def note(self, text: str) -> None:
        """Show a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            log.info(text)
