"""The command line of an experiment, by tyro: options of a command, fields, classes by name.

``--any.field value ...`` sets a field, ``any.field:class`` puts another class there with its fields
at their defaults, in any order. Ours is what tyro leaves open: class words are moved to the front,
outer ones first, for tyro reads a field before its class as a field of the class before; and a word
that nothing takes is answered with what was probably meant.
"""

import contextlib
import dataclasses
import inspect
import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

import tyro

from wsrnn.checks import hints, nearest
from wsrnn.choices import choice_of, name_of, own_classes
from wsrnn.errors import UserError

T = TypeVar("T")

CLASS_WORD = re.compile(r"[a-z][\w-]*(\.[\w-]+)*:[\w-]+")
VALUES = tyro.conf.FlagConversionOff  # every field takes a value, booleans too
ANYWHERE = tyro.conf.CascadeSubcommandArgs  # fields may follow the class words of other fields
OF_OPTIONS = (tyro.conf.FlagCreatePairsOff,)


def is_class_word(word: str, heads: Iterable[str]) -> bool:
    """Whether a word is ``field:class``, for a field below one of `heads`."""
    return bool(CLASS_WORD.fullmatch(word)) and re.split("[.:]", word)[0] in heads


def classes_first(words: Sequence[str], heads: Iterable[str]) -> list[str]:
    """The words with all ``field:class`` moved to the front, the outer fields before the inner."""
    classes = [word.replace("_", "-") for word in words if is_class_word(word, heads)]
    classes = sorted(classes, key=lambda word: word.partition(":")[0].count("."))
    return classes + [word for word in words if not is_class_word(word, heads)]


def parse_options(kind: type[T], words: Sequence[str]) -> tuple[T, list[str]]:
    """A command's own options, and the words that are none of them."""
    with _one_line_errors():
        return tyro.cli(kind, args=list(words), return_unknown_args=True, config=OF_OPTIONS)


def apply_flags(experiment: T, words: Sequence[str], own: Sequence[type] = ()) -> T:
    """Return the experiment changed by flags; UserError names a word that is wrong, and the cure.

    `own` are classes of the experiment file, which may be named beside the package's.
    """
    if not words:
        return experiment
    kind = type(experiment)
    words = classes_first(words, names(kind))
    with own_classes((*own, *_classes(experiment))):
        with _one_line_errors():
            changed, unknown = tyro.cli(
                kind,
                default=experiment,
                args=words,
                return_unknown_args=True,
                config=(VALUES, ANYWHERE),
            )
        if unknown and words.count(unknown[0]) > 1:
            raise UserError(f"{unknown[0]} is given twice: give it once")
        if unknown:
            raise UserError(explain(unknown[0], changed, value=" ".join(unknown[1:2])))
    return changed


def help_text(options: type, experiment: Any, words: Sequence[str], own: Sequence[type]) -> str:
    """The options of a command, the fields of an experiment, the classes that its parts may have.

    With the classes among the words in their places.
    """
    kind = type(experiment)
    classes = [word for word in words if is_class_word(word, names(kind))]
    experiment = apply_flags(experiment, classes, own)
    both = dataclasses.make_dataclass(
        "Both",
        [
            ("options", Annotated[(options, tyro.conf.arg(name=""), *OF_OPTIONS)]),
            ("experiment", Annotated[(kind, tyro.conf.arg(name=""), VALUES)]),
        ],
    )
    output, default = io.StringIO(), both(options(), experiment)
    with own_classes((*own, *_classes(experiment))):
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            tyro.cli(both, default=default, args=["--help"], config=(ANYWHERE,))
        choices = _choices(experiment)
    lines = output.getvalue().rstrip().splitlines()
    titles = [line.strip(" ╭─╮") for line in lines]
    # Without tyro's usage, and with the classes of inner parts, which tyro does not list.
    lines = lines[titles.index("options") : titles.index("subcommands")]
    lines += ["Classes, those in place marked with *:"]
    for path, named in choices.items():
        now = type(_at(experiment, path))
        lines.append("")
        for name, kind in named.items():
            lines.append(f" {'*' if kind is now else ' '} {f'{path}:{name}':34} {_summary(kind)}")
    return "\n".join(line.rstrip() for line in lines)


def options_text(options: type) -> str:
    """The options of a command that takes no experiment."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        tyro.cli(options, args=["--help"], config=OF_OPTIONS)
    lines = output.getvalue().rstrip().splitlines()
    titles = [line.strip(" ╭─╮") for line in lines]
    return "\n".join(line.rstrip() for line in lines[titles.index("options") :])


def _summary(kind: type) -> str:
    """The first sentence of a class's docstring, cut to a line."""
    text = "" if kind is type(None) else inspect.getdoc(kind) or ""
    return textwrap.shorten(text.partition("\n\n")[0], 62, placeholder=" ...")


