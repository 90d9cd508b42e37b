"""The occurrences of a schedule, compared with a minute-by-minute oracle through clock changes."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from booking_operator.domain.recurrence import Recurrence, parse_zone

MINUTE = timedelta(minutes=1)
# A zone, and an hour in which its clocks change. Lord Howe changes by half an hour, Cairo and Santiago at
# midnight, and Apia by a whole day.
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, 3, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, 4, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("UTC", datetime(2026, 3, 29, 1, tzinfo=UTC)),
]


def numbers(field: str, low: int, high: int) -> set[int]:
    """The values of a field that consists of numbers, ranges, steps and stars."""
    found: set[int] = set()
    for term in field.split(","):
        base, _, step = term.partition("/")
        first, _, last = base.partition("-")
        start = low if base == "*" else int(first)
        end = high if base == "*" or (step and not last) else int(last or first)
        found.update(range(start, end + 1, int(step or 1)))
    return found


def matches(schedule: str, local: datetime) -> bool:
    minute, hour, day, month, weekday = schedule.split()
    dom = local.day in numbers(day, 1, 31)
    dow = local.isoweekday() % 7 in numbers(weekday, 0, 6)
    days = (dom and dow) if {day, weekday} & {"*", "*/1"} else (dom or dow)
    return (
        local.minute in numbers(minute, 0, 59)
        and local.hour in numbers(hour, 0, 23)
        and local.month in numbers(month, 1, 12)
        and days
    )


def exists(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)


def oracle(schedule: str, zone: ZoneInfo, start: datetime, end: datetime) -> set[datetime]:
    """Every occurrence in `(start, end]`."""
    fields = schedule.split()
    found = set()
    if fields[0].startswith("*") or fields[1].startswith("*"):
        for instant in minutes(start, end):
            if matches(schedule, instant.astimezone(zone)):
                found.add(instant)
    else:
        # In wall-clock time, each time of day occurs once, whatever the clock changes are.
        wall = [instant.astimezone(zone).replace(tzinfo=None) for instant in (start, end)]
        for naive in minutes(wall[0] - timedelta(days=2), wall[1] + timedelta(days=2)):
            if matches(schedule, naive):
                local = naive.replace(tzinfo=zone)
                while not exists(local):
                    local += MINUTE
                found.add(local.astimezone(UTC))
    return {instant for instant in found if start < instant <= end}


def minutes(start: datetime, end: datetime) -> Iterator[datetime]:
    instant = start.replace(second=0, microsecond=0)
    while instant <= end:
        yield instant
        instant += MINUTE


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    lists = st.lists(number, min_size=1, max_size=3).map(lambda found: ",".join(map(str, found)))
    steps = st.integers(1, 30).map(lambda step: f"*/{step}")
    spans = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    return st.one_of(lists, steps, spans, st.just("*"))


days = st.sampled_from(["*", "*", "*", "25", "1-31/2", "*/3"])
weekdays = st.sampled_from(["*", "*", "*", "0", "5,6,0", "*/2"])
schedules = st.builds(
    lambda minute, hour, day, weekday: f"{minute} {hour} {day} * {weekday}",
    field(0, 59),
    st.one_of(field(0, 23), st.sampled_from(["0", "1", "2", "3", "1,2,3"])),
    days,
    weekdays,
)


@given(schedules, st.sampled_from(CHANGES), st.integers(-300, 300))
@example("30 2 * * *", CHANGES[0], 0)
@example("0,30 2,3 * * *", CHANGES[0], 15)
@example("30 2 * * *", CHANGES[1], -10)
@example("0 * * * *", CHANGES[1], 0)
@example("0 0 * * *", CHANGES[6], -30)
@example("15 2 * * *", CHANGES[8], -30)
@example("0 9 * * *", CHANGES[9], -60)
@example("*/1 0 * * 0", CHANGES[5], -1)
@example("0 * 6 * *", CHANGES[5], -1)
@example("*/1 1 * * 0", CHANGES[5], 0)
@example("31 * * * *", CHANGES[7], 0)
def test_occurrences_equal_those_of_the_oracle(
    schedule: str, change: tuple[str, datetime], offset: int
) -> None:
    zone, start = ZoneInfo(change[0]), change[1] + offset * MINUTE
    end = start + timedelta(hours=30)
    found = list(takewhile(lambda instant: instant <= end, Recurrence(schedule, zone).after(start)))
    assert found == sorted(oracle(schedule, zone, start, end))


BERLIN = ZoneInfo("Europe/Berlin")


def first(schedule: str, start: datetime, n: int, except_days: frozenset[date] = frozenset()) -> list[str]:
    found = Recurrence(schedule, BERLIN, except_days).after(start)
    return [f"{next(found).astimezone(BERLIN):%m-%dT%H:%M%z}" for _ in range(n)]


def test_a_skipped_time_occurs_right_after_the_clock_change() -> None:
    assert first("30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == [
        "03-29T03:00+0200",
        "03-30T02:30+0200",
    ]


def test_a_repeated_time_occurs_once() -> None:
    assert first("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "10-25T02:30+0200",
        "10-26T02:30+0100",
    ]


def test_every_hour_means_every_elapsed_hour() -> None:
    assert first("0 * * * *", datetime(2026, 10, 24, 23, 59, tzinfo=UTC), 4) == [
        "10-25T02:00+0200",
        "10-25T02:00+0100",
        "10-25T03:00+0100",
        "10-25T04:00+0100",
    ]


def test_excepted_days_are_days_of_the_zone() -> None:
    skipped = frozenset({date(2026, 12, 24)})
    start = datetime(2026, 12, 22, 23, 30, tzinfo=UTC)  # the 23rd in Berlin
    assert first("0 0 * * *", start, 2, except_days=skipped) == ["12-25T00:00+0100", "12-26T00:00+0100"]


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("0 0 31 2 *", "is not a valid cron expression: it matches no day of the calendar"),
        ("61 * * * *", "the minute .61. is not between 0 and 59"),
        ("* * * *", "five fields"),
        ("0 0 9 * * *", "five fields"),
        ("a b c d e", "the minute .a. is not a number"),
        ("0 0 * * 8", "day-of-week"),
    ],
)
def test_an_invalid_schedule_is_refused(schedule: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recurrence(schedule, BERLIN)


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b"])
def test_an_unknown_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not an IANA time zone"):
        parse_zone(name)
