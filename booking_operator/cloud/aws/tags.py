"""The tags of instances and databases, in the same form for all services."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

from booking_operator.domain.instance import Lock

APPLICATION_TAG = "resource-booking-application"
"""The value is the group of the instance. The operator ignores instances without this tag."""
MANAGED_TAG = "resource-booking-managed"
"""`true` asks a ResourceMonitor to create a Resource for the group."""
IGNORE_TAG = "resource-booking-ignore"
"""`true` makes the operator leave the instance alone: it never starts, stops or tags it."""
LOCKED_BY_TAG = "resource-booking-locked-by"
"""The user who has booked the instance now."""
LOCKED_UNTIL_TAG = "resource-booking-locked-until"
"""The end of the lock: RFC 3339, in UTC."""
LOCK_TAGS = (LOCKED_BY_TAG, LOCKED_UNTIL_TAG)


class Tag(TypedDict, total=False):
    """One tag in the form of the AWS API."""

    Key: str
    Value: str


def to_dict(tags: Iterable[Tag]) -> dict[str, str]:
    """Return the tags as a dict by key."""
    return {tag.get("Key", ""): tag.get("Value", "") for tag in tags}


def asks_for_resource(tags: Mapping[str, str]) -> bool:
    """Whether the tags ask for a Resource. An ignored instance does not."""
    return _is_true(tags, MANAGED_TAG) and not ignored_reason(tags)


def ignored_reason(tags: Mapping[str, str]) -> str:
    """Return why the operator leaves an instance with these tags alone; empty if it does not.

    The text is the end of the sentence "it …".
    """
    return f"has the tag {IGNORE_TAG}=true" if _is_true(tags, IGNORE_TAG) else ""


def _is_true(tags: Mapping[str, str], key: str) -> bool:
    """Whether a tag is `true`. Tools and people also write `True`, `TRUE`, or a blank after it."""
    return tags.get(key, "").strip().lower() == "true"


def read_lock(tags: Mapping[str, str]) -> Lock | None:
    """Return the content of the lock tags, or None if there are none."""
    if LOCKED_BY_TAG not in tags and LOCKED_UNTIL_TAG not in tags:
        return None
    return Lock(tags.get(LOCKED_BY_TAG, ""), tags.get(LOCKED_UNTIL_TAG, ""))


def write_lock(lock: Lock) -> list[Tag]:
    """Return the lock tags for `lock`."""
    return [{"Key": LOCKED_BY_TAG, "Value": lock.by}, {"Key": LOCKED_UNTIL_TAG, "Value": lock.until}]
