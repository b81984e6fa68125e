"""A trace of some training steps, by jax's own profiler."""

import logging
import re
from pathlib import Path
from typing import Any

import jax

from wsrnn.errors import UserError

log = logging.getLogger("wsrnn")


class Profiler:
    """Traces some training steps of process 0 into a run folder; without a window it does nothing.

    window: START:STEPS, so many steps from where START are done.
    """

    def __init__(self, window: str | None, folder: Path):
        """Raises UserError for a window that cannot be read."""
        self._window, self._folder, self._tracing = window, folder, False
        self._start, self._end = -1, -1
        if window is None:
            return
        found = re.fullmatch(r"(\d+):(\d+)", window, re.ASCII)
        if not found or int(found[2]) < 1:
            raise UserError(
                f"--profile takes START:STEPS, such as 100:5 for the 5 steps after step 100, not "
                f"{window!r}"
            )
        self._start = int(found[1])
        self._end = self._start + int(found[2])

    def check(self, done: int, steps: int) -> None:
        """UserError unless a run that has done so many of its steps comes to the window."""
        if self._window and not done <= self._start < steps:
            raise UserError(
                f"--profile {self._window}: this run goes from step {done} to step {steps}: let "
                "START be one of them"
            )

    def before(self, number: int) -> None:
        """Start where `number` steps are done and the next one is about to be dispatched."""
        if number == self._start and jax.process_index() == 0:
            self._tracing = True
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)

    def after(self, number: int, state: Any) -> None:
        """Stop where the last of the steps has been dispatched, once the device has done it."""
        if self._tracing and number >= self._end:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Write the trace, if one has been started, and say where it is."""
        if not self._tracing:
            return
        self._tracing = False
        jax.profiler.stop_trace()
        written = max((self._folder / "plugins" / "profile").glob("*/perfetto_trace.json.gz"))
        log.info(
            "trace of the steps after %d: open %s at https://ui.perfetto.dev, or this run with "
            "tensorboard once xprof is installed (pip install xprof)",
            self._start, written,
        )  # fmt: skip
