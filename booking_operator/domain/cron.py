"""Parses schedules in the dialect of robfig/cron, which the Go operator and Kubernetes CronJobs use.

The dialect is that of its function `ParseStandard`:
https://pkg.go.dev/github.com/robfig/cron/v3#hdr-CRON_Expression_Format. cronsim computes the occurrences, but
has the dialect of Debian's cron(8). So each field is translated into a list of numbers, or into `*`.

Some expressions that robfig/cron refuses are accepted: ranges that wrap around (`FRI-MON`, `22-6`), `7` for
Sunday, and what only cronsim knows (`L`, `LW`, `MON#1`, `5L`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

_EXAMPLE = "use a value like 0 9 * * MON-FRI"
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ZONE = re.compile(r"(?:CRON_)?TZ=(\S*)\s+(.*)", re.DOTALL)
_EVERY = "@every "
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_MIN_INTERVAL = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields: its name, its values from `low` to `high`, and the names of values."""

    name: str
    low: int
    high: int
    names: Mapping[str, int]
    special: re.Pattern[str] = re.compile(r"(?!)")


def _numbered(first: int, text: str) -> dict[str, int]:
    return {name: number for number, name in enumerate(text.split(), first)}


_FIELDS = (
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day-of-month", 1, 31, {}, re.compile("LW?")),
    _Field("month", 1, 12, _numbered(1, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")),
    _Field("day-of-week", 0, 6, _numbered(0, "SUN MON TUE WED THU FRI SAT"), re.compile(r"\w+#\d|[0-7]L")),
)
_SUNDAY = 7  # the second number of this day of the week


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule.

    Attributes:
        expression: five fields in the dialect of cronsim; empty if `every` is set.
        follows_clock: whether the minute and the hour are fixed times of day. Otherwise the schedule follows
            elapsed time when the clocks change.
        every: the interval of `@every`; None for other schedules.
        zone: the time zone in the schedule; empty if it has none.
    """

    expression: str
    follows_clock: bool = True
    every: timedelta | None = None
    zone: str = ""


@lru_cache(maxsize=1024)
def parse_schedule(text: str) -> Schedule:
    """Parse a schedule.

    Raises:
        ValueError: the schedule is malformed, or matches no day of the calendar. The message names the part.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a valid cron expression: {error}; {_EXAMPLE}") from None


def _parse(text: str) -> Schedule:
    zone, found = "", _ZONE.fullmatch(text)
    if found is not None:
        zone, text = found[1] or "UTC", found[2]
    if text.startswith(_EVERY):
        return Schedule("", every=_interval(text.removeprefix(_EVERY)), zone=zone)
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            raise ValueError(f"{text} is not one of {', '.join(_DESCRIPTORS)}, or @every with a duration")
        text = _DESCRIPTORS[text]
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"it must have five fields, not {len(parts)}")
    fields = [_translate(part, field) for part, field in zip(parts, _FIELDS, strict=True)]
    expression = " ".join(fields)
    try:
        CronSim(expression, _ANY_DAY)
    except CronSimError:
        raise ValueError("it matches no day of the calendar") from None
    elapsed = any(part[0] in "*?" for part in parts[:2]) or "*" in fields[:2]
    return Schedule(expression, follows_clock=not elapsed, zone=zone)


def _interval(text: str) -> timedelta:
    """Parse the duration of `@every` in Go's notation. It is rounded down to seconds, but to at least one."""
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text.removeprefix("+"))
    parts = _DURATION.findall(digits)
    if digits != "0" and (not parts or "".join(map("".join, parts)) != digits):
        raise ValueError(f"{text!r} is not a duration like 90m or 1h30m")
    seconds = 0 if sign else sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return max(_MIN_INTERVAL, timedelta(seconds=int(seconds + 1e-9)))


def _translate(text: str, field: _Field) -> str:
    """Translate a field into the dialect of cronsim: `*`, or a list that does not begin with `*`."""
    values: set[int] = set()
    special: list[str] = []
    for part in filter(None, text.split(",")):
        if field.special.fullmatch(part.upper()):
            special.append(part.upper())
        elif _is_star(part):
            return "*"
        else:
            values.update(_values(part, field))
    if not values and not special:
        raise ValueError(f"the {field.name} {text!r} has no value")
    return ",".join([*map(str, sorted(values)), *special])


def _is_star(part: str) -> bool:
    """Whether a part stands for every value. With a step of 2 or more, it does not."""
    base, slash, step = part.partition("/")
    return base.partition("-")[0] in {"*", "?"} and (not slash or step == "1")


def _values(part: str, field: _Field) -> Iterator[int]:
    base, slash, steps = part.partition("/")
    first, hyphen, last = base.partition("-")
    step = _number(steps, f"step of the {field.name}") if slash else 1
    if step == 0:
        raise ValueError(f"the step of the {field.name} must not be 0")
    if first in {"*", "?"}:
        start, end = field.low, field.high
    else:
        start = _value(first, field)
        end = _value(last, field) if hyphen else (field.high if slash else start)
    size = field.high - field.low + 1
    # A range may wrap around: FRI-MON, 22-6.
    length = end - start if end >= start else end - start + size
    return (field.low + (start - field.low + offset) % size for offset in range(0, length + 1, step))


def _value(text: str, field: _Field) -> int:
    value = field.names.get(text.upper())
    if value is None:
        value = _number(text, field.name)
    high = _SUNDAY if field.name == "day-of-week" else field.high
    if not field.low <= value <= high:
        raise ValueError(f"the {field.name} {text!r} is not between {field.low} and {high}")
    return value


def _number(text: str, what: str) -> int:
    if not re.fullmatch(r"\+?[0-9]{1,9}", text):
        raise ValueError(f"the {what} {text!r} is not a number")
    return int(text)
