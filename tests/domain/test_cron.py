"""The dialect of schedules, compared with github.com/robfig/cron, and what is accepted beyond it.

`go run ./cron` in `tests/go` makes the table.
"""

from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from booking_operator.domain.cron import parse_schedule
from booking_operator.domain.recurrence import Recurrence, parse_zone

TABLE = (Path(__file__).parent / "cron.tsv").read_text().splitlines()
BEYOND = {"0 9 * * MON-SUN", "0 9 * * FRI-MON", "0 9 * NOV-FEB *", "0 22-6 * * *", "0 9 * * 5-1"} | {
    "0 9 * * 7",
    "0 9 L * *",
    "0 9 * * MON#1",
}
"""Expressions of the table that robfig/cron refuses, and that are accepted here."""


def near_clock_change(instant: datetime, zone: ZoneInfo) -> bool:
    """Whether the clocks of a zone change within a day of an instant."""
    day = timedelta(days=1)
    return (instant - day).astimezone(zone).utcoffset() != (instant + day).astimezone(zone).utcoffset()


def test_schedules_mean_what_they_mean_to_the_go_operator() -> None:
    """A fixed time of day that the clocks skip or repeat is the known difference: it occurs once here."""
    wrong, compared = [], 0
    for line in TABLE:
        text, zone_name, start, result = line.split("\t")
        expression, zone, begin = (
            text.replace("\\t", "\t"),
            ZoneInfo(zone_name),
            datetime.fromisoformat(start),
        )
        if result in {"error", "never"}:
            if expression not in BEYOND:
                with pytest.raises(ValueError, match="is not a"):
                    Recurrence(expression, zone)
            continue
        theirs = [datetime.fromisoformat(item) for item in result.split()]
        recurrence = Recurrence(expression, zone, anchor=begin)
        ours = list(islice(recurrence.after(begin), len(theirs)))
        fixed = parse_schedule(expression).follows_clock
        if fixed and any(near_clock_change(instant, recurrence.zone) for instant in [begin, *theirs, *ours]):
            continue
        compared += 1
        if ours != theirs:
            wrong.append((expression, zone_name, start, theirs, ours))
    assert wrong == []
    assert compared > 2000


@pytest.mark.parametrize(
    ("schedule", "same"),
    [
        ("0 9 * * MON-SUN", "0 9 * * *"),
        ("0 9 * * FRI-MON", "0 9 * * FRI,SAT,SUN,MON"),
        ("0 9 * * SAT-TUE/2", "0 9 * * SAT,MON"),
        ("0 9 * NOV-FEB *", "0 9 * NOV,DEC,JAN,FEB *"),
        ("0 22-6 * * *", "0 22,23,0,1,2,3,4,5,6 * * *"),
        ("0 9 * * 5-7", "0 9 * * FRI,SAT,SUN"),
        ("0 9 * * 7", "0 9 * * SUN"),
        ("0 9 28-2 * *", "0 9 28,29,30,31,1,2 * *"),
    ],
)
def test_ranges_wrap_around(schedule: str, same: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    first, second = (Recurrence(text, ZoneInfo("UTC")).after(start) for text in (schedule, same))
    assert list(islice(first, 50)) == list(islice(second, 50))


@pytest.mark.parametrize(
    ("schedule", "part"),
    [
        ("60 9 * * *", "the minute '60' is not between 0 and 59"),
        ("0 9 * * FUNDAY", "the day-of-week 'FUNDAY' is not a number"),
        ("0 9 * *", "it must have five fields, not 4"),
        ("0 9 31 2 *", "it matches no day of the calendar"),
        ("*/0 * * * *", "the step of the minute must not be 0"),
        ("@fortnightly", "@fortnightly is not one of @yearly, "),
        ("@every soon", "'soon' is not a duration like 90m or 1h30m"),
        (", * * * *", "the minute ',' has no value"),
    ],
)
def test_a_refusal_names_the_part(schedule: str, part: str) -> None:
    with pytest.raises(ValueError, match="is not a valid cron expression") as caught:
        parse_schedule(schedule)
    assert part in str(caught.value)
    assert str(caught.value).endswith("; use a value like 0 9 * * MON-FRI")


def test_an_interval_counts_from_its_anchor() -> None:
    anchor = datetime(2026, 1, 1, 9, 7, tzinfo=UTC)
    found = Recurrence("@every 90m", ZoneInfo("Europe/Berlin"), anchor=anchor)
    minutes = [(instant - anchor) / timedelta(minutes=1) for instant in islice(found.after(anchor), 3)]
    assert minutes == [90, 180, 270]
    much_later = anchor + timedelta(days=365, minutes=1)
    assert next(found.after(much_later)) == anchor + timedelta(days=365, minutes=90)
    assert next(found.after(anchor - timedelta(days=9))) == anchor + timedelta(minutes=90)


def test_the_zone_in_a_schedule_wins() -> None:
    found = Recurrence("CRON_TZ=Asia/Tokyo 0 9 * * *", parse_zone("Europe/Berlin"))
    assert found.zone == ZoneInfo("Asia/Tokyo")
    assert next(found.after(datetime(2026, 1, 1, tzinfo=UTC))) == datetime(2026, 1, 2, tzinfo=UTC)
    with pytest.raises(ValueError, match="'Nowhere' is not an IANA time zone"):
        Recurrence("TZ=Nowhere 0 9 * * *", parse_zone("Europe/Berlin"))
