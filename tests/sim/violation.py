"""The names of the invariants, and the error for a failed check."""

from enum import StrEnum


class Invariant(StrEnum):
    """The invariants. docs/reliability.md explains each, and at least one mutation breaks each."""

    ONE_AT_A_TIME = "one at a time"
    ONE_WRITER = "one writer"
    NO_STOP = "no stop while booked"
    NO_RELEASE = "no release while booked"
    NO_START = "no start unless booked"
    BUDGETS = "AWS budgets"
    BOUNDED_ERRORS = "bounded errors"
    NO_SURPRISE = "no surprise"
    TRUE_STATUS = "status is true"
    EXACT_USAGE = "usage is exact"
    SIZE_KEPT = "sizes are kept"
    OFF_TIMES = "off times are kept"
    ORDER = "starts and stops are in order"
    NO_OVERLAP = "accepted never overlaps"
    KEPT = "accepted stays accepted"
    LIMITS = "limits are kept"
    NOTIFIED = "notifications arrive"
    CONVERGENCE = "convergence"
    NO_LEAK = "no leak"


class ViolationError(AssertionError):
    """An invariant does not hold.

    Attributes:
        invariant: the invariant.
    """

    def __init__(self, invariant: Invariant, message: str) -> None:
        super().__init__(f"{invariant}: {message}")
        self.invariant = invariant
