"""Edge cases of cron, time zones and dates, compared with independent reference implementations."""

import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from time import thread_time
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from booking_operator.domain.parsing import parse_duration, parse_rfc3339
from booking_operator.domain.recurrence import Recurrence
from booking_operator.domain.schedule import CreatedBooking, ScheduleRule, plan_bookings
from tests.domain.test_recurrence import oracle, schedules
from tests.support import invalid_input

ZONES = st.sampled_from(sorted(available_timezones() - {"localtime", "posixrules"}))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """The hours of a year in which the clocks of a zone change, and the first hour of the year."""
    begin = datetime(year, 1, 1, tzinfo=UTC)
    days = [begin + DAY * number for number in range(366)]
    found = [begin]
    for day in days:
        if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset():
            hours = [day + HOUR * number for number in range(25)]
            offsets = [hour.astimezone(zone).utcoffset() for hour in hours]
            found += [at for at, one, two in zip(hours, offsets, offsets[1:], strict=False) if one != two]
    return found


@invalid_input.budget(30)
@given(ZONES, st.integers(1973, 2100), st.data(), schedules, st.sets(st.integers(-1, 2)))
@example("America/St_Johns", 2006, None, "0 * * * *", {0})
@example("America/Havana", 2026, None, "0-59 0-23 * * *", {0, 1})
def test_occurrences_in_every_zone_equal_those_of_the_oracle(
    name: str, year: int, data: st.DataObject | None, schedule: str, left_out: set[int]
) -> None:
    zone = ZoneInfo(name)
    instants = changes(zone, year)
    middle = data.draw(st.sampled_from(instants)) if data else instants[-1]
    start, end = middle - 14 * HOUR, middle + 20 * HOUR
    skipped = frozenset(middle.astimezone(zone).date() + DAY * number for number in left_out)
    found = set(takewhile(lambda instant: instant <= end, Recurrence(schedule, zone, skipped).after(start)))
    expected = oracle(schedule, zone, start, end)
    assert found == {at for at in expected if at.astimezone(zone).date() not in skipped}


@invalid_input.budget(30)
@given(ZONES, schedules, st.datetimes(datetime(1970, 1, 2), datetime(2998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_occurrences_are_in_order_and_at_full_minutes_in_any_year(
    name: str, schedule: str, instant: datetime
) -> None:
    walk = Recurrence(schedule, ZoneInfo(name)).after(instant)
    found = [at for at, _ in zip(walk, range(5), strict=False)]
    assert found
    assert instant < found[0]
    assert found == sorted(set(found))
    assert all(at.second == at.microsecond == 0 or (at.utcoffset() or DAY).seconds % 60 for at in found)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("schedule", ["* * * * *", "0-59 0-23 * * *"])
def test_many_excepted_days_take_little_time(schedule: str, zone: str) -> None:
    """Otherwise, a user who may write a scheduler could block the event loop for all other users."""
    begin = date(2026, 1, 1)
    skipped = frozenset(begin + DAY * number for number in range(400))
    began = thread_time()
    found = next(Recurrence(schedule, ZoneInfo(zone), skipped).after(datetime(2025, 12, 31, 23, tzinfo=UTC)))
    if zone == "Europe/Berlin":
        assert found == datetime(2027, 2, 4, 23, tzinfo=UTC)
    else:
        assert found == datetime(2025, 12, 31, 23, 1, tzinfo=UTC)
        found = next(Recurrence(schedule, ZoneInfo(zone), skipped).after(datetime(2026, 1, 1, tzinfo=UTC)))
        assert found == datetime(2027, 2, 5, tzinfo=UTC)
    assert thread_time() - began < 1


@invalid_input.budget(40)
@given(
    schedules,
    ZONES,
    st.sampled_from([1, 5, 60, 1440, 525600]),
    st.sampled_from([timedelta(0), HOUR, DAY, 366 * DAY]),
    st.integers(0, 5),
    st.timedeltas(timedelta(0), 2 * DAY),
)
def test_a_plan_that_is_carried_out_leaves_nothing_to_do(
    schedule: str, zone: str, minutes: int, horizon: timedelta, keep: int, down: timedelta
) -> None:
    now = datetime(2026, 3, 28, 23, 30, 10, tzinfo=UTC)
    rule = ScheduleRule(
        "s", Recurrence(schedule, ZoneInfo(zone)), timedelta(minutes=minutes), "d", horizon, keep
    )
    first = plan_bookings(rule, [], now, now - down)
    assume(len(first.create) < 3000)
    made = [CreatedBooking(name, start, rule.end_of(start), "d") for name, start in first.create.items()]
    again = plan_bookings(rule, made, now, first.complete_until)
    assert not again.create
    assert not again.update
    assert again.next_at is None or again.next_at > now
    assert sum(start > now for start in first.create.values()) <= 100
    assert all(rule.end_of(start) > now for start in first.create.values())


def brute(text: str) -> datetime | None:
    """RFC 3339, section 5.6, by its grammar only, for the years 1970 to 2999, without leap seconds."""
    parts = re.fullmatch(
        r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d):(\d\d))",
        text,
        re.ASCII,
    )
    if parts is None:
        return None
    year, month, day, hour, minute, second = map(int, parts.groups()[:6])
    over, under = int(parts[10] or 0), int(parts[11] or 0)
    whole = 1970 <= year <= 2999 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 60
    if not whole or not 1 <= day <= monthrange(year, month)[1] or over > 23 or under > 59:
        return None
    micros = int((parts[7] or "").ljust(9, "0")[:6])
    offset = timedelta(hours=over, minutes=under) * (-1 if parts[9] == "-" else 1)
    return datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC) - offset


TWO = st.integers(0, 99).map("{:02}".format)
NEARLY = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}".format,
    st.sampled_from(["0000", "1969", "1970", "2000", "2024", "2026", "2100", "2999", "3000", "9999", "26"]),
    st.sampled_from(["00", "01", "02", "02", "04", "12", "13"]),
    st.sampled_from(["00", "01", "28", "29", "30", "31", "32"]),
    st.sampled_from(["T", "T", "T", "t", " ", ""]),
    st.sampled_from(["00", "09", "23", "24"]) | TWO,
    st.sampled_from(["00", "59", "60"]),
    st.sampled_from(["00", "59", "60", "61"]),
    st.sampled_from(["", "", ".0", ".123456789", ".1234567891", ".", ",5", ".٣"]),
    st.sampled_from(
        ["Z", "Z", "z", "+00:00", "-00:00", "+23:59", "-23:59", "+24:00", "+01", "+0100", "", "Z\n"]
    ),
)


@invalid_input.budget(300)
@given(NEARLY | invalid_input.DATES | invalid_input.TEXTS)
@example("2026-06-30T23:59:60Z")
@example("2999-12-31T23:59:59.999999999-23:59")
@example("1970-01-01T00:00:00+23:59")
@example("2026-01-01T00:00:00-00:00")
def test_a_date_is_parsed_according_to_its_grammar_or_refused(text: str) -> None:
    expected = brute(text)
    if expected is None:
        with pytest.raises(ValueError, match="use a value like"):
            parse_rfc3339(text)
    else:
        assert parse_rfc3339(text) == expected


@invalid_input.budget(100)
@given(st.lists(st.tuples(st.integers(0, 999_999), st.sampled_from("hms")), min_size=1, max_size=6))
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, str]]) -> None:
    seconds = sum(number * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)
    assert parse_duration("".join(f"{number}{unit}" for number, unit in parts)) == timedelta(seconds=seconds)
