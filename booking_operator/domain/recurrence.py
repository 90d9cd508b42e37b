"""When something recurs: five cron fields in a time zone, with days left out.

Times that the clocks skip or repeat are treated as Debian's cron(8) does: a fixed time of day that does not
exist counts as soon as the clocks have moved on, one that exists twice counts the first time only. A schedule
whose minute or hour begins with `*` counts real time instead: a skipped hour has no occurrence, a repeated
one has its own (not so in Lord Howe, where half an hour is repeated, and the schedule fires once in it).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS = 5
_REACH = timedelta(hours=26)
"""Further back than any zone has ever moved its clocks, so that what a skipped time became is not missed."""
_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A schedule that fires. Occurrences are instants in aware UTC, each told once, in order."""

    schedule: str
    zone: ZoneInfo
    except_dates: frozenset[date] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a schedule that says nothing.

        Raises:
            ValueError: it is malformed, or no day of the calendar matches it.
        """
        if len(self.schedule.split()) != _FIELDS:
            raise ValueError(f"{self.schedule!r} must have five fields, like 0 9 * * MON-FRI")
        try:
            CronSim(self.schedule, _ANY_DAY)
        except CronSimError as error:
            text = f"{self.schedule!r} names no time that ever comes: {error}; write it like 0 9 * * MON-FRI"
            raise ValueError(text) from None

    def after(self, instant: datetime) -> Iterator[datetime]:
        """All occurrences later than `instant` (aware), without end."""
        last = instant
        for local in CronSim(self.schedule, (instant - _REACH).astimezone(self.zone)):
            found = local.astimezone(UTC)
            if found > last and local.date() not in self.except_dates:
                last = found
                yield found


def parse_zone(name: str) -> ZoneInfo:
    """The time zone of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        text = f"{name!r} is no time zone; write one of the IANA database, like Europe/Berlin or UTC"
        raise ValueError(text) from None
