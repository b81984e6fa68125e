"""Connections between the processes of a run, so that none waits for another that is gone.

jax notices one that is gone after 100 s, and ends with a C++ stack; a connection notices at once.
Nothing here touches jax before the run is over.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from typing import NoReturn

AGAIN = "the same command in all processes continues from the last checkpoint"


class Liveness:
    """Says that this process lives, hears whether the others do, and ends it when one does not.

    All are connected to process 0, which passes on why one has ended. A line is empty, a sign of
    life, or JSON: [exit code, why]; code 0 takes leave.
    """

    def __init__(self, process: int, count: int, peers: dict[int, socket.socket], heartbeat: float):
        self.process, self._count = process, count
        self._peers, self._heartbeat = peers, heartbeat
        self._open = set(peers)
        self._sending, self._ending = threading.RLock(), threading.Lock()
        for index, peer in peers.items():
            peer.settimeout(heartbeat)
            threading.Thread(target=self._listen, args=(index, peer), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def end(self, why: str, code: int) -> NoReturn:
        """Print why this run ends, tell the others, and be gone; only the first reason counts."""
        if not self._ending.acquire(timeout=10):  # held for good by whoever is first
            os._exit(code)
        with contextlib.suppress(OSError):  # where nobody reads it any more
            print(f"wsrnn: {why}", file=sys.stderr, flush=True)
        whose = "" if why.startswith("process ") else f"process {self.process}: "
        self._send(json.dumps([code, whose + why]))
        deadline = time.monotonic() + 3
        while self._open and time.monotonic() < deadline:  # jax aborts those who outlive process 0
            time.sleep(0.02)
        os._exit(code)

    def leave(self) -> None:
        """Wait until all have finished; no loss is one from here on."""
        import jax

        jax.distributed.shutdown()
        self._ending.acquire()
        self._send(json.dumps([0, ""]))

    def _send(self, line: str) -> None:
        with self._sending:
            for index in list(self._open):
                with contextlib.suppress(OSError):  # reading tells
                    self._peers[index].sendall(f"{line}\n".encode())

    def _beat(self) -> None:
        while self._open:
            self._send("")
            time.sleep(self._heartbeat / 4)

    def _listen(self, index: int, peer: socket.socket) -> None:
        why, code = f"process {index} of {self._count} was lost; {AGAIN}", 1
        try:
            for line in peer.makefile():
                if line.strip():
                    code, why = json.loads(line)
                    break
        except TimeoutError:
            why = (
                f"process {index} of {self._count} has been silent for "
                f"{self._heartbeat:g} s; {AGAIN}"
            )
        except (OSError, ValueError):
            pass  # a connection that was cut
        self._open.discard(index)
        if code:
            self.end(why, code)
