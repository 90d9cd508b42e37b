"""One booking as the rules see it: an interval of time, and who asked for it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Phase(StrEnum):
    """Where a booking stands; the values are what `kubectl get bookings` shows."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True)
class BookingInterval:
    """A valid claim on a resource for the half-open interval `[start_at, end_at)`, in aware UTC.

    `name` is empty for the ad-hoc booking that a Resource carries in its own spec.
    """

    name: str
    user_id: str
    start_at: datetime
    end_at: datetime
    created_at: datetime

    def __post_init__(self) -> None:
        """Refuse what no rule could be right about.

        Raises:
            ValueError: the interval is empty or backwards.
        """
        if not self.start_at < self.end_at:
            raise ValueError(f"start_at {self.start_at} must be before end_at {self.end_at}")

    @property
    def precedence(self) -> tuple[datetime, datetime, str]:
        """Sort key for who holds the lock: earliest start, then earliest creation, then name."""
        return (self.start_at, self.created_at, self.name)

    def power_on_at(self, warm_up: timedelta) -> datetime:
        """When its instances are to be started, so that they run at `start_at`."""
        return self.start_at - warm_up

    def is_active(self, now: datetime, warm_up: timedelta = timedelta(0)) -> bool:
        """Whether it wants its instances running at `now`, warm-up included."""
        return self.power_on_at(warm_up) <= now < self.end_at

    def phase_at(self, now: datetime) -> Phase:
        """Where it stands at `now`. Warm-up is still SCHEDULED: the user's time has not begun."""
        if now < self.start_at:
            return Phase.SCHEDULED
        return Phase.IN_PROGRESS if now < self.end_at else Phase.FINISHED
