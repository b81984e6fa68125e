"""Progress bar and log lines, and Ctrl-C, for whatever takes minutes.

Nothing here decides what is computed: only `StopFlag` ends a loop early, between two steps.
"""

import logging
import signal
import sys
import time

import jax
from tqdm import tqdm

log = logging.getLogger("wsrnn")


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
