"""A tree of dataclasses as JSON, and back.

A dataclass becomes ``{"class": "module:QualName", field: value, ...}``; what JSON has no type for
becomes an object of one key: ``{"path": ...}``, ``{"dict": [[key, value], ...]}``,
``{"function": "module:qualname"}``, ``{"partial": [function, arguments, named]}``,
``{"float": "inf"}``. A JSON list is a tuple, ``{"list": [...]}`` a list.

What a tree may name, for it may come from a stranger: dataclasses, which are called with their
fields, and functions, which are not called here. They must be found under the very name of their
module, of wsrnn or of another package that is imported already or installed; never in Python's
standard library and never in the current folder, where a stranger's file could lie. Anything else
needs the code that a run keeps, which is a program: see `run.rebuild`.
"""

import dataclasses
import functools
import importlib
import math
import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from wsrnn.errors import UserError


class UnknownField(UserError):
    """A field that its class does not have, or has no more."""


def to_tree(value: Any, name: str = "experiment") -> Any:
    """Return a value as JSON; UserError names the field that cannot be recorded, and the cure."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return {"class": address(type(value), name)} | {
            field: to_tree(getattr(value, field), f"{name}.{field}") for field in fields
        }
    if isinstance(value, tuple | list):
        items = [to_tree(item, f"{name}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, tuple) else {"list": items}
    if isinstance(value, dict):
        pairs = [(to_tree(k, name), to_tree(v, f"{name}[{k!r}]")) for k, v in value.items()]
        return {"dict": [list(pair) for pair in pairs]}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, functools.partial):
        parts = value.func, value.args, dict(value.keywords)
        return {"partial": [to_tree(part, name) for part in parts]}
    if callable(value) and getattr(value, "__name__", None):
        return {"function": address(value, name)}
    raise UserError(
        f"{name} is a {type(value).__name__}, which a run cannot record: use a frozen dataclass, "
        "a number, a word, a path, a tuple of these or a function"
    )


def address(value: Any, name: str) -> str:
    """Return the "module:qualname" under which a class or function is found again."""
    module = value.__module__
    qualname = getattr(value, "__qualname__", None) or value.__name__
    if "<" in qualname:
        what = "a lambda" if "<lambda>" in qualname else "defined inside a function"
        raise UserError(
            f"{name} is {qualname}, {what}, which a run cannot record: define it at the top of a "
            "file, under a name"
        )
    if any(part.startswith("_") for part in module.split(".")) and module != "__main__":
        top = module.partition(".")[0]
        public = [
            other
            for other, found in list(sys.modules.items())
            if other.partition(".")[0] == top and "._" not in other
            and vars(found).get(qualname) is value
        ]  # fmt: skip
        module = min(public, key=lambda other: (other.count("."), other), default=module)
    try:
        found = functools.reduce(getattr, qualname.split("."), sys.modules[module])
    except (AttributeError, KeyError):
        found = None
    if found is not value:
        raise UserError(
            f"{name}: {module} has no {qualname} that a run could find again: define it at the top "
            "of a file, under the name that it is used by"
        )
    return f"{module}:{qualname}"


def from_tree(tree: Any, module_of: Callable[[str], types.ModuleType], name="experiment") -> Any:
    """Return the value of a tree; its classes are looked up in ``module_of(module's name)``.

    Raises UserError where the tree is not what `to_tree` writes.
    """

    def build(part: Any, place: str) -> Any:
        return from_tree(part, module_of, place)

    if isinstance(tree, list):
        return tuple(build(item, f"{name}[{i}]") for i, item in enumerate(tree))
    if not isinstance(tree, dict):
        return tree
    if "class" in tree:
        kind = lookup(tree["class"], module_of, name)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise UserError(f"{name}: {tree['class']} is no dataclass")
        known = {f.name for f in dataclasses.fields(kind) if f.init}
        values = {
            field: build(part, f"{name}.{field}")
            for field, part in tree.items()
            if field != "class"
        }
        if unknown := values.keys() - known:
            raise UnknownField(f"{name}: {kind.__name__} has no field {', '.join(sorted(unknown))}")
        try:
            return kind(**values)
        except UserError:
            raise
        except Exception as error:  # of a hand-edited value, whatever the class makes of it
            raise UserError(f"{name}: {error}") from None
    items: list[tuple[str, Any]] = list(tree.items()) or [("nothing", None)]
    (key, value), *more = items
    try:
        if not more and key == "function":
            return lookup(value, module_of, name)
        if not more and key == "list":
            return [build(item, name) for item in value]
        if not more and key == "dict":
            return {build(k, name): build(v, f"{name}[{k!r}]") for k, v in value}
        if not more and key == "path":
            return Path(value)
        if not more and key == "float":
            return float(value)
        if not more and key == "partial":
            function, arguments, named = (build(part, name) for part in value)
            return functools.partial(function, *arguments, **named)
    except (TypeError, ValueError):
        raise UserError(f"{name}: {key} {value!r} is damaged") from None
    raise UserError(f"{name}: an object with the keys {', '.join(tree)} is no value")


def lookup(path: Any, module_of: Callable[[str], types.ModuleType], name: str) -> Any:
    """The class or function "module:qualname", found in no other package than the one it names."""
    module_name, _, qualname = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not (module_name and qualname):
        raise UserError(f"{name}: {path!r} is no module:name")
    module = module_of(module_name)
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if found is None or isinstance(found, types.ModuleType):
            raise UserError(f"{name}: {module_name} has no class or function {qualname}")
    here = getattr(found, "__module__", None) or ""
    if not callable(found) or here.partition(".")[0] != module.__name__.partition(".")[0]:
        raise UserError(f"{name}: {qualname} is no class or function of {module_name}")
    return found


def is_installed(module: str) -> bool:
    """Whether a module may be imported for a tree: see the head of this file."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "__main__":
        return False
    if top in sys.modules:
        return True
    here = Path.cwd()
    folders = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    return PathFinder.find_spec(top, folders) is not None


def import_module(module: str) -> types.ModuleType:
    """Import a module that `is_installed`; UserError where it has gone or fails."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise UserError(f"cannot import {module}: {type(error).__name__}: {error}") from None


def modules(tree: Any) -> Iterator[str]:
    """The modules whose classes and functions a tree names."""
    if isinstance(tree, list):
        for item in tree:
            yield from modules(item)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("class", "function") and isinstance(value, str):
                yield value.partition(":")[0]
            else:
                yield from modules(value)


def flatten(value: Any) -> dict[str, Any]:
    """Return {dotted field: plain value}, with the class of each nested dataclass by its name."""
    return flatten_tree(to_tree(value))


def flatten_tree(tree: Any, name: str = "") -> dict[str, Any]:
    """As `flatten`, of what `to_tree` returns."""
    if not (isinstance(tree, dict) and "class" in tree):
        return {name: _plain(tree)}
    flat = {name: str(tree["class"]).partition(":")[2]} if name else {}
    for field, value in tree.items():
        if field != "class":
            flat |= flatten_tree(value, f"{name}.{field}" if name else field)
    return flat


def _plain(tree: Any) -> Any:
    """A value for a reader: paths, functions and the like as their text."""
    if isinstance(tree, list):
        return [_plain(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "class" in tree:
        fields = ", ".join(f"{k}={_plain(v)}" for k, v in tree.items() if k != "class")
        return f"{str(tree['class']).partition(':')[2]}({fields})"
    (value,) = tree.values()
    return [_plain(item) for item in value] if isinstance(value, list) else str(value)
