"""Progress bar and log lines, and Ctrl-C, for whatever takes minutes.

Nothing here decides what is computed: only `StopFlag` ends a loop early, between two steps, of all
processes between the same two.
"""

import logging
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from wsrnn import signals
from wsrnn.errors import STOPPED
from wsrnn.sharding import to_global

log = logging.getLogger("wsrnn")


class Stopped(Exception):
    """Raised within what can be left half done: all processes have agreed to stop."""


class StopFlag:
    """What asks a loop to save and stop: Ctrl-C, SIGTERM, or `lose`. False while nothing does.

    The same signal again ends the process at once.
    """

    LOSS = 1  # below every signal: a worker is also lost to the signal that stops its run

    def __enter__(self):
        self._asked: set[int] = set()  # which only grows: the thread of signals adds to it
        self._vote: jax.Array | None = None  # of all processes, on its way
        self._largest = jax.jit(jnp.max)
        self.loss = "another process has lost what it needs"
        self._before = {number: signals.handler(number) for number in STOPPED}
        for number in STOPPED:
            signals.handle(number, self._handle)
        return self

    def _handle(self, number, _):
        self._asked.add(number)
        signals.handle(number, self._before[number])
        log.warning(
            "%s: saving after this step, then stopping; again to stop at once",
            signal.Signals(number).name,
        )

    def lose(self, why: str) -> None:
        """Ask to save and stop because of something that is lost, not by a signal."""
        log.warning("%s: saving after this step, then stopping", why)
        self.loss = why
        self._asked.add(self.LOSS)

    def __bool__(self):
        return bool(self._asked)

    @property
    def exit_code(self) -> int:
        """Of a process that stops for this: 0 if it does not, 1 for a loss."""
        return STOPPED.get(self._reason, self._reason)

    @property
    def _reason(self) -> int:
        """The number of the signal, `LOSS` or 0; of several the largest."""
        return max(self._asked, default=0)

    def agreed(self, mesh: Mesh) -> bool:
        """Whether to stop at this step, the same in all processes; each calls it at every step.

        What all ask is compared on the devices, from one step to the next: nobody waits for it.
        """
        if jax.process_count() == 1:
            return bool(self)
        before = self._vote
        here = np.full(len(mesh.local_devices), self._reason, np.int32)
        self._vote = self._largest(to_global(here, mesh))
        agreed = 0 if before is None else int(jax.device_get(before))
        if agreed:
            self._asked.add(agreed)
        return bool(agreed)

    def heeded(self, stream: Iterator[Any], mesh: Mesh) -> Iterator[Any]:
        """The elements of a stream; raises Stopped before the next where it is `agreed`."""
        for element in stream:
            if self.agreed(mesh):
                raise Stopped
            yield element

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signals.handle(number, handler)


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
