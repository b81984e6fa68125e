"""SIGINT and SIGTERM, answered at once.

Python calls a handler in the main thread, once that is back from C++: after a compilation or a
transform of minutes. On the command line a thread that does nothing else answers instead.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from wsrnn.errors import STOPPED

Handler = Callable[[int, Any], Any]
_handlers: dict[int, Handler] = {}  # of the thread, where there is one


def listen(handler: Handler) -> None:
    """From now on a thread calls the handler, or what `handle` puts in its place."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in STOPPED:
        _handlers[number] = handler
        signal.signal(number, lambda *_: None)

    def answer():
        while True:
            number = os.read(reading, 1)[0]
            if number in _handlers:
                _handlers[number](number, None)

    threading.Thread(target=answer, daemon=True).start()


def handler(number: int) -> Any:
    """What answers a signal now."""
    return _handlers.get(number) or signal.getsignal(number)


def handle(number: int, handler: Any) -> Any:
    """Put a handler in place of another, which is returned, as `signal.signal` does.

    In a thread that is not the main one nothing happens: signals are whoever's who runs that.
    """
    if number in _handlers:
        before, _handlers[number] = _handlers[number], handler
        return before
    if threading.current_thread() is threading.main_thread():
        return signal.signal(number, handler)
    return None
