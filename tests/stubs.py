"""Stand-ins for programs that the launchers call."""

import os
import subprocess
from pathlib import Path

END = "\x1f"  # of a recorded word


class Stubs:
    """Programs first on the PATH that append their name and arguments to a log, then run `code`."""

    def __init__(self, folder: Path):
        self.folder, self._log = folder, folder / "log"
        (folder / "bin").mkdir()

    def add(self, name: str, code: str = "", path: Path | None = None):
        """Of `code` in the language of bash."""
        path = path or self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        record = f"printf '%s\\x1f' {name} \"$@\" >> '{self._log}'; echo >> '{self._log}'"
        path.write_text(f"#!/usr/bin/env bash\n{record}\n{code}\n")
        path.chmod(0o755)

    def start(self, *command, **environment) -> subprocess.Popen:
        """In a process group of its own."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["env", "--default-signal=INT", *map(str, command)],  # ignored in the background
            env=os.environ | {"PATH": path} | environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command, **environment) -> subprocess.CompletedProcess:
        process = self.start(*command, **environment)
        output = process.communicate(timeout=60)
        return subprocess.CompletedProcess(command, process.returncode, *output)

    def calls(self) -> list[list[str]]:
        if not self._log.exists():
            return []
        calls = self._log.read_text().split(f"{END}\n")[:-1]
        return [call.split(END) for call in calls]
