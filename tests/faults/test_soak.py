"""A long run holds what it held soon after its start: memory, open files, threads."""

import os
import time
from pathlib import Path

import children

from wsrnn.metrics_log import read_metrics

TINY = Path(__file__).parents[1] / "tiny.py"
STEPS = int(os.environ.get("WSRNN_SOAK", 300))
WARM = 100  # steps until all kinds of work have been done several times
EVERY = 5  # steps from save to save
# What it may grow by: the allocator's pages, and what tensorstore 0.1.86 leaks at each save, as
# orbax asks it for counts of bytes (lists that experimental_collect_matching_metrics returns).
MEGABYTES, PER_SAVE = 5, 0.035


def held(pid):
    """Megabytes of memory that is no file's, open files and threads of a process."""
    status = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files, threads = (len(os.listdir(f"/proc/{pid}/{kind}")) for kind in ("fd", "task"))
    return int(status["RssAnon"].split()[0]) / 1e3, files, threads


def test_memory_open_files_and_threads_stay(tmp_path):
    """The least of some looks: between them are saves, whose files are open for a while."""
    run = tmp_path / "run"
    often = ("--log-every", "1", "--eval-every", "10", "--save-every", str(EVERY))
    words = ("train", TINY, "--out", run, *often, "--mesh.data", "1", "--steps", str(10 * STEPS))
    process, looks = children.start(tmp_path / "log", *words), []
    for last in (WARM, STEPS):
        rows = last + last // 10  # validations have rows of their own
        children.wait_for_steps(process, run, rows, patience=max(200, STEPS))
        looks.append([])
        for _ in range(40):
            looks[-1].append(held(process.pid))
            time.sleep(0.02)
    done = sum("loss" in row for row in read_metrics(run))
    process.terminate()
    process.join()
    assert process.exitcode == 75, (tmp_path / "log").read_text()
    warm, end = ([min(column) for column in zip(*look, strict=True)] for look in looks)
    print(f"after {WARM} and {done} steps: MB {warm[0]:.1f} and {end[0]:.1f}, "
          f"open files {warm[1]} and {end[1]}, threads {warm[2]} and {end[2]}")  # fmt: skip
    assert end[0] < warm[0] + MEGABYTES + PER_SAVE * (done - WARM) / EVERY
    assert end[1] <= warm[1] + 1 and end[2] <= warm[2] + 1  # a save may be going on
