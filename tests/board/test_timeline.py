"""The timeline of the board: texts, lanes, free spans and positions."""

import itertools
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.board.view.timeline import Badge, Row, Timeline, timeline
from booking_operator.board.view.window import TimeWindow, Zoom
from booking_operator.client.lanes import MAX_LANES
from booking_operator.client.view import Viewer
from tests.support.people import BERLIN, NOW, booking_body, condition, resource_body, view_of, viewer

DAY = TimeWindow(date(2026, 11, 24), Zoom.DAY, BERLIN)
ANALYTICS = resource_body("analytics", "RUNNING", 2, 2)


def shown(*bodies: dict[str, Any], window: TimeWindow = DAY, words: str = "") -> Timeline:
    return timeline(view_of(*bodies), window, viewer(), words=words)


def row_of(*bodies: dict[str, Any], window: TimeWindow = DAY) -> Row:
    [row] = shown(*bodies, window=window).rows
    return row


def names(row: Row) -> list[str]:
    return [bar.name for lane in row.lanes for bar in lane]


AFTERNOON = booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00")
TOMORROW = booking_body("office", "analytics", "grace", "25 09:00", "25 18:00")


def test_the_names_are_those_of_the_contract() -> None:
    found = shown(ANALYTICS, AFTERNOON, TOMORROW)
    [row] = found.rows
    assert found.name == "Timeline, Tue 24 Nov 2026, Europe/Berlin"
    assert row.name == "analytics, running, 2 of 2, ada until 17:00"
    assert names(row) == ["my-afternoon, ada, Tue 24 Nov 13:00 to 17:00, in progress, holds the lock"]
    assert [free.name for free in row.free] == ["Free, Tue 24 Nov 17:00 to Wed 25 Nov 09:00, 16 hours"]
    assert (row.free[0].start, row.free[0].end) == ("2026-11-24T17:00", "2026-11-25T09:00")


def test_positions_are_shares_of_the_day() -> None:
    found = shown(ANALYTICS, AFTERNOON)
    [[bar]] = found.rows[0].lanes
    assert (bar.left, bar.right, bar.opens, bar.closes) == (13 / 24, 17 / 24, True, True)
    assert found.now == pytest.approx((14 + 3 / 60) / 24)
    assert (found.rows[0].free[0].left, found.rows[0].free[0].right) == (17 / 24, 1)


def test_a_resource_without_a_booking_is_free_from_now_on() -> None:
    row = row_of(resource_body("analytics", "STOPPED", 0, 2))
    assert row.name == "analytics, stopped, 0 of 2"
    [free] = row.free
    assert (free.name, free.start, free.end) == ("Free, from now on, no booking is coming", "now", "")


def test_a_free_span_from_now_has_its_exact_length() -> None:
    row = row_of(ANALYTICS, TOMORROW)
    assert row.free[0].name == "Free, now to Wed 25 Nov 09:00, 18 hours 57 minutes"


def test_an_overlapping_booking_has_a_lane_of_its_own_and_no_lock() -> None:
    row = row_of(ANALYTICS, booking_body("long", "analytics", "grace", "09:00", "18:00"), AFTERNOON)
    assert [len(lane) for lane in row.lanes] == [1, 1]
    assert [(bar.user, bar.holds, bar.mine) for lane in row.lanes for bar in lane] == [
        ("grace", True, False),
        ("ada", False, True),
    ]
    assert row.name.endswith("grace until 18:00")


def test_more_than_four_lanes_are_counted() -> None:
    bookings = [booking_body(f"b{n}", "analytics", f"user{n}", "13:00", "17:00") for n in range(41)]
    row = row_of(ANALYTICS, *bookings)
    assert (len(row.lanes), row.hidden) == (MAX_LANES, 37)


def test_the_warm_up_is_part_of_the_lane() -> None:
    row = row_of(
        resource_body("analytics", "STOPPED", 0, 2, spec={"warm_up": "60m"}),
        booking_body("first", "analytics", "ada", "15:00", "17:00"),
        booking_body("second", "analytics", "bob", "17:30", "18:00"),
    )
    assert [len(lane) for lane in row.lanes] == [1, 1]
    assert row.lanes[0][0].warm_up == 14 / 24


