"""Calendar feeds: who gets which calendar, and what is in it."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest
import recurring_ical_events
from hypothesis import given
from hypothesis import strategies as st
from ical.calendar_stream import IcsCalendarStream
from icalendar import Calendar

from booking_operator.api.calendar_feed import token_hash
from booking_operator.api.kinds import CALENDAR_FEED
from booking_operator.board.feeds import Feeds, feed_store
from booking_operator.cli.kubectl.session import FrozenClock
from booking_operator.client.cluster import Cluster
from booking_operator.client.errors import CommandError
from tests.support.people import NOW, booking_body
from tests.support.reviews import ReviewingCluster

TOKEN = "s" * 43
AFTERNOON = booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00")
OFFICE = booking_body("office", "analytics", "grace, the <b>", "25 09:00", "25 18:00")
ALLOWED = ("ada", "bookings", "team-a")


def feed_body(name: str = "feed", token: str = TOKEN, **spec: Any) -> dict[str, Any]:
    shown = {} if "user_id" in spec else {"resource_name": "analytics"}
    return {
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": f"uid-{name}",
            "creationTimestamp": spec.pop("created", "2026-11-01T00:00:00Z"),
        },
        "spec": {"owner": "ada", "token_sha256": token_hash(token)} | shown | spec,
    }


class Server:
    """The feeds of a board, whose store has what the API server has."""

    def __init__(self, *feeds: dict[str, Any], bookings: Any = (AFTERNOON, OFFICE)) -> None:
        self.cluster = ReviewingCluster(ALLOWED)
        self.cluster.objects = {"calendarfeeds": list(feeds), "bookings": list(bookings)}
        store = feed_store()
        store.replace([CALENDAR_FEED.adapter.validate_python(body) for body in feeds])
        self.feeds = Feeds(
            cast("Cluster", self.cluster), store, FrozenClock(NOW), "https://bookings.example.com"
        )

    async def get(self, token: str = TOKEN) -> str:
        body = await self.feeds.calendar(token)
        return "" if body is None else body.decode()


async def test_a_calendar_is_what_another_library_reads() -> None:
    text = await Server(feed_body()).get()
    parsed = IcsCalendarStream.calendar_from_ics(text)
    first, second = sorted(parsed.events, key=lambda event: event.uid)
    assert (first.summary, second.summary) == ("analytics: ada", "analytics: grace, the <b>")
    assert (first.dtstart, first.dtend) == (
        datetime(2026, 11, 24, 12, tzinfo=UTC),
        datetime(2026, 11, 24, 16, tzinfo=UTC),
    )
    assert first.uid == "my-afternoon@manager.kotaico.de"
    assert first.description == "Booking team-a/my-afternoon"


async def test_a_calendar_program_finds_the_events_of_a_day() -> None:
    calendar = Calendar.from_ical(await Server(feed_body()).get())
    found = recurring_ical_events.of(calendar).at("20261125")
    assert [str(event["SUMMARY"]) for event in found] == ["analytics: grace, the <b>"]
    assert str(calendar["SOURCE"]) == f"https://bookings.example.com/feeds/{TOKEN}.ics"
    assert str(calendar["NAME"]) == str(calendar["X-WR-CALNAME"]) == "analytics in team-a"
    assert calendar["REFRESH-INTERVAL"].to_ical() == b"PT1H"
    assert str(calendar["X-PUBLISHED-TTL"]) == "PT1H"


@given(
    user=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=256
    )
)
async def test_any_user_can_be_read_again(user: str) -> None:
    text = await Server(feed_body(), bookings=[booking_body("b", "analytics", user, "13:00", "17:00")]).get()
    assert len(IcsCalendarStream.calendar_from_ics(text).events) == 1
    assert len(Calendar.from_ical(text).walk("VEVENT")) == 1


async def test_the_same_bookings_give_the_same_bytes() -> None:
    assert await Server(feed_body()).get() == await Server(feed_body()).get()


async def test_a_busy_calendar_names_nobody() -> None:
    text = await Server(feed_body(detail="Busy")).get()
    assert text.count("SUMMARY:Booked") == 2
    assert "ada" not in text
    assert "DESCRIPTION" not in text


@pytest.mark.parametrize(
    ("spec", "selector", "name"),
    [
        ({}, "spec.resource_name=analytics", "analytics in team-a"),
        ({"user_id": "a,b=c\\d"}, "spec.user_id=a\\,b\\=c\\\\d", "Bookings of a,b=c\\d in team-a"),
    ],
)
async def test_only_the_bookings_of_the_feed_are_read(spec: dict[str, Any], selector: str, name: str) -> None:
    server = Server(feed_body(**spec))
    calendar = Calendar.from_ical(await server.get())
    assert server.cluster.selectors == [(("fieldSelector", selector),)]
    assert str(calendar["NAME"]) == name


async def test_an_unknown_address_asks_nothing_of_the_api_server() -> None:
    server = Server(feed_body())
    assert await server.get("unknown") == ""
    assert server.cluster.reviews == 0


async def test_a_revoked_feed_gives_nothing_although_the_cache_still_has_it() -> None:
    server = Server(feed_body())
    server.cluster.objects["calendarfeeds"].clear()
    assert await server.get() == ""


async def test_a_feed_that_was_made_again_with_the_same_name_is_another_one() -> None:
    server = Server(feed_body())
    server.cluster.objects["calendarfeeds"][0]["metadata"]["uid"] = "another"
    assert await server.get() == ""


@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": "2026-11-24T13:03:00Z"},
        {"detail": "Nothing"},
        {"owner": "mallory"},
    ],
)
async def test_a_feed_without_a_right_gives_nothing(change: dict[str, str]) -> None:
    assert await Server(feed_body(**change)).get() == ""


async def test_the_owner_may_have_the_permission_by_a_group() -> None:
    server = Server(feed_body(owner="bob", owner_groups=["team"]))
    assert await server.get() == ""
    server.cluster.grants.add(("team", "bookings", "team-a"))
    assert await server.get() != ""
    server.cluster.grants.clear()  # each fetch asks again
    assert await server.get() == ""


async def test_a_copy_of_a_hash_does_not_replace_the_feed() -> None:
    copy = feed_body("copy", owner="mallory", created="2026-11-02T00:00:00Z")
    assert "analytics in team-a" in await Server(copy, feed_body()).get()


async def test_an_error_of_the_api_server_is_an_error() -> None:
    server = Server(feed_body())
    server.cluster.error = CommandError("no answer")
    with pytest.raises(CommandError):
        await server.get()
