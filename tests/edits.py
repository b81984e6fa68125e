"""Edits of a run's files, as a hand or a disk makes them."""

import functools


def at(path, value):
    """A change of the tree of a config: at a dotted path, a value."""

    def change(content):
        *most, last = path.split(".")
        part = functools.reduce(lambda part, key: part[key], most, content)
        part[last] = value

    return change
