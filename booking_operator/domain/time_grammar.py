"""Parses the times that people type, such as `17:00`, `wed 9:00`, `+4h` and `2026-11-27 17:00`.

The grammar, in which words may have any case:

    WHEN = now | +SPAN | DATE[T| ]TIME[OFFSET] | DAY TIME | TIME
    DAY  = today | tomorrow | mon … sun
    DATE = 2026-11-27                  OFFSET = Z | +01:00
    TIME = 17:00 | 5pm | noon | midnight
    SPAN = 90m | 1h30m | 2d | 1w

Months for a report are not part of it: see `parse_month`.

The parser never guesses. It refuses a text with more than one reading, such as a local time that the clocks
skip or repeat. Each refusal has hints, and the parser accepts each hint. `render` returns the text of an
instant, so that `parse_when(render(instant))` is the instant again.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAYS = {name: number for names in (_DAYS, _FULL_DAYS) for number, name in enumerate(names)}
_RELATIVE_DAYS = {"today": 0, "tomorrow": 1}
_WORDS = {"noon": time(12), "midnight": time(0)}
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(2999, 12, 30, tzinfo=UTC)
"""The API accepts the years 1970 to 2999. One day less leaves room for the UTC offset."""

_MONTH = re.compile("(19[7-9][0-9]|2[0-9]{3})-(0[1-9]|1[0-2])", re.ASCII)
_SPAN = re.compile(r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", re.ASCII)
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})[t ](.+)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?", re.ASCII)
_TWELVE_HOURS = re.compile(r"(\d{1,2})(?::(\d{2}))? ?(am|pm)", re.ASCII)
_OFFSET = re.compile(r"(.+?)(z|[+-]\d{2}:\d{2})", re.ASCII)
_NOON_HOUR = 12
_FRIDAY = 4
_MAX_HINTS = 4


class TimeError(ValueError):
    """A text is not a time or not a duration, or it has more than one reading.

    Attributes:
        hints: texts that are accepted in its place, at least one.
        clocks_change: whether the text is a local time that the clocks skip or repeat. The same text may be
            accepted at another time.
    """

    def __init__(
        self, text: str, problem: str, hints: tuple[str, ...], *, clocks_change: bool = False
    ) -> None:
        """Create it for `text`, with the problem as the rest of a sentence that begins with the text."""
        super().__init__(f'"{text}" {problem}')
        self.hints = hints
        self.clocks_change = clocks_change

    @property
    def hint(self) -> str:
        """The hints as a sentence without its full stop, like `write 17:00, "fri 17:00" or +4h`."""
        *most, last = [f'"{hint}"' if " " in hint else hint for hint in self.hints]
        return f"write {', '.join(most)} or {last}" if most else f"write {last}"


class _RefusedError(Exception):
    """Why a text is refused.

    Attributes:
        problem: the problem, as for `TimeError`.
        hints: candidates for hints. If there are none, they come from rewriting the text.
        clocks_change: as for `TimeError`.
    """

    def __init__(self, problem: str, *hints: str, clocks_change: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hints = hints
        self.clocks_change = clocks_change


@dataclass(frozen=True, slots=True)
class Span:
    """A duration. A day ends at the same time of day, so it may have 23 or 25 hours.

    Attributes:
        text: the text from which the duration was parsed.
        days: the number of days, weeks included.
        rest: hours, minutes and seconds, which are elapsed time.
    """

    text: str
    days: int
    rest: timedelta

    def after(self, start: datetime, zone: ZoneInfo) -> datetime:
        """Return the instant that is this long after `start` (both aware UTC), by the clocks of `zone`.

        Raises:
            TimeError: the last day ends at a local time that the clocks skip or repeat, or the year is out of
                range.
        """
        try:
            return _in_range(lambda: self._after(start, zone))
        except _RefusedError as refused:
            hours = f"{24 * self.days + int(self.rest.total_seconds() // 3600)}h"
            raise TimeError(self.text, refused.problem, _accepted((hours, "4h"), parse_span)) from None

    def _after(self, start: datetime, zone: ZoneInfo) -> datetime:
        if not self.days:
            return start + self.rest
        wall = start.astimezone(zone).replace(tzinfo=None) + timedelta(days=self.days)
        return _only_reading(wall, zone) + self.rest


def parse_span(text: str) -> Span:
    """Parse a duration longer than zero, such as `90m`, `1h30m`, `2d` or `1w`.

    Raises:
        TimeError: `text` is not such a duration.
    """
    try:
        return _span(text, _normalized(text))
    except _RefusedError as refused:
        hints = _accepted(_span_rewrites(_normalized(text)), lambda hint: _span(hint, hint))
        raise TimeError(text, refused.problem, hints) from None


def parse_when(text: str, now: datetime, zone: ZoneInfo, *, after: datetime | None = None) -> datetime:
    """Parse a time into an instant (aware UTC).

    Args:
        text: the time, by the grammar of this module.
        now: the present instant (aware UTC). `now`, `today` and `tomorrow` refer to it.
        zone: the time zone of local times.
        after: the instant (aware UTC) after which a TIME and a weekday next occur, and from which `+SPAN`
            counts. If it is None, that is `now`.

    Raises:
        TimeError: `text` is not a time, it has more than one reading, or its year is out of range.
    """
    reference = _Reference(now, zone, after or now)
    try:
        return reference.parse(text)
    except _RefusedError as refused:
        candidates = refused.hints or _when_rewrites(_normalized(text), reference)
        hints = _accepted((*candidates, "+4h"), reference.parse)
        raise TimeError(text, refused.problem, hints, clocks_change=refused.clocks_change) from None


def parse_day(text: str, now: datetime, zone: ZoneInfo) -> date:
    """Parse a day: `today`, `tomorrow`, a weekday, which is today or the next one, or a date.

    Raises:
        TimeError: `text` is not a day.
    """
    today, words = now.astimezone(zone).date(), _normalized(text)
    if words in _RELATIVE_DAYS:
        return today + timedelta(days=_RELATIVE_DAYS[words])
    if words in _WEEKDAYS:
        return today + timedelta(days=(_WEEKDAYS[words] - today.weekday()) % 7)
    try:
        if _DAY.fullmatch(words):
            return date.fromisoformat(words)
        problem = "is not a day"
    except ValueError:
        problem = "is a date that does not exist"
    hints = ("tomorrow", "fri", (today + timedelta(days=7)).isoformat())
    raise TimeError(text, problem, hints)


def parse_month(text: str, now: datetime) -> str:
    """Return the month in UTC that a text like `2026-11` names; the present one if the text is empty.

    Args:
        text: the text.
        now: the present instant (aware UTC).

    Raises:
        TimeError: `text` is not a month, or the month has not begun.
    """
    present = f"{now:%Y-%m}"
    if not _MONTH.fullmatch(text or present):
        raise TimeError(text, "is not a month", (present,))
    if text > present:
        raise TimeError(text, "has not begun", (present,))
    return text or present


def render(instant: datetime, zone: ZoneInfo) -> str:
    """Return the text of an instant in `zone`. It has a UTC offset only if the local time is ambiguous."""
    local = instant.astimezone(zone)
    wall = local.replace(tzinfo=None)
    return _isoformat(wall if len(_readings(wall, zone)) == 1 else local)


@dataclass(frozen=True, slots=True)
class _Reference:
    """What the words of a text refer to, as for `parse_when`."""

    now: datetime
    zone: ZoneInfo
    after: datetime

    @property
    def today(self) -> date:
        return self.now.astimezone(self.zone).date()

    def parse(self, text: str) -> datetime:
        return _in_range(lambda: self._parse(text, _normalized(text)))

    def _parse(self, text: str, words: str) -> datetime:
        if words == "now":
            return self.now
        if words.startswith("+"):
            return _span(text, words[1:])._after(self.after, self.zone)  # noqa: SLF001 - of this module
        if found := _DATE.fullmatch(words):
            return self._at_date(*found.groups())
        day, _, rest = words.partition(" ")
        if day in _RELATIVE_DAYS:
            return self._at_day(self.today + timedelta(days=_RELATIVE_DAYS[day]), day, rest)
        if day in _WEEKDAYS:
            weekday = _WEEKDAYS[day]
            if rest == "midnight":
                raise _two_midnights(self.today + timedelta(days=(weekday - self.today.weekday()) % 7), day)
            return self._next(_clock(rest), lambda day: day.weekday() == weekday)
        return self._next(_clock(words), lambda _: True)

    def _at_date(self, text: str, rest: str) -> datetime:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise _RefusedError("has a date that does not exist") from None
        found = _OFFSET.fullmatch(rest)
        if found is None or not _CLOCK.fullmatch(found[1]):
            return self._at_day(day, text, rest)
        try:
            wall = datetime.combine(day, _clock(found[1]))
            return datetime.fromisoformat(f"{wall.isoformat()}{found[2].upper()}").astimezone(UTC)
        except ValueError:
            raise _RefusedError("has a UTC offset that does not exist") from None

    def _at_day(self, day: date, name: str, rest: str) -> datetime:
        if rest == "midnight":
            raise _two_midnights(day, name)
        return _only_reading(datetime.combine(day, _clock(rest)), self.zone)

    def _next(self, clock: time, included: Callable[[date], bool]) -> datetime:
        """Return the next occurrence of a time of day on an included day."""
        local = self.after.astimezone(self.zone).replace(tzinfo=None)
        day = local.date()
        while True:
            wall = datetime.combine(day, clock)
            passed = _is_skipped(wall, self.zone) and wall <= local
            if included(day) and not passed and _readings(wall, self.zone)[-1] > self.after:
                return _only_reading(wall, self.zone)
            day += timedelta(days=1)


def _normalized(text: str) -> str:
    return " ".join(text.lower().split())


def _in_range(compute: Callable[[], datetime]) -> datetime:
    try:
        instant = compute()
    except OverflowError:
        instant = None
    if instant is None or not _EARLIEST <= instant <= _LATEST:
        raise _RefusedError("is not in the years 1970 to 2999", "+4h")
    return instant


def _span(text: str, words: str) -> Span:
    found = _SPAN.fullmatch(words)
    if found is None or not words:
        raise _RefusedError("is not a duration")
    weeks, days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    span = Span(text, days + 7 * weeks, timedelta(hours=hours, minutes=minutes, seconds=seconds))
    if not span.days and not span.rest:
        raise _RefusedError("is not longer than zero")
    return span


def _clock(words: str) -> time:
    """Parse a time of day."""
    if words in _WORDS:
        return _WORDS[words]
    try:
        if found := _CLOCK.fullmatch(words):
            hour, minute, second, fraction = found.groups()
            return time(int(hour), int(minute), int(second or 0), int((fraction or "").ljust(6, "0")[:6]))
        if (found := _TWELVE_HOURS.fullmatch(words)) and 1 <= int(found[1]) <= _NOON_HOUR:
            if int(found[1]) == _NOON_HOUR and not int(found[2] or 0):
                raise _RefusedError("could mean noon or midnight")
            return time(int(found[1]) % _NOON_HOUR + _NOON_HOUR * (found[3] == "pm"), int(found[2] or 0))
    except ValueError:
        pass  # an hour, a minute or a second is out of range
    raise _RefusedError("is not a time")


def _readings(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return the instants (aware UTC) that a local time may mean: two if the clocks skip or repeat it."""
    return tuple(sorted({wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}))


