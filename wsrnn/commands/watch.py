"""watch: the essentials of one or many runs in a terminal; what they compute is left alone."""

import math
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from wsrnn import signals
from wsrnn.checks import check_fields
from wsrnn.commands import Outcome
from wsrnn.page import find
from wsrnn.watch import Seen, table


@dataclass(frozen=True)
class Options:
    """Show a table of runs, and of whatever runs lie in the folders, that is renewed until Ctrl-C:
    step, last training and validation loss, time of a step, goodput (the share of time spent in
    training steps), skipped steps, age of the last log line, and whether the run is running,
    finished, or stopped and can be continued. It reads log files alone.
    """

    once: bool = False
    """Print the table once and end, as where the output is no terminal."""
    every: float = 2.0
    """Seconds between two looks."""
    json: bool = False
    """Print one JSON document on stdout, once."""

    def __post_init__(self):
        check_fields(self)
        if not 0 < self.every < math.inf:
            raise ValueError(f"every must be above 0 and finite, got {self.every:g}")


def run(options: Options, runs: list[str], flags: list[str]) -> Outcome:
    """Look at the runs, once or again and again."""
    seen: dict[Path, Seen] = {}

    def look():
        found = find(runs).runs  # anew, for runs that have just begun
        for folder in found:
            seen.setdefault(folder, Seen(folder)).refresh()
        return {str(folder): seen[folder].document() for folder in found}

    rows = look()
    if options.once or options.json or not sys.stdout.isatty():
        return {"runs": rows}, table(rows), 0
    ended = threading.Event()
    signals.handle(signal.SIGINT, lambda *_: ended.set())
    while True:
        print(f"\x1b[H\x1b[J{table(rows)}\n\nCtrl-C ends this, not the runs", flush=True)
        if ended.wait(options.every):
            break
        rows = look()
    return {"runs": rows}, "", 0