def test_a_booking_over_several_days_is_open_at_both_ends() -> None:
    row = row_of(ANALYTICS, booking_body("week", "analytics", "ada", "23 09:00", "27 18:00"))
    [[bar]] = row.lanes
    assert (bar.left, bar.right, bar.opens, bar.closes) == (0, 1, False, False)
    assert bar.times == "Mon 23 Nov 09:00 to Fri 27 Nov 18:00"
    assert bar.name == "week, ada, Mon 23 Nov 09:00 to Fri 27 Nov 18:00, in progress, holds the lock"
    assert row.free == []


@pytest.mark.parametrize(
    ("problem", "badge"),
    [
        (condition("Delayed", "True", "RequestLimit", "Late."), Badge.LATE),
        (condition("Ready", "False", "InsufficientInstanceCapacity", "None."), Badge.FAILED),
        (condition("ResourceFound", "False", "NoResource", "None."), Badge.FAILED),
        (condition("Ready", "False", "Starting", "On its way."), None),
        (condition("Ready", "True", "Running", "All run."), None),
    ],
)
def test_a_problem_is_a_word(problem: dict[str, Any], badge: Badge | None) -> None:
    row = row_of(ANALYTICS, booking_body("b", "analytics", "ada", "13:00", "17:00", [problem]))
    [[bar]] = row.lanes
    assert bar.badge is badge
    assert bar.name.endswith(badge.value if badge else "holds the lock")


def test_an_ad_hoc_booking_has_no_name_of_its_own() -> None:
    spec = {"booked_by": "grace", "booked_until": "2026-11-24T16:00:00Z"}
    [[bar]] = row_of(resource_body("analytics", "RUNNING", 2, 2, spec=spec)).lanes
    assert bar.booking == ""
    assert bar.name.startswith("(ad hoc), grace, ")


def test_resources_are_found_by_name_tag_and_user() -> None:
    bodies = (ANALYTICS, resource_body("web", spec={"tag": "Shop"}), TOMORROW)

    def found(words: str) -> list[str]:
        return [row.resource for row in shown(*bodies, words=words).rows]

    assert found("ANA") == ["analytics"]
    assert found("shop") == ["web"]
    assert found("grace") == ["analytics"]
    assert found(" ") == ["analytics", "web"]
    assert found("nothing") == []


def test_another_week_shows_its_own_bookings() -> None:
    week = TimeWindow(date(2026, 11, 30), Zoom.WEEK, BERLIN)
    row = row_of(ANALYTICS, AFTERNOON, window=week)
    assert (list(row.lanes), shown(ANALYTICS, window=week).now) == ([], None)
    [free] = row.free
    assert (free.left, free.right) == (0, 1)


# Properties


starts = st.integers(-3 * 1440, 10 * 1440)
lengths = st.integers(1, 3 * 1440)


@st.composite
def bookings(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(0, 12))):
        start = NOW + timedelta(minutes=draw(starts))
        body = booking_body(f"b{number}", "analytics", "ada", "13:00", "17:00")
        end = start + timedelta(minutes=draw(lengths))
        body["spec"] |= {"start_at": start.isoformat(), "end_at": end.isoformat()}
        found.append(body)
    return found


zones = st.sampled_from([ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "Asia/Kathmandu")])
days = st.dates(date(2026, 11, 22), date(2026, 12, 3))


def intervals(bodies: Sequence[dict[str, Any]]) -> list[tuple[datetime, datetime]]:
    return [
        (datetime.fromisoformat(body["spec"]["start_at"]), datetime.fromisoformat(body["spec"]["end_at"]))
        for body in bodies
    ]