def _is_skipped(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether the clocks never show a local time."""
    return _readings(wall, zone)[0].astimezone(zone).replace(tzinfo=None) != wall


def _only_reading(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the only reading of a local time. It is refused if it has two; the message has both."""
    readings = _readings(wall, zone)
    if len(readings) == 1:
        return readings[0]
    locals_ = [instant.astimezone(zone) for instant in readings]
    occurs = "does not occur" if _is_skipped(wall, zone) else "occurs twice"
    first, second = (f"{local:%H:%M} {local:%Z}" for local in locals_)
    why = f"{occurs} on {wall:%Y-%m-%d} in {zone.key}, because the clocks change then"
    problem = f"{why}; it could mean {first} or {second}"
    raise _RefusedError(problem, *map(_isoformat, locals_), clocks_change=True)


def _isoformat(local: datetime) -> str:
    return local.isoformat("T", "auto" if local.second or local.microsecond else "minutes")


def _two_midnights(day: date, name: str) -> _RefusedError:
    hints = (f"{at.isoformat()} 00:00" for at in (day, day + timedelta(days=1)))
    return _RefusedError(f"could mean the start or the end of {name}", *hints)


# Hints


def _accepted(candidates: Iterable[str], parse: Callable[[str], object]) -> tuple[str, ...]:
    """Return the first candidates that `parse` accepts."""
    hints: list[str] = []
    for candidate in candidates:
        if candidate in hints:
            continue
        try:
            parse(candidate)
        except _RefusedError:
            continue
        hints.append(candidate)
        if len(hints) == _MAX_HINTS:
            break
    return tuple(hints)


def _when_rewrites(words: str, reference: _Reference) -> Iterator[str]:
    """Yield texts that may be meant, and then one example for each form of a time."""
    words = re.sub(r"\b(at|on|next|this|in|the|o'clock|uhr|h)\b", " ", words)
    words = " ".join(re.sub(r"(\d)[.,h](?=\d\d\b)", r"\1:", words).split())
    day, _, rest = words.rpartition(" ")
    yield words
    yield f"+{words.replace(' ', '')}"
    if day:
        yield f"{rest} {day}"
    if words in _RELATIVE_DAYS or words in _WEEKDAYS or _DAY.fullmatch(words):
        yield f"{words} 09:00"
    if re.fullmatch(r"(\w+ )?\d{1,2}", words):
        yield f"{words}:00"
    if "12" in words and words.endswith(("am", "pm")):
        prefix = f"{day} " if day else ""
        yield from (f"{prefix}{clock}" for clock in ("12:00", "00:00"))
    clock = found[0] if (found := _CLOCK.search(words)) else "17:00"
    friday = reference.today + timedelta(days=(_FRIDAY - reference.today.weekday()) % 7 or 7)
    yield from (clock, f"fri {clock}", f"{friday.isoformat()}T{clock}", "+4h", "17:00")


def _span_rewrites(words: str) -> Iterator[str]:
    """Yield durations that may be meant, and then one example for each form of a duration."""
    plain = re.sub(r"[ +,]|and", "", words)
    plain = re.sub(
        r"(?<=\d)(weeks?|days?|hours?|hrs?|minutes?|mins?|seconds?|secs?)", lambda m: m[0][0], plain
    )
    yield plain
    if re.fullmatch(r"\d{1,6}", plain):
        yield from (f"{plain}h", f"{plain}m")
    if found := re.fullmatch(r"(\d{1,4})[.:](\d{1,2})h?", plain):
        minutes = int(found[2]) if ":" in plain else round(float(f"0.{found[2]}") * 60)
        yield f"{found[1]}h{minutes}m"
    yield from ("90m", "1h30m", "2d", "1w")
