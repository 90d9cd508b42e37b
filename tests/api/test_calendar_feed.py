"""The kind CalendarFeed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from booking_operator.api.calendar_feed import CalendarFeed, CalendarFeedSpec, Detail, token_hash
from booking_operator.api.kinds import CALENDAR_FEED
from booking_operator.api.meta import InvalidSpec

HASH = token_hash("secret")


def feed(**spec: Any) -> CalendarFeed:
    body = {"metadata": {"name": "f"}, "spec": {"owner": "ada", "token_sha256": HASH} | spec}
    found: CalendarFeed = CALENDAR_FEED.adapter.validate_python(body)
    return found


def test_a_feed_shows_a_resource_or_a_user() -> None:
    spec = feed(resource_name="analytics").spec
    assert isinstance(spec, CalendarFeedSpec)
    assert (spec.detail, spec.owner_groups, spec.expires_at) == (Detail.FULL, (), "")
    assert isinstance(feed(user_id="ada", detail="Busy").spec, CalendarFeedSpec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "set either resource_name or user_id"),
        ({"resource_name": "a", "user_id": "b"}, "set either resource_name or user_id"),
        ({"resource_name": "a", "detail": "Nothing"}, "spec.detail"),
        ({"resource_name": "a", "token_sha256": "secret"}, "spec.token_sha256"),
        ({"resource_name": "a", "expires_at": "tomorrow"}, "spec.expires_at"),
        ({"resource_name": "a", "owner": ""}, "spec.owner"),
    ],
)
def test_an_invalid_feed_names_its_field(spec: dict[str, Any], message: str) -> None:
    found = feed(**spec).spec
    assert isinstance(found, InvalidSpec)
    assert message in found.message
    assert "secret" not in found.message  # a message never has the input


def test_a_feed_expires_at_its_instant() -> None:
    spec = feed(user_id="ada", expires_at="2026-11-24T14:00:00+01:00").spec
    assert isinstance(spec, CalendarFeedSpec)
    assert not spec.expired(datetime(2026, 11, 24, 12, 59, 59, tzinfo=UTC))
    assert spec.expired(datetime(2026, 11, 24, 13, tzinfo=UTC))
    endless = feed(user_id="ada").spec
    assert isinstance(endless, CalendarFeedSpec)
    assert not endless.expired(datetime(2999, 1, 1, tzinfo=UTC))
