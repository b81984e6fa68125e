"""Experiments made by a script: what a run keeps of classes that are defined in it or beside it.

A script that Python runs is the module `__main__`, which no other process can import. The run
therefore keeps the script's text, as it keeps an experiment file's, and executes it when it is
opened, so what trains must stand under ``if __name__ == "__main__":``. A notebook has no text to
keep: its classes belong in a file that it imports, of which the run keeps the text too.
"""

import ast
import logging
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from wsrnn.errors import UserError
from wsrnn.recipe import Recipe
from wsrnn.tree import modules

log = logging.getLogger("wsrnn")


def recipe(tree: Any) -> Recipe | None:
    """What to keep with an experiment's tree: the script, or file, whose classes it names.

    Raises UserError, with the cure, where there is no text to keep, or where it would train when it
    is opened.
    """
    if "__main__" not in modules(tree):
        return _beside(sorted({module.partition(".")[0] for module in modules(tree)}))
    path = getattr(sys.modules["__main__"], "__file__", None)
    if not path or not Path(path).is_file():
        raise UserError(
            "a run cannot keep classes that are defined in a notebook or at a prompt: put them in "
            "a .py file and import it"
        )
    source = Path(path).read_text()
    if not _is_guarded(source):
        raise UserError(
            f"{path} defines classes of the experiment, so a run keeps its text and executes it to "
            'be opened, and would train again: train under `if __name__ == "__main__":`, or put '
            "the classes in a file of their own"
        )
    return Recipe(source, Path(path).stem)


def _beside(tops: list[str]) -> Recipe | None:
    """The one file whose classes are named and that no installed package brings, if there is."""
    known = {"wsrnn", *sys.stdlib_module_names, *packages_distributions()}
    own = [top for top in tops if top not in known and hasattr(sys.modules.get(top), "__file__")]
    file = Path(sys.modules[own[0]].__file__ or "") if len(own) == 1 else Path()
    if file.suffix == ".py" and file.stem == own[0]:
        return Recipe(file.read_text(), own[0])
    if own:
        log.warning("the run opens only where %s can be imported: install it", ", ".join(own))
    return None


def running(source: str) -> ModuleType | None:
    """The script that is running, if this is its text."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path and Path(path).is_file() and Path(path).read_text() == source:
        return main
    return None


def _is_guarded(source: str) -> bool:
    """Whether the running script has called us from under ``if __name__ == "__main__":``."""
    frame: FrameType | None = sys._getframe()
    space = vars(sys.modules["__main__"])
    while frame and not (frame.f_globals is space and frame.f_code.co_name == "<module>"):
        frame = frame.f_back
    if frame is None:  # another thread, or python -i
        return True
    guards = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
    ]
    return any(node.lineno <= frame.f_lineno <= (node.end_lineno or 0) for node in guards)
