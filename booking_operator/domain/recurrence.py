"""The occurrences of cron schedules in a time zone, with excluded dates.

Daylight saving time is treated as in Debian's cron(8). A fixed time of day that the clocks skip occurs at the
end of the skipped time. A fixed time of day that the clocks repeat occurs once, the first time. A schedule
whose minute or hour field begins with `*` follows elapsed time instead: a skipped hour has no occurrence, and
a repeated hour has its occurrences twice.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import count
from zoneinfo import ZoneInfo

from cronsim import CronSim

from booking_operator.domain.cron import Schedule, parse_schedule

_MAX_CLOCK_CHANGE = timedelta(hours=26)
"""More than any time zone has ever moved its clocks. A search that begins this much earlier finds the
occurrence of a skipped time."""
_MAX_EXCLUDED = timedelta(days=12 * 366)
_SECOND = timedelta(seconds=1)
_DAYS = 366
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A cron schedule. Its occurrences are distinct instants in aware UTC, in order.

    Attributes:
        schedule: the schedule, in the dialect of `domain.cron`.
        zone: the time zone of the schedule, unless the schedule names another.
        except_days: the days without occurrences, in the zone.
        anchor: the instant from which `@every` counts (aware UTC).
    """

    schedule: str
    zone: ZoneInfo
    except_days: Container[date] = frozenset()
    anchor: datetime = EPOCH

    def __post_init__(self) -> None:
        """Validate the schedule.

        Raises:
            ValueError: the schedule is malformed, or matches no day of the calendar.
        """
        zone = parse_schedule(self.schedule).zone
        if zone:
            object.__setattr__(self, "zone", parse_zone(zone))

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield all occurrences later than `instant` (aware).

        The iterator is usually endless. It ends if all occurrences of `_MAX_EXCLUDED` are on excluded days: a
        schedule may match nothing but holidays.
        """
        last = found_at = instant.astimezone(UTC)
        schedule = parse_schedule(self.schedule)
        walk = self._walk(schedule, last)
        while (found := next(walk, None)) is not None:
            if found <= last:
                continue
            day = found.astimezone(self.zone).date()
            if day not in self.except_days:
                last = found_at = found
                yield found
                continue
            if found > found_at + _MAX_EXCLUDED:
                return
            # The rest of the day is not searched, because each of hundreds of excluded days may have an
            # occurrence each minute.
            midnight = datetime.combine(day + timedelta(days=1), time.min, self.zone).astimezone(UTC)
            last = max(found, midnight - _SECOND)
            walk = self._walk(schedule, last)

    def _walk(self, schedule: Schedule, instant: datetime) -> Iterator[datetime]:
        """Yield occurrences from about `instant` on."""
        if schedule.every is not None:
            return self._intervals(schedule.every, instant)
        walk = self._wall_clock if schedule.follows_clock else self._real_time
        return walk(schedule.expression, instant)

    def _intervals(self, every: timedelta, instant: datetime) -> Iterator[datetime]:
        number = max(1, (instant - self.anchor) // every)
        return (self.anchor + every * later for later in count(number))

    def _wall_clock(self, expression: str, instant: datetime) -> Iterator[datetime]:
        """Yield occurrences from `instant` on in wall-clock time, as cronsim treats fixed times of day."""
        begin, end = (instant - _MAX_CLOCK_CHANGE).astimezone(self.zone), instant.astimezone(self.zone)
        unchanged = begin.utcoffset() == end.utcoffset()
        for local in CronSim(expression, end if unchanged else begin):
            yield local.astimezone(UTC)

    def _real_time(self, expression: str, instant: datetime) -> Iterator[datetime]:
        """Yield occurrences from `instant` on in elapsed time.

        Between two changes of the clocks, the time zone has a fixed UTC offset.
        """
        while True:
            change = self._next_change(instant)
            offset = timezone(instant.astimezone(self.zone).utcoffset() or timedelta(0))
            # cronsim yields only instants after its argument, and here `instant` itself counts.
            for local in CronSim(expression, (instant - _SECOND).astimezone(offset)):
                if local >= change:
                    break
                yield local.astimezone(UTC)
            else:
                return
            instant = change

    def _next_change(self, instant: datetime) -> datetime:
        """Return the first whole second after `instant` with another UTC offset, or an instant in a year."""
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
    """Return the time zone of a name in the IANA database.

    Raises:
        ValueError: there is no such time zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        text = f"{name!r} is not an IANA time zone; use a value like Europe/Berlin or UTC"
        raise ValueError(text) from None
