"""A booking as the rules use it: a time interval and its user."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class Phase(StrEnum):
    """The phase of a booking. `kubectl get bookings` shows the values."""

    CONFLICT = "CONFLICT"
    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True, order=True)
class TimeSpan:
    """The half-open interval `[start, end)`, in aware UTC."""

    start: datetime
    end: datetime

    def overlaps(self, other: "TimeSpan") -> bool:
        """Whether the two have an instant in common."""
        return self.start < other.end and other.start < self.end

    def within(self, other: "TimeSpan") -> "TimeSpan | None":
        """Return the part that `other` has as well; None if there is none."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return TimeSpan(start, end) if start < end else None

    @property
    def length(self) -> timedelta:
        """The time from start to end."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class BookingInterval:
    """A valid booking of a Resource for the half-open interval `[start_at, end_at)`, in aware UTC.

    Attributes:
        name: the name of the Booking; empty for the ad-hoc booking in the spec of a Resource.
        user_id: the user of the booking.
        start_at: when the instances should run.
        end_at: when the booking ends.
        created_at: when the object was created.
        booked_resource: the Resource that is booked, and that requires this one; empty if this one itself is
            booked.
        lead: how much earlier `start_at` is than that of the booking of the other Resource.
    """

    name: str
    user_id: str
    start_at: datetime
    end_at: datetime
    created_at: datetime
    booked_resource: str = ""
    lead: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        """Validate the interval.

        Raises:
            ValueError: `start_at` is not before `end_at`.
        """
        if not self.start_at < self.end_at:
            raise ValueError(f"start_at {self.start_at} must be before end_at {self.end_at}")

    @property
    def span(self) -> TimeSpan:
        """The time from `start_at` to `end_at`."""
        return TimeSpan(self.start_at, self.end_at)

    @property
    def precedence(self) -> tuple[datetime, datetime, str]:
        """The sort key that selects the holder: earliest start, then earliest creation, then name.

        Like a warm-up, the lead does not count: until then the Resource may belong to another booking.
        """
        return (self.start_at + self.lead, self.created_at, self.name)

    def of_required(self, booked_resource: str, lead: timedelta) -> "BookingInterval":
        """Return the booking of a Resource that the booked one requires.

        Args:
            booked_resource: the name of the booked Resource.
            lead: how much earlier the required Resource must be ready.
        """
        return replace(self, start_at=self.start_at - lead, booked_resource=booked_resource, lead=lead)

    def power_on_at(self, warm_up: timedelta) -> datetime:
        """Return when to start the instances, so that they run at `start_at`."""
        return self.start_at - warm_up

    def is_active(self, now: datetime, warm_up: timedelta = timedelta(0)) -> bool:
        """Whether the booking wants its instances running at `now`, warm-up included."""
        return self.power_on_at(warm_up) <= now < self.end_at

    def phase_at(self, now: datetime) -> Phase:
        """Return the phase at `now`. It is SCHEDULED during the warm-up."""
        if now < self.start_at:
            return Phase.SCHEDULED
        return Phase.IN_PROGRESS if now < self.end_at else Phase.FINISHED
