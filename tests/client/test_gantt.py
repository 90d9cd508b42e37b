"""The Gantt chart in text."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.client.gantt import ASCII, MIN_CHART, UNICODE, Glyphs, draw
from booking_operator.client.view import ResourceView
from tests.support.people import BERLIN, NOW, at, booking_body, resource_body, view_of


def chart(
    views: list[ResourceView],
    begin: datetime,
    end: datetime,
    width: int = 60,
    glyphs: Glyphs = ASCII,
    zone: ZoneInfo = BERLIN,
) -> list[str]:
    return [
        "".join(text for text, _ in line).rstrip() for line in draw(views, (begin, end), zone, width, glyphs)
    ]


def office() -> list[ResourceView]:
    return view_of(
        resource_body("analytics", "RUNNING", 2, 2),
        resource_body("reporting", "STOPPED", 0, 1, spec={"warm_up": "1h"}),
        booking_body("office", "analytics", "grace", "09:00", "18:00"),
        booking_body("afternoon", "analytics", "ada", "13:00", "17:00"),
        booking_body("night", "reporting", "bob", "20:00", "25 06:00"),
    ).resources()


def test_a_day_in_ascii() -> None:
    assert chart(office(), at("00:00"), at("25 00:00"), 58) == [
        "          Tue 24 Nov",
        "          00:00       06:00       12:00       18:00",
        "analytics                   [grace====|======]",
        "                                    [ada---]",
        "reporting                             |         ::[bob====",
    ]


def test_the_marks_of_unicode_have_the_same_places() -> None:
    plain = chart(office(), at("00:00"), at("25 00:00"))
    pretty = chart(office(), at("00:00"), at("25 00:00"), glyphs=UNICODE)
    marks = str.maketrans("━─┣┫░│…", "=-[]:|~")
    assert [line.translate(marks) for line in pretty] == plain


def test_each_day_of_the_chart_is_named() -> None:
    assert chart(office(), at("22:00"), at("26 22:00"), 80)[0].strip() == (
        "Wed 25 Nov                         Thu 26 Nov"
    )
    assert chart(office(), at("12:00"), at("25 12:00"), 80)[0].strip() == (
        "Tue 24 Nov                         Wed 25 Nov"
    )


def test_bookings_beyond_the_lanes_are_counted() -> None:
    bodies = [booking_body(f"b{number}", "analytics", f"u{number}", "09:00", "18:00") for number in range(41)]
    views = view_of(resource_body("analytics", "RUNNING", 2, 2), *bodies).resources()
    assert chart(views, at("00:00"), at("25 00:00"))[-1].strip() == "+37 more"


def test_a_resource_without_bookings_has_a_line() -> None:
    views = view_of(resource_body("analytics", "STOPPED", 0, 2)).resources()
    assert chart(views, at("25 00:00"), at("26 00:00"))[-1] == "analytics"


def test_ticks_follow_the_clock_when_it_changes() -> None:
    begin = datetime(2026, 10, 25, 0, tzinfo=BERLIN)
    views = view_of(resource_body("analytics", "STOPPED", 0, 2)).resources()
    head = chart(views, begin, begin + timedelta(days=1), 110)[1]
    assert [text for text in head.split() if text != "00:00"][:3] == ["02:00", "04:00", "06:00"]


@given(
    width=st.integers(1, 300),
    hours=st.integers(1, 24 * 60),
    offset=st.integers(-2000, 2000),
    spans=st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 40), st.text(min_size=1, max_size=9)), max_size=9
    ),
    glyphs=st.sampled_from([ASCII, UNICODE]),
)
def test_each_line_fits_the_width(
    width: int, hours: int, offset: int, spans: list[tuple[int, int, str]], glyphs: Glyphs
) -> None:
    bodies = [
        booking_body(f"b{number}", "analytics", user, "24 00:00", "24 01:00")
        for number, (_, _, user) in enumerate(spans)
    ]
    for body, (start, length, _) in zip(bodies, spans, strict=True):
        begin = at("24 00:00") + timedelta(hours=start)
        body["spec"] |= {
            "start_at": begin.isoformat(),
            "end_at": (begin + timedelta(hours=length)).isoformat(),
        }
    views = view_of(resource_body("analytics", "RUNNING", 2, 2), *bodies).resources()
    begin = NOW + timedelta(minutes=offset)
    for line in chart(views, begin, begin + timedelta(hours=hours), width, glyphs):
        assert len(line) <= max(width, len("analytics") + 1 + MIN_CHART)


@pytest.mark.parametrize("width", [1, 10, 20, 30])
def test_a_narrow_terminal_gets_a_small_chart(width: int) -> None:
    for line in chart(office(), at("00:00"), at("25 00:00"), width):
        assert len(line) <= max(width, MIN_CHART + len("analytics") + 1)
