"""The grammar of the times that people type: what it accepts, what it refuses, and its hints."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.time_grammar import TimeError, parse_month, parse_span, parse_when, render

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 24, 13, 3, tzinfo=UTC)  # Tuesday 14:03 in Berlin
ZONES = [
    ZoneInfo(name)
    for name in (
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "America/Sao_Paulo",  # skipped midnight until 2019
        "Africa/Cairo",  # skips midnight
        "Africa/Casablanca",  # moves the clock back before Ramadan
        "Asia/Kathmandu",
        "Australia/Lord_Howe",  # moves by half an hour
        "Pacific/Apia",  # skipped a whole day
        "UTC",
    )
]

zones = st.sampled_from(ZONES)


def between(first: int, last: int) -> st.SearchStrategy[datetime]:
    begin, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last, 1, 1, tzinfo=UTC)
    return st.integers(0, int((end - begin).total_seconds())).map(lambda s: begin + timedelta(seconds=s))


instants = between(1971, 2998) | between(2010, 2030)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
typed = st.text(alphabet="0123456789:.,+-tTzZ apmhdwsfriueonx", max_size=20) | st.sampled_from(
    ["17.00", "24:00", "12am", "fri", "fri midnight", "2026-02-30 9:00", "2026-11-27", "9999999w", "noon fri"]
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("now", "2026-11-24T14:03"),
        ("+90m", "2026-11-24T15:33"),
        ("+1h30m", "2026-11-24T15:33"),
        ("+2d", "2026-11-26T14:03"),
        ("+1w2d3h", "2026-12-03T17:03"),
        ("17:00", "2026-11-24T17:00"),
        ("9:00", "2026-11-25T09:00"),
        ("14:03", "2026-11-25T14:03"),
        ("5pm", "2026-11-24T17:00"),
        ("5:30 PM", "2026-11-24T17:30"),
        ("12:30am", "2026-11-25T00:30"),
        ("noon", "2026-11-25T12:00"),
        ("midnight", "2026-11-25T00:00"),
        ("today 9:00", "2026-11-24T09:00"),
        ("tomorrow noon", "2026-11-25T12:00"),
        ("wed 9:00", "2026-11-25T09:00"),
        ("Wednesday  9am", "2026-11-25T09:00"),
        ("tue 17:00", "2026-11-24T17:00"),
        ("tue 9:00", "2026-12-01T09:00"),
        ("fri 18:00", "2026-11-27T18:00"),
        ("2026-11-27 17:00", "2026-11-27T17:00"),
        ("2026-11-27T17:00", "2026-11-27T17:00"),
        ("2026-11-27T17:00:30", "2026-11-27T17:00:30"),
        ("2026-11-27T16:00:00Z", "2026-11-27T17:00"),
        ("2026-11-27t16:00z", "2026-11-27T17:00"),
        ("2026-11-27T18:00:00.5+02:00", "2026-11-27T17:00:00.500000"),
        ("2026-11-27T16:00:00.123456789Z", "2026-11-27T17:00:00.123456"),
    ],
)
def test_the_time_is_understood(text: str, means: str) -> None:
    assert parse_when(text, NOW, BERLIN) == at(means)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("17:00", "2026-11-25T17:00"),
        ("+4h", "2026-11-25T13:00"),
        ("+2d", "2026-11-27T09:00"),
        ("wed 17:00", "2026-11-25T17:00"),
        ("wed 8:00", "2026-12-02T08:00"),
        ("today 17:00", "2026-11-24T17:00"),
        ("tomorrow 17:00", "2026-11-25T17:00"),
        ("now", "2026-11-24T14:03"),
    ],
)
def test_the_end_of_a_booking_counts_from_its_start(text: str, means: str) -> None:
    assert parse_when(text, NOW, BERLIN, after=at("2026-11-25T09:00")) == at(means)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("17.00", '"17.00" is not a time', 'write 17:00, "fri 17:00", 2026-11-27T17:00 or +4h'),
        ("", '"" is not a time', 'write 17:00, "fri 17:00", 2026-11-27T17:00 or +4h'),
        ("4h", '"4h" is not a time', 'write +4h, 17:00, "fri 17:00" or 2026-11-27T17:00'),
        ("17 Uhr", '"17 Uhr" is not a time', 'write 17:00, "fri 17:00", 2026-11-27T17:00 or +4h'),
        ("fri", '"fri" is not a time', 'write "fri 09:00", 17:00, "fri 17:00" or 2026-11-27T17:00'),
        ("noon fri", '"noon fri" is not a time', 'write "fri noon", 17:00, "fri 17:00" or 2026-11-27T17:00'),
        ("12pm", '"12pm" could mean noon or midnight', 'write 12:00, 00:00, 17:00 or "fri 17:00"'),
        (
            "fri 12am",
            '"fri 12am" could mean noon or midnight',
            'write "fri 12:00", "fri 00:00", 17:00 or "fri 17:00"',
        ),
        (
            "fri midnight",
            '"fri midnight" could mean the start or the end of fri',
            'write "2026-11-27 00:00", "2026-11-28 00:00" or +4h',
        ),
        (
            "2026-02-30 9:00",
            '"2026-02-30 9:00" has a date that does not exist',
            'write 9:00, "fri 9:00", 2026-11-27T9:00 or +4h',
        ),
        (
            "2026-11-27T09:00+25:00",
            '"2026-11-27T09:00+25:00" has a UTC offset that does not exist',
            'write 09:00, "fri 09:00", 2026-11-27T09:00 or +4h',
        ),
        ("+999999w", '"+999999w" is not in the years 1970 to 2999', "write +4h"),
        (
            "2026-03-29 2:30",
            (
                '"2026-03-29 2:30" does not occur on 2026-03-29 in Europe/Berlin, because the clocks change '
                "then; it could mean 01:30 CET or 03:30 CEST"
            ),
            "write 2026-03-29T01:30+01:00, 2026-03-29T03:30+02:00 or +4h",
        ),
        (
            "2026-10-25 2:30",
            (
                '"2026-10-25 2:30" occurs twice on 2026-10-25 in Europe/Berlin, because the clocks change '
                "then; it could mean 02:30 CEST or 02:30 CET"
            ),
            "write 2026-10-25T02:30+02:00, 2026-10-25T02:30+01:00 or +4h",
        ),
    ],
)
def test_the_time_is_refused_with_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(TimeError) as refused:
        parse_when(text, NOW, BERLIN)
    assert (str(refused.value), refused.value.hint) == (message, hint)


def test_a_time_that_next_occurs_in_skipped_time_is_refused() -> None:
    evening = at("2026-03-28T20:00")
    with pytest.raises(TimeError, match="does not occur"):
        parse_when("2:30", evening, BERLIN)
    with pytest.raises(TimeError, match="does not occur"):
        parse_when("+1d", at("2026-03-28T02:30"), BERLIN)


def test_a_skipped_time_that_is_over_is_tomorrow() -> None:
    assert parse_when("2:30", at("2026-03-29T03:15"), BERLIN) == at("2026-03-30T02:30")


@pytest.mark.parametrize(
    ("text", "days", "rest"),
    [
        ("90m", 0, timedelta(minutes=90)),
        ("1h30m", 0, timedelta(minutes=90)),
        ("2d", 2, timedelta(0)),
        ("1w", 7, timedelta(0)),
        (" 1W2D3H4M5S ", 9, timedelta(hours=3, minutes=4, seconds=5)),
    ],
)
def test_the_duration_is_understood(text: str, days: int, rest: timedelta) -> None:
    span = parse_span(text)
    assert (span.days, span.rest) == (days, rest)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("4", '"4" is not a duration', "write 4h, 4m, 90m or 1h30m"),
        ("1.5h", '"1.5h" is not a duration', "write 1h30m, 90m, 2d or 1w"),
        ("2:15", '"2:15" is not a duration', "write 2h15m, 90m, 1h30m or 2d"),
        ("+4h", '"+4h" is not a duration', "write 4h, 90m, 1h30m or 2d"),
        ("2 hours", '"2 hours" is not a duration', "write 2h, 90m, 1h30m or 2d"),
        ("0m", '"0m" is not longer than zero', "write 90m, 1h30m, 2d or 1w"),
        ("", '"" is not a duration', "write 90m, 1h30m, 2d or 1w"),
        ("-1h", '"-1h" is not a duration', "write 90m, 1h30m, 2d or 1w"),
    ],
)
def test_the_duration_is_refused_with_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(TimeError) as refused:
        parse_span(text)
    assert (str(refused.value), refused.value.hint) == (message, hint)


def test_days_keep_the_time_of_day_and_hours_do_not() -> None:
    before_winter_time = at("2026-10-24T18:00")
    assert parse_span("1d").after(before_winter_time, BERLIN) == at("2026-10-25T18:00")
    assert parse_span("24h").after(before_winter_time, BERLIN) == at("2026-10-25T17:00")


def test_a_duration_that_ends_in_skipped_time_is_refused_with_hours_as_the_hint() -> None:
    with pytest.raises(TimeError, match="does not occur") as refused:
        parse_span("1d").after(at("2026-03-28T02:30"), BERLIN)
    assert refused.value.hint == "write 24h or 4h"


@given(instant=instants, now=instants, zone=zones)
def test_the_text_of_an_instant_means_the_instant(instant: datetime, now: datetime, zone: ZoneInfo) -> None:
    assert parse_when(render(instant, zone), now, zone) == instant


def refusal(parse: Callable[[], object]) -> TimeError | None:
    try:
        parse()
    except TimeError as refused:
        return refused
    return None


@given(text=typed, now=instants, zone=zones)
def test_each_hint_is_accepted(text: str, now: datetime, zone: ZoneInfo) -> None:
    refused = refusal(lambda: parse_when(text, now, zone))
    if refused is not None:
        assert refused.hints
        for hint in refused.hints:
            parse_when(hint, now, zone)


@given(text=typed)
def test_each_hint_for_a_duration_is_accepted(text: str) -> None:
    refused = refusal(lambda: parse_span(text))
    if refused is not None:
        assert refused.hints
        for hint in refused.hints:
            parse_span(hint)


@given(clock=st.times(), day=st.sampled_from(DAYS), now=instants, zone=zones)
def test_a_weekday_is_the_next_one_with_that_time(
    clock: time, day: str, now: datetime, zone: ZoneInfo
) -> None:
    text = f"{day} {clock:%H:%M:%S}"
    refused = refusal(lambda: parse_when(text, now, zone))
    if refused is not None:
        assert "clocks change" in str(refused)
        return
    means = parse_when(text, now, zone)
    assert now < means <= now + timedelta(days=9)
    assert f"{means.astimezone(zone):%a %H:%M:%S}".lower() == text


@pytest.mark.parametrize(
    ("text", "month"),
    [("", "2026-11"), ("2026-11", "2026-11"), ("1970-01", "1970-01"), ("2025-12", "2025-12")],
)
def test_the_month_is_understood(text: str, month: str) -> None:
    assert parse_month(text, NOW) == month


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("november", "is not a month"),
        ("2026-13", "is not a month"),
        ("1969-12", "is not a month"),
        ("2026-1", "is not a month"),
        ("\N{ARABIC-INDIC DIGIT TWO}026-11", "is not a month"),
        ("2026-12", "has not begun"),
    ],
)
def test_the_month_is_refused_with_the_present_one_as_the_hint(text: str, problem: str) -> None:
    with pytest.raises(TimeError) as caught:
        parse_month(text, NOW)
    assert (str(caught.value), caught.value.hints) == (f'"{text}" {problem}', ("2026-11",))
