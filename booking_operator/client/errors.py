"""The errors of the kubectl plugin. Each has a message, a hint with the fix, and an exit code."""

from enum import IntEnum

from booking_operator.errors import UserError


class ExitCode(IntEnum):
    """The exit codes of the plugin."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    CHANGED = 5
    """The object has changed since it was read."""
    TIMED_OUT = 6
    IMPOSSIBLE = 7
    """What was asked for can never succeed."""
    INTERRUPTED = 130


class CommandError(UserError):
    """A command failed.

    Attributes:
        hint: what to do, as an imperative without a full stop; empty if the message says it.
        code: the exit code.
    """

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        """Create it from its attributes."""
        super().__init__(message)
        self.hint = hint
        self.code = code
