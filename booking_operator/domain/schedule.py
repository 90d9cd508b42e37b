"""Decides which Bookings of a scheduler to create, update and delete.

Each decision depends only on its inputs, not on earlier decisions.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from booking_operator.domain.naming import sanitize_name
from booking_operator.domain.recurrence import Recurrence

MAX_BOOKINGS_AHEAD = 100
"""The maximum number of future bookings of one scheduler, for schedules such as `* * * * *`."""
MAX_BOOKINGS_BEGUN = 100
"""The maximum number of bookings in progress to create at once: the latest ones, which end last. A schedule
such as `* * * * *` with a duration of a year has 525,600 of them."""
MAX_LENGTH = timedelta(days=366)
"""The maximum length of a booking whose end comes from a schedule."""
_FIRST_WINDOW = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """The spec of a scheduler, as far as the decision depends on it.

    Attributes:
        name: the name of the scheduler. The names of its bookings begin with it.
        recurrence: when bookings start.
        duration: the duration of each booking in elapsed time; None if `ends` says when it ends.
        template_hash: a hash of the booking template. Bookings with another hash are from before an edit.
        horizon: how far ahead bookings are created. The next booking is always created.
        keep_finished: the number of finished bookings to keep.
        suspend: whether to create no bookings and to delete those that have not begun.
        ends: when bookings end: each at the first of these instants after its start.
    """

    name: str
    recurrence: Recurrence
    duration: timedelta | None
    template_hash: str
    horizon: timedelta = timedelta(0)
    keep_finished: int = 3
    suspend: bool = False
    ends: Recurrence | None = None

    def end_of(self, start: datetime) -> datetime:
        """Return the end of the booking that starts at `start` (both aware UTC)."""
        if self.duration is not None:
            return start + self.duration
        ends = self.ends.after(start) if self.ends else iter(())
        return min(next(ends, start + MAX_LENGTH), start + MAX_LENGTH)

    def may_have_begun_after(self, since: datetime, now: datetime) -> datetime:
        """Return the instant after which all occurrences begin that are in progress at `now`.

        It is not before `since` (all aware UTC).
        """
        if self.duration is not None or self.ends is None:
            return max(since, now - (self.duration or MAX_LENGTH))
        since = max(since, now - MAX_LENGTH)
        # A booking that starts at the end of another one does not end with it.
        return max([since, *(end - _SECOND for end in _latest(self.ends, since, now, 1))])


@dataclass(frozen=True, slots=True)
class CreatedBooking:
    """A booking that the scheduler created, in its present state. Users may have edited it."""

    name: str
    start_at: datetime
    end_at: datetime
    template_hash: str


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """The result of a decision.

    Attributes:
        create: the bookings to create: their start (aware UTC) by name, in order of the start.
        update: the bookings to update: their start (aware UTC) by name. They have not begun and are from
            before an edit of the scheduler.
        delete: the names of the bookings to delete.
        next_start: when the next booking starts (aware UTC); None while suspended.
        next_at: when to decide again (aware UTC); None for never.
        complete_until: the start of the last booking once the plan is carried out (aware UTC).
    """

    create: dict[str, datetime]
    update: dict[str, datetime]
    delete: tuple[str, ...]
    next_start: datetime | None
    next_at: datetime | None
    complete_until: datetime

    def scheduled_until(self, missing: datetime | None) -> datetime:
        """Return the instant (aware UTC) up to which every occurrence has a booking.

        `missing` is the start of the first booking that could not be created; None if all were created.
        """
        return (
            self.complete_until
            if missing is None
            else min(self.complete_until, missing - timedelta(seconds=1))
        )


def plan_bookings(
    rule: ScheduleRule, made: Collection[CreatedBooking], now: datetime, since: datetime
) -> SchedulePlan:
    """Decide what `rule` needs at `now` (aware UTC).

    An occurrence in progress gets a booking only if it starts after `since`. A missing booking of an earlier
    occurrence was deleted by a user. An occurrence that has ended gets no booking.

    Args:
        rule: the spec of the scheduler.
        made: the existing bookings of the scheduler.
        now: the instant.
        since: the instant up to which all bookings were created (aware UTC).
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
        # A booking that an edit has ended early stays until its occurrence ends. Otherwise it would be
        # created again.
        delete=(
            *stale,
            *_surplus([item for item in made if item.name not in wanted], now, rule.keep_finished),
        ),
        next_start=min(ahead, default=None),
        next_at=min((instant for instant in instants if instant and instant > now), default=None),
        complete_until=max((since, *wanted.values())),
    )


def _moved_by_user(rule: ScheduleRule, booking: CreatedBooking) -> bool:
    """Whether a user has moved the start of a booking. Such a booking stays, except during a suspension."""
    start = booking.start_at
    within = bool(start.microsecond)  # occurrences are at whole seconds
    return not rule.suspend and (within or booking.name != booking_name(rule.name, start))


def booking_name(scheduler: str, start: datetime) -> str:
    """Return the name of the booking of `scheduler` for the occurrence at `start` (aware UTC).

    Only `@every` has occurrences that are not at whole minutes.
    """
    seconds = f"{start:%S}" if start.second else ""
    return sanitize_name(f"{scheduler}-{start:%Y%m%d%H%M}{seconds}")


def _occurrences(
    rule: ScheduleRule, now: datetime, since: datetime
) -> tuple[list[datetime], list[datetime], datetime | None]:
    """Return the occurrences in progress, the ones to create ahead, and the first one after these."""
    if rule.suspend:
        return [], [], None
    begun = _latest(rule.recurrence, rule.may_have_begun_after(since, now), now, MAX_BOOKINGS_BEGUN)
    ahead: list[datetime] = []
    for start in rule.recurrence.after(now):
        if ahead and (start > now + rule.horizon or len(ahead) == MAX_BOOKINGS_AHEAD):
            return begun, ahead, start
        ahead.append(start)
    return begun, ahead, None


def _latest(recurrence: Recurrence, earliest: datetime, now: datetime, most: int) -> list[datetime]:
    """Return the latest occurrences after `earliest` and until `now`, at most `most` of them.

    It searches in windows of growing length before `now`, so that its cost does not depend on `earliest`.
    """
    window = _FIRST_WINDOW
    while True:
        since = max(earliest, now - window)
        found = list(takewhile(lambda start: start <= now, recurrence.after(since)))
        if since == earliest or len(found) >= most:
            return found[-most:]
        window *= 8


def _surplus(made: Iterable[CreatedBooking], now: datetime, keep: int) -> list[str]:
    finished = sorted(
        (booking for booking in made if booking.end_at <= now),
        key=lambda booking: (booking.end_at, booking.name),
    )
    return [booking.name for booking in finished[: max(0, len(finished) - keep)]]
