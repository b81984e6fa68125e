"""The exceptions that the command line prints as one line: what is wrong, where, and the cure."""

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 75}
"""Exit codes of a run that a signal stopped. 75 is EX_TEMPFAIL of sysexits.h, "try again": a run
that lost its machine, which schedulers are to start once more."""


class UserError(ValueError):
    """A mistake in a command, a config or a file: one line that says what, where, and the cure."""


class RunError(RuntimeError):
    """A run that cannot go on through no mistake in the command: one line, exit code 1."""


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn any error into a ValueError of one line that says where it came from."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        line = f"{what}: {kind}{error}".partition("\n")[0]
        raise ValueError(line.removesuffix(": ")) from error


def place(error: BaseException, file: str) -> str | None:
    """The last line of a file that an error came through, and its function."""
    places = [
        f"{file} line {line}, {frame.f_code.co_qualname}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == file
    ]
    return places[-1] if places else None
