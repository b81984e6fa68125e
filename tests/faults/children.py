"""Runs in processes of their own, forked from one that has imported everything: fast to start."""

import multiprocessing
import os
import resource
import sys
import time

from wsrnn.metrics_log import read_metrics

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["wsrnn.cli", "wsrnn.commands.train"])


def start(log, *argv, limit=resource.RLIM_INFINITY):
    """Begin `wsrnn ARGV`, what it prints going to the end of the file `log`.

    No file may grow beyond `limit` bytes: to the process that is a full disk.
    """
    process = SERVER.Process(target=_run, args=(str(log), [str(word) for word in argv], limit))
    process.start()
    return process


def wait_for_steps(process, run, count, patience=100):
    """Wait until a run has logged `count` rows or its process has ended."""
    deadline = time.monotonic() + patience
    while process.is_alive() and len(read_metrics(run)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _run(log, argv, limit):
    from wsrnn import cli

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    sys.argv[1:] = argv
    cli.entry()
