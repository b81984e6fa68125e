"""What a process frees comes back to it without page faults."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from wsrnn import allocator
allocator.keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
size = 80_000_000 + len(sys.argv)  # not known beforehand: no constant is made of the product
block = b"x" * size
del block
before = faults()
for _ in range(3):
    block = b"x" * size
    del block
print(faults() - before)
"""


def faults(**more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM]
    return int(subprocess.check_output(command, env=clean | more, text=True))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_freed_memory_is_kept_unless_malloc_is_told_otherwise():
    kept, plain = faults(), faults(MALLOC_CHECK_="0")
    assert kept < 1000 < 30_000 < plain
