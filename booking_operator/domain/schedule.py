"""Which bookings of a scheduler are to be made, brought up to date and deleted, decided from scratch."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from booking_operator.domain.naming import sanitize_name
from booking_operator.domain.recurrence import Recurrence

MAX_BOOKINGS_AHEAD = 100
"""Bookings of one scheduler that have not begun: `* * * * *` and a long horizon must not fill the cluster."""


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """What a scheduler wants.

    Attributes:
        name: the scheduler's; names of bookings begin with it.
        recurrence: when bookings start.
        duration: how long each lasts.
        template_hash: distinguishes bookings that are as the rule wants them from those made before an edit.
        horizon: bookings are made this long ahead, and always the next one.
        keep_finished: how many finished bookings stay.
        suspend: no bookings but those that have begun.
    """

    name: str
    recurrence: Recurrence
    duration: timedelta
    template_hash: str
    horizon: timedelta = timedelta(0)
    keep_finished: int = 3
    suspend: bool = False


@dataclass(frozen=True, slots=True)
class CreatedBooking:
    """A booking that the scheduler made: as it stands now, users may have edited it since."""

    name: str
    start_at: datetime
    end_at: datetime
    template_hash: str


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """What is to be done, and when to look again.

    Attributes:
        create: names of bookings to make, with their start, in the order of that.
        update: bookings that have not begun and date from before an edit, with their start.
        delete: names of bookings to delete.
        next_start: when the next booking starts; None while suspended.
        next_at: the next instant at which anything here changes; later than now, or None.
        complete_until: start of the last booking that is there once all of this is done.
    """

    create: dict[str, datetime]
    update: dict[str, datetime]
    delete: tuple[str, ...]
    next_start: datetime | None
    next_at: datetime | None
    complete_until: datetime

    def scheduled_until(self, missing: datetime | None) -> datetime:
        """Up to when each start has a booking, where `missing` is the first that could not be made."""
        return (
            self.complete_until
            if missing is None
            else min(self.complete_until, missing - timedelta(seconds=1))
        )


def plan_bookings(
    rule: ScheduleRule, made: Collection[CreatedBooking], now: datetime, since: datetime
) -> SchedulePlan:
    """What `rule` asks for at `now` (aware UTC), given the bookings it has `made`.

    An occurrence that has begun counts only where it is later than `since`: a booking of an earlier one was
    made, and if it is missing somebody has deleted it. One that has ended is not made up for.
    """
    begun, ahead, beyond = _occurrences(rule, now, since)
    wanted = {booking_name(rule.name, start): start for start in (*begun, *ahead)}
    known = {booking.name: booking for booking in made}
    pending = [booking for booking in made if booking.start_at > now]
    outdated = {booking.name for booking in pending if booking.template_hash != rule.template_hash}
    stale = [
        booking.name
        for booking in pending
        if booking.name not in wanted and not _moved_by_user(rule, booking)
    ]
    following = beyond - rule.horizon if beyond else None
    instants = [*ahead, *(instant for item in made for instant in (item.start_at, item.end_at)), following]
    return SchedulePlan(
        create={name: start for name, start in wanted.items() if name not in known},
        update={name: start for name, start in wanted.items() if name in outdated},
        # One that is over before its time, by an edit, stays: it would be made again.
        delete=(
            *stale,
            *_surplus([item for item in made if item.name not in wanted], now, rule.keep_finished),
        ),
        next_start=min(ahead, default=None),
        next_at=min((instant for instant in instants if instant and instant > now), default=None),
        complete_until=max((since, *wanted.values())),
    )


def _moved_by_user(rule: ScheduleRule, booking: CreatedBooking) -> bool:
    """Whether a user has put it off, maybe beyond its occurrence: it is theirs, unless all is suspended."""
    start = booking.start_at
    within = start.replace(second=0, microsecond=0) != start  # occurrences are on whole minutes
    return not rule.suspend and (within or booking.name != booking_name(rule.name, start))


def booking_name(scheduler: str, start: datetime) -> str:
    """The name of the booking of `scheduler` that starts at `start`, always the same."""
    return sanitize_name(f"{scheduler}-{start:%Y%m%d%H%M}")


def _occurrences(
    rule: ScheduleRule, now: datetime, since: datetime
) -> tuple[list[datetime], list[datetime], datetime | None]:
    """Those in progress, those to be made ahead, and the first one that is not."""
    if rule.suspend:
        return [], [], None
    earliest = max(since, now - rule.duration)
    begun = list(takewhile(lambda start: start <= now, rule.recurrence.after(earliest)))
    ahead: list[datetime] = []
    for start in rule.recurrence.after(now):
        if ahead and (start > now + rule.horizon or len(ahead) == MAX_BOOKINGS_AHEAD):
            return begun, ahead, start
        ahead.append(start)
    return begun, ahead, None


def _surplus(made: Iterable[CreatedBooking], now: datetime, keep: int) -> list[str]:
    finished = sorted(
        (booking for booking in made if booking.end_at <= now),
        key=lambda booking: (booking.end_at, booking.name),
    )
    return [booking.name for booking in finished[: max(0, len(finished) - keep)]]
