"""The delay of a start or stop that the request limits of AWS make late, and the warm-up that avoids it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from booking_operator.domain.formatting import round_up

TOLERANCE = timedelta(seconds=2)
"""A start or stop that is late by no more than this counts as on time."""
ROUNDING = timedelta(seconds=10)
"""The end of a delay is rounded up to a multiple of this, so that small shifts cause no status write."""
_MINUTE = timedelta(minutes=1)
_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Delay:
    """A start or stop of a group that is late or expected late.

    Attributes:
        is_start: whether it is a start.
        due_at: when it is due (aware UTC). A start is due at `start_at` minus the warm-up.
        complete_at: the expected time of the call for the last instance, rounded up to a multiple of
            `ROUNDING` (aware UTC).
        warm_up: the present warm-up.
        required: the name of the required Resource that is late; empty if the request limits delay the group
            itself.
    """

    is_start: bool
    due_at: datetime
    complete_at: datetime
    warm_up: timedelta = timedelta(0)
    required: str = ""

    @property
    def late_by(self) -> timedelta:
        """The lateness of the last instance."""
        return self.complete_at - self.due_at

    @property
    def suggested_warm_up(self) -> timedelta:
        """The warm-up in whole minutes that would let all instances start in time."""
        return self.warm_up + round_up(self.late_by, _MINUTE)


def late_by_required(sent_at: datetime, warm_up: timedelta, due_at: datetime) -> timedelta:
    """Return how late a required Resource makes a start; zero or less if it does not.

    Args:
        sent_at: when the start of the required Resource is sent (aware UTC).
        warm_up: its warm-up, after which it is ready.
        due_at: when the start that waits for it is due (aware UTC).
    """
    return sent_at + warm_up - due_at


def with_required(
    own: Delay | None, due_at: datetime, warm_up: timedelta, required: Mapping[str, Delay]
) -> Delay | None:
    """Return the delay of a start that waits for required Resources of which at least one is late.

    Args:
        own: the delay without the required Resources.
        due_at: when the start is due (aware UTC).
        warm_up: the present warm-up.
        required: the delays of the starts of required Resources, by name.
    """
    late = {
        name: late_by_required(delay.complete_at, delay.warm_up, due_at) for name, delay in required.items()
    }
    name = max(late, key=lambda name: (late[name], name))
    late_by = late[name]
    if late_by <= TOLERANCE or (own is not None and own.late_by >= late_by):
        return own
    return Delay(True, due_at, due_at + late_by, warm_up, required=name)


def delay_of(
    due_at: datetime, leaves_at: datetime, *, is_start: bool, warm_up: timedelta = timedelta(0)
) -> Delay | None:
    """Return the delay of a start or stop; None when it is on time.

    Args:
        due_at: when it is due (aware UTC).
        leaves_at: when the call for its last instance leaves (aware UTC).
        is_start: whether it is a start.
        warm_up: the present warm-up.
    """
    if leaves_at - due_at <= TOLERANCE:
        return None
    return Delay(is_start, due_at, _ORIGIN + round_up(leaves_at - _ORIGIN, ROUNDING), warm_up)
