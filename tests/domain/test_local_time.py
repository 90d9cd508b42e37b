"""The formats of instants and durations for people."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from booking_operator.domain import local_time

BERLIN, TOKYO, ALMATY = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo"), ZoneInfo("Asia/Almaty")
NOW = datetime(2026, 11, 24, 13, 3, tzinfo=UTC)


def at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (at("2026-11-24T17:00"), "today 17:00"),
        (at("2026-11-24T17:00:01"), "today 17:00"),
        (at("2026-11-25T08:55"), "tomorrow 08:55"),
        (at("2026-11-27T18:00"), "Fri 27 Nov 18:00"),
        (at("2026-11-23T18:00"), "Mon 23 Nov 18:00"),
        (at("2027-01-02T18:00"), "Sat 2 Jan 2027 18:00"),
        (at("2026-10-25T00:30") + timedelta(hours=2), "Sun 25 Oct 02:30 CEST"),
        (at("2026-10-25T00:30") + timedelta(hours=3), "Sun 25 Oct 02:30 CET"),
    ],
)
def test_an_instant_has_the_shortest_clear_day(instant: datetime, text: str) -> None:
    assert local_time.format_relative(instant, NOW, BERLIN) == text


def test_the_time_of_today_needs_no_day() -> None:
    assert local_time.format_clock_or_day(at("2026-11-24T17:00"), NOW, BERLIN) == "17:00"
    assert local_time.format_clock_or_day(at("2026-11-25T17:00"), NOW, BERLIN) == "tomorrow 17:00"


@pytest.mark.parametrize(
    ("start", "end", "zone", "text"),
    [
        ("2026-11-25T09:00", "2026-11-25T13:00", BERLIN, "Wed 25 Nov 09:00–13:00 CET"),
        ("2026-11-25T22:00", "2026-11-26T06:00", BERLIN, "Wed 25 Nov 22:00 – Thu 26 Nov 06:00 CET"),
        ("2026-10-25T00:00", "2026-10-25T06:00", BERLIN, "Sun 25 Oct 00:00 CEST–06:00 CET"),
        ("2026-10-24T22:00", "2026-10-25T06:00", BERLIN, "Sat 24 Oct 22:00 CEST – Sun 25 Oct 06:00 CET"),
        ("2027-11-25T09:00", "2027-11-25T13:00", BERLIN, "Thu 25 Nov 2027 09:00–13:00 CET"),
        ("2026-11-25T09:00", "2026-11-25T13:00", TOKYO, "Wed 25 Nov 09:00–13:00 JST"),
        ("2026-11-25T09:00", "2026-11-25T13:00", ALMATY, "Wed 25 Nov 09:00–13:00 +05:00"),
    ],
)
def test_an_interval_says_each_thing_once(start: str, end: str, zone: ZoneInfo, text: str) -> None:
    assert local_time.format_interval(at(start, zone), at(end, zone), NOW, zone) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=41), "41s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=2, seconds=5), "2m5s"),
        (timedelta(hours=4), "4h"),
        (timedelta(hours=18, minutes=57, seconds=12), "18h57m"),
        (timedelta(days=3, hours=3, minutes=57), "3d3h57m"),
    ],
)
def test_a_span_is_exact_to_the_minute(span: timedelta, text: str) -> None:
    assert local_time.format_span(span) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=2, seconds=5), "2m5s"),
        (timedelta(minutes=63), "63m"),
        (timedelta(hours=4, minutes=5, seconds=6), "4h5m"),
        (timedelta(hours=40), "40h"),
        (timedelta(days=3, hours=2), "3d2h"),
        (timedelta(days=400), "400d"),
    ],
)
def test_an_age_looks_as_kubectl_prints_it(age: timedelta, text: str) -> None:
    assert local_time.format_age(age) == text
