"""When something recurs: five cron fields in a time zone, with days left out.

Times that the clocks skip or repeat are treated as Debian's cron(8) does: a fixed time of day that does not
exist counts as soon as the clocks have moved on, one that exists twice counts the first time only. A schedule
whose minute or hour begins with `*` counts real time instead: a skipped hour has no occurrence, a repeated
one has its own.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_FIELDS = 5
_MAX_CLOCK_CHANGE = timedelta(hours=26)
"""Further back than any zone has ever moved its clocks, so that what a skipped time became is not missed."""
_SECOND = timedelta(seconds=1)
_DAYS = 366
_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A schedule that fires. Occurrences are instants in aware UTC, each once, in order."""

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
        last: datetime | None = instant.astimezone(UTC)
        minute, hour, *_ = self.schedule.split()
        walk = self._real_time if "*" in (minute[0], hour[0]) else self._wall_clock
        while last is not None:
            last = yield from self._until_excluded_day(last, walk(last))

    def _until_excluded_day(
        self, last: datetime, walk: Iterator[datetime]
    ) -> Generator[datetime, None, datetime | None]:
        """Those of `walk` later than `last`, until a day that is left out; returns what to go on after.

        Such a day is passed over whole: it may have an occurrence each minute, and there may be hundreds.
        """
        for found in walk:
            if found <= last:
                continue
            day = found.astimezone(self.zone).date()
            if day in self.except_dates:
                midnight = datetime.combine(day + timedelta(days=1), time.min, self.zone).astimezone(UTC)
                return max(found, midnight - _SECOND)
            last = found
            yield found
        return None

    def _wall_clock(self, instant: datetime) -> Iterator[datetime]:
        """By the clock on the wall, which is what cronsim does with fixed times of day."""
        begin, end = (instant - _MAX_CLOCK_CHANGE).astimezone(self.zone), instant.astimezone(self.zone)
        unchanged = begin.utcoffset() == end.utcoffset()
        for local in CronSim(self.schedule, end if unchanged else begin):
            yield local.astimezone(UTC)

    def _real_time(self, instant: datetime) -> Iterator[datetime]:
        """From one change of the clocks to the next: between them a zone is a mere offset."""
        while True:
            change = self._next_change(instant)
            offset = timezone(instant.astimezone(self.zone).utcoffset() or timedelta(0))
            # cronsim returns what is later than the instant it is given, and the instant itself counts here.
            for local in CronSim(self.schedule, (instant - _SECOND).astimezone(offset)):
                if local >= change:
                    break
                yield local.astimezone(UTC)
            else:
                return
            instant = change

    def _next_change(self, instant: datetime) -> datetime:
        """The first whole second after `instant` with another offset, or one that is a year away."""
        offset = instant.astimezone(self.zone).utcoffset()
        early = late = instant.replace(microsecond=0)
        for _ in range(_DAYS):
            early, late = late, late + timedelta(days=1)
            if late.astimezone(self.zone).utcoffset() != offset:
                break
        else:
            return late
        while late - early > _SECOND:
            middle = early + timedelta(seconds=(late - early) // _SECOND // 2)
            same = middle.astimezone(self.zone).utcoffset() == offset
            early, late = (middle, late) if same else (early, middle)
        return late


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
