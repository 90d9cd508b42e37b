"""Starts and stops that come late because the cloud limits how many may be made: how late, and what helps."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.domain.formatting import round_up

TOLERANCE = timedelta(seconds=2)
"""What is late by less is not worth a word."""
ROUNDING = timedelta(seconds=10)
"""To which the end of a delay is rounded up: a forecast that shifts by less is the same to a user."""
_MINUTE = timedelta(minutes=1)
_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Delay:
    """One start or stop of a group that is late, or will be.

    Attributes:
        is_start: whether it is a start.
        due_at: when it was to be (aware UTC); for a start that is `start_at` less the warm-up.
        complete_at: when the last instance will have been started or stopped, rounded up to `STEP`.
        warm_up: how long before `start_at` the start is made as things are.
    """

    is_start: bool
    due_at: datetime
    complete_at: datetime
    warm_up: timedelta = timedelta(0)

    @property
    def late_by(self) -> timedelta:
        """How late the last instance is."""
        return self.complete_at - self.due_at

    @property
    def suggested_warm_up(self) -> timedelta:
        """The warm-up that would have all instances started as early as they should be: in whole minutes."""
        return self.warm_up + round_up(self.late_by, _MINUTE)


def delay_of(
    due_at: datetime, leaves_at: datetime, *, is_start: bool, warm_up: timedelta = timedelta(0)
) -> Delay | None:
    """The delay of what was to be at `at` and leaves at `leaves_at`; None where it is on time."""
    if leaves_at - due_at <= TOLERANCE:
        return None
    return Delay(is_start, due_at, _ORIGIN + round_up(leaves_at - _ORIGIN, ROUNDING), warm_up)
