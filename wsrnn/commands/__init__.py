"""The commands, a file each, imported once one is named, for all of them need jax.

A file has the command's own options, a dataclass that tyro parses, and ``run(options, *positional
arguments, flags)``, which returns (JSON document, text for a terminal, exit code).
"""

from typing import Any

Outcome = tuple[dict[str, Any], str, int]
