"""Stand-ins for programs that the launchers call."""

import json
import os
import subprocess
import sys
from pathlib import Path


class Stubs:
    """Programs first on the PATH that append `[name, *arguments]` to a log and then run `code`."""

    def __init__(self, folder: Path):
        self.folder, self._log = folder, folder / "log.jsonl"
        (folder / "bin").mkdir()

    def add(self, name: str, code: str = "", path: Path | None = None):
        path = path or self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"#!{sys.executable} -IS\nimport json, os, subprocess, sys\n"
            f"open({str(self._log)!r}, 'a').write(json.dumps([{name!r}, *sys.argv[1:]]) + '\\n')\n"
            f"{code}\n"
        )
        path.chmod(0o755)

    def start(self, *command, **environment) -> subprocess.Popen:
        """In a process group of its own."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            [str(word) for word in command],
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
        return [json.loads(line) for line in self._log.read_text().splitlines()]
