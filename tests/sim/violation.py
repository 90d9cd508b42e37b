"""What must hold, by name, and that it does not."""

from enum import StrEnum


class Invariant(StrEnum):
    """Each has a bug in `mutations` that breaks it, and its meaning in docs/reliability.md."""

    ONE_AT_A_TIME = "one at a time"
    ONE_WRITER = "one writer"
    NO_STOP = "no stop while booked"
    NO_RELEASE = "no release while booked"
    NO_START = "no start unless booked"
    BUDGETS = "AWS budgets"
    BOUNDED_ERRORS = "bounded errors"
    NO_SURPRISE = "no surprise"
    TRUE_STATUS = "status is true"
    CONVERGENCE = "convergence"
    NO_LEAK = "no leak"


class ViolationError(AssertionError):
    """Something does not hold.

    Attributes:
        invariant: name of what does not.
    """

    def __init__(self, invariant: Invariant, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant
