"""The exceptions that the command line prints as one line: what is wrong, where, and the cure."""


class UserError(ValueError):
    """A mistake in a command, a config or a file: one line that says what, where, and the cure."""


class RunError(RuntimeError):
    """A run that cannot go on through no mistake in the command: one line, exit code 1."""