@given(bookings(), days, st.sampled_from(Zoom), zones, st.integers(0, 90))
def test_bars_and_free_spans_are_exact(
    bodies: list[dict[str, Any]], first: date, zoom: Zoom, zone: ZoneInfo, warm_up: int
) -> None:
    window = TimeWindow(first, zoom, zone)
    resource = resource_body("analytics", "STOPPED", 0, 2, spec={"warm_up": f"{warm_up}m"})
    [row] = timeline(view_of(resource, *bodies), window, Viewer("ada", NOW, zone)).rows
    before = timedelta(minutes=warm_up)
    visible = [
        (start, end) for start, end in intervals(bodies) if start - before < window.end and end > window.begin
    ]
    assert sum(map(len, row.lanes)) + row.hidden == len(visible)
    for lane in row.lanes:
        for earlier, later in itertools.pairwise(lane):
            assert earlier.right <= later.warm_up
        for bar in lane:
            assert 0 <= bar.warm_up <= bar.left <= bar.right <= 1
    # Each minute of the window after now is either booked or in exactly one free span.
    for minutes in range(0, 31 * 1440, 97):
        instant = NOW + timedelta(minutes=minutes, seconds=30)
        if not window.contains(instant):
            continue
        place = window.share(instant)
        free = sum(span.left <= place < span.right for span in row.free)
        booked = any(start <= instant < end for start, end in intervals(bodies))
        assert free == (not booked)


def test_a_required_resource_shows_which_booking_it_runs_for() -> None:
    web = resource_body("web", "STOPPED", 0, 1, spec={"requires": ["db"], "warm_up": "15m"})
    db = resource_body("db", "STOPPED", 0, 1)
    talk = booking_body("talk", "web", "ada", "15:00", "17:00")
    rows = shown(web, db, talk).rows
    [[bar]] = rows[0].lanes
    assert bar.name == (
        "talk of web, ada, Tue 24 Nov 14:45 to 17:00, scheduled, for web, which requires it, holds the lock"
    )
    assert bar.through == "web"
    assert rows[1].signs == ["requires db"]
    assert rows[1].name == "web, stopped, 0 of 1, requires db"


def test_a_start_or_stop_in_its_order_says_what_it_waits_for() -> None:
    starts = condition("Ready", "False", "WaitingForRequired", "The start of i-1 waits for db.")
    web = resource_body("web", "STOPPED", 0, 1, [starts], spec={"requires": ["db"]})
    stops = condition("Ready", "False", "WaitingForDependents", "The stop of i-2 waits for web.")
    db = resource_body("db", "RUNNING", 1, 1, [stops])
    assert [(row.note, row.signs) for row in shown(db, web).rows] == [
        ("", ["stops after those that require it"]),
        ("", ["waits for db"]),
    ]


def test_off_times_and_suspensions_are_shown_with_their_time() -> None:
    running = resource_body(
        "lab",
        "RUNNING",
        1,
        1,
        spec={"unbooked": "Leave", "stop_at": ["0 20 * * *"], "time_zone": "Europe/Berlin"},
    )
    running["status"]["unbooked"] = [{"id": "i-1", "since": "2026-11-24T12:00:00Z"}]
    assert row_of(running).signs == ["off at 20:00"]
    today = resource_body("a", "STOPPED", 0, 1, spec={"suspend_until": "2026-11-24T18:00:00+01:00"})
    assert (row_of(today).note, row_of(today).signs) == ("Suspended until 18:00", [])
    assert row_of(today).name == "a, stopped, 0 of 1, Suspended until 18:00"
    later = resource_body("a", "STOPPED", 0, 1, spec={"suspend_until": "2026-11-26T09:00:00+01:00"})
    assert row_of(later).note == "Suspended until Thu 26 Nov 09:00"
    missing = condition("Found", "False", "NoInstances", "No instance has the tag.")
    missing_too = resource_body("a", "STOPPED", 0, 0, [missing], spec=later["spec"])
    assert row_of(missing_too).note == "NoInstances"
    assert row_of(missing_too).signs == ["suspended until Thu 26 Nov 09:00"]
    for_good = resource_body("a", "STOPPED", 0, 1, spec={"suspend": True})
    assert (row_of(for_good).note, row_of(for_good).signs) == ("Suspended", [])
