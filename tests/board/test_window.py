"""The time range of the board, over zones and clock changes."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from booking_operator.board.view.window import TimeWindow, Zoom, start_of_day
from tests.support.people import BERLIN

ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "America/Havana",
        "Asia/Kathmandu",
        "Asia/Gaza",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Africa/Casablanca",
    )
]
SKIPPED = {("Pacific/Apia", date(2011, 12, 30))}
"""Days that a zone has left out, because it moved to the other side of the date line."""


@st.composite
def windows(draw: st.DrawFn) -> TimeWindow:
    zone, first = draw(st.sampled_from(ZONES)), draw(st.dates(date(2011, 1, 1), date(2030, 12, 31)))
    zoom = draw(st.sampled_from(Zoom))
    if (zone.key, first) in SKIPPED:
        first += timedelta(days=1)
    return TimeWindow(first, zoom, zone)


@given(windows())
def test_a_window_has_whole_local_days(window: TimeWindow) -> None:
    before = window.begin - timedelta(seconds=1)
    assert window.begin.astimezone(window.zone).date() == window.first > before.astimezone(window.zone).date()
    assert window.end.astimezone(window.zone).date() >= window.end_day
    assert (window.share(window.begin), window.share(window.end)) == (0, 1)


@given(windows())
@example(TimeWindow(date(2011, 12, 26), Zoom.WEEK, ZoneInfo("Pacific/Apia")))
@example(TimeWindow(date(2011, 12, 1), Zoom.MONTH, ZoneInfo("Pacific/Apia")))
def test_ticks_ascend_from_the_begin_of_the_window(window: TimeWindow) -> None:
    ticks = window.ticks()
    places = [tick.at for tick in ticks]
    assert places == sorted(set(places))
    assert 0 <= places[0] < 1 / 20
    assert places[-1] < 1
    assert ticks[0].day


@given(windows(), st.floats(0, 1))
def test_later_instants_are_further_right(window: TimeWindow, place: float) -> None:
    instant = window.begin + place * (window.end - window.begin)
    assert window.share(instant) <= window.share(instant + timedelta(minutes=1))
    assert abs(window.share(instant) - place) < 1e-9


@pytest.mark.parametrize(("day", "hours"), [("2026-11-24", 24), ("2026-03-29", 23), ("2026-10-25", 25)])
def test_the_day_of_a_clock_change_has_its_true_length(day: str, hours: int) -> None:
    window = TimeWindow(date.fromisoformat(day), Zoom.DAY, BERLIN)
    assert window.end - window.begin == timedelta(hours=hours)
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=BERLIN).astimezone(UTC)
    assert window.share(noon) == (hours - 12) / hours
    assert [tick.label for tick in window.ticks() if tick.label] == [
        f"{hour:02}:00" for hour in (0, 3, 6, 9, 12, 15, 18, 21)
    ]


@pytest.mark.parametrize(
    ("first", "zoom", "title"),
    [
        ("2026-11-24", "1d", "Tue 24 Nov 2026"),
        ("2026-11-23", "1w", "Mon 23 Nov to Sun 29 Nov 2026"),
        ("2026-12-28", "1w", "Mon 28 Dec 2026 to Sun 3 Jan 2027"),
        ("2026-11-01", "1m", "Sun 1 Nov to Mon 30 Nov 2026"),
    ],
)
def test_titles(first: str, zoom: str, title: str) -> None:
    assert TimeWindow(date.fromisoformat(first), Zoom(zoom), BERLIN).title == title


@pytest.mark.parametrize(
    ("first", "zoom", "previous", "following"),
    [
        ("2026-11-24", "1d", "2026-11-23", "2026-11-25"),
        ("2026-11-23", "1w", "2026-11-16", "2026-11-30"),
        ("2026-12-01", "1m", "2026-11-01", "2027-01-01"),
        ("2026-03-31", "1m", "2026-02-28", "2026-04-30"),
    ],
)
def test_the_next_and_the_previous_range(first: str, zoom: str, previous: str, following: str) -> None:
    window = TimeWindow(date.fromisoformat(first), Zoom(zoom), BERLIN)
    assert (str(window.previous), str(window.end_day)) == (previous, following)


def test_a_skipped_midnight_and_a_skipped_day() -> None:
    havana, apia = ZoneInfo("America/Havana"), ZoneInfo("Pacific/Apia")
    skipped = start_of_day(date(2026, 3, 8), havana).astimezone(havana)
    assert f"{skipped:%Y-%m-%d %H:%M}" == "2026-03-08 01:00"
    with pytest.raises(ValueError, match="Pacific/Apia has no 2011-12-30"):
        TimeWindow(date(2011, 12, 30), Zoom.DAY, apia)


@pytest.mark.parametrize("day", [date(1970, 1, 1), date(2999, 1, 1)])
def test_years_that_no_booking_has(day: date) -> None:
    with pytest.raises(ValueError, match="must be in the years 1971 to 2998"):
        TimeWindow(day, Zoom.DAY, BERLIN)