def explain(word: str, experiment: Any, options: Sequence[str] = (), value: str = "") -> str:
    """What is wrong with a word that nothing takes, and the cure.

    `options` are the command's, `value` is the word after it.
    """
    choices = _choices(experiment)
    if CLASS_WORD.fullmatch(word.lstrip("-")):
        named, known = word.lstrip("-").replace("_", "-"), class_words(experiment)
        if named not in known:
            return f"unknown class {word}{nearest(named, known)}"
        if word.startswith("-"):
            return f"classes are named without dashes: {named}"
        return f"{word} is one class too many for its field: leave out this or the other"
    if not word.startswith("-"):
        return f"unexpected argument {word} (positional arguments stand first; see --help)"
    name, _, same = word.replace("_", "-").partition("=")
    if classes := choices.get(name.removeprefix("--")):
        at, value = name.removeprefix("--"), same or value.replace("_", "-")
        if value in classes:
            return f"classes are named without dashes: {at}:{value}"
        return f"{name} takes no value: name its class, {at}:CLASS, one of {', '.join(classes)}"
    valid = list(_flags(experiment))
    if within := [field for field in valid if field.startswith(name + ".")]:
        return f"{word} holds several fields: name one of them, such as {within[0]}"
    place, _, field = name.removeprefix("--").rpartition(".")
    if place and (deeper := [f for f in valid if re.fullmatch(rf"--{place}\..*\.{field}", f)]):
        return f"unknown flag {word}: did you mean {' or '.join(deeper)}?"
    others = [
        f"{place}:{other}"
        for other, kind in choices.get(place, {}).items()
        if dataclasses.is_dataclass(kind) and field.replace("-", "_") in names(kind)
    ]
    if others:
        now = _at(experiment, place)
        named = "none" if now is None else name_of(type(now))
        return f"{place}:{named} has no {field}: name a class that has it, {' or '.join(others)}"
    return f"unknown flag {word}{nearest(name, [*options, *valid])}"


def class_words(experiment: Any) -> list[str]:
    """Every ``field:class`` that the experiment can be given."""
    return [f"{at}:{name}" for at, named in _choices(experiment).items() for name in named]


def names(kind: type) -> list[str]:
    """The fields of a dataclass."""
    return [field.name for field in dataclasses.fields(kind)]


def head(flag: str) -> str:
    """The first part of ``--first.second=value``, as Python writes it."""
    return re.split(r"[.=]", flag.removeprefix("--"))[0].replace("-", "_")


def own_names(options: type) -> list[str]:
    """The flags of a command's own options."""
    return ["--" + f.name.replace("_", "-") for f in dataclasses.fields(options)]


def _parts(value: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, annotation, value) of every field of a tree of dataclasses."""
    kind: type = type(value)
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        path = f"{name}.{field.name}" if name else field.name
        yield path.replace("_", "-"), hints(kind).get(field.name), part
        if dataclasses.is_dataclass(part):
            yield from _parts(part, path)


def _classes(experiment: Any) -> list[type]:
    parts = [part for _, _, part in _parts(experiment) if dataclasses.is_dataclass(part)]
    return list(dict.fromkeys(type(part) for part in parts))


def _flags(experiment: Any) -> Iterator[str]:
    for path, hint, part in _parts(experiment):
        if not (dataclasses.is_dataclass(part) or choice_of(hint)):
            yield f"--{path}"


def _choices(experiment: Any) -> dict[str, dict[str, type]]:
    """The classes that each field may be given as."""
    found = {}
    for path, hint, _ in _parts(experiment):
        if choice := choice_of(hint):
            optional = {"none": type(None)} if _takes_none(hint) else {}
            found[path] = choice.named() | optional
    return found


def _takes_none(hint: Any) -> bool:
    return type(None) in getattr(hint, "__args__", ())


def _at(experiment: Any, path: str) -> Any:
    for name in path.replace("-", "_").split("."):
        experiment = getattr(experiment, name)
    return experiment


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what tyro prints before it exits into one UserError."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            yield
    except SystemExit:
        raise UserError(_without_box(errors.getvalue())) from None


def _without_box(text: str) -> str:
    """The message in the box that tyro draws around it, in any encoding."""
    if field := re.search(r"Unsupported type annotation for field (\S+)", text):
        return f"{field[1]} has no default and no flag: set it in the experiment file"
    lines = text.strip("\n").splitlines()[1:]  # without the title
    parts = re.split("[─-]{9,}", " ".join(line.strip("│| ╭╮╰╯") for line in lines))
    message = next(part.strip() for part in (*parts, text) if part.strip())
    if found := re.search(r"no type matching (.+?) could .* from (\[.*?\])\. .*", message):
        several = "..." in found[1] and re.search("[^'],", found[2])  # a comma within a word
        cure = ": separate values by spaces" if several else ""
        message = f"{message[: found.start()]}{found[2]} is no {found[1]}{cure}"
    return re.sub(r"^Error parsing (?:(-\S+: )|\S+: )", r"\1", message)
