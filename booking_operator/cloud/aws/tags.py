"""The tags of instances and databases, which all services show and take in the same form."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

from booking_operator.domain.instance import Lock

APPLICATION_TAG = "resource-booking-application"
"""Its value is the group of the instance. No tag, no action."""
MANAGED_TAG = "resource-booking-managed"
"""`true` asks a ResourceMonitor to make a Resource for the group."""
LOCKED_BY_TAG = "resource-booking-locked-by"
"""The user who has the instance now."""
LOCKED_UNTIL_TAG = "resource-booking-locked-until"
"""Until when: RFC 3339, in UTC."""
LOCK_TAGS = (LOCKED_BY_TAG, LOCKED_UNTIL_TAG)


class Tag(TypedDict, total=False):
    """One tag as the services have it."""

    Key: str
    Value: str


def to_dict(tags: Iterable[Tag]) -> dict[str, str]:
    """Tags by their keys."""
    return {tag.get("Key", ""): tag.get("Value", "") for tag in tags}


def asks_for_resource(tags: Mapping[str, str]) -> bool:
    """Whether the tags ask for a Resource."""
    return tags.get(MANAGED_TAG) == "true"


def read_lock(tags: Mapping[str, str]) -> Lock | None:
    """What the lock tags among `tags` say; None when there are none."""
    if LOCKED_BY_TAG not in tags and LOCKED_UNTIL_TAG not in tags:
        return None
    return Lock(tags.get(LOCKED_BY_TAG, ""), tags.get(LOCKED_UNTIL_TAG, ""))


def write_lock(lock: Lock) -> list[Tag]:
    """The tags that say what `lock` does."""
    return [{"Key": LOCKED_BY_TAG, "Value": lock.by}, {"Key": LOCKED_UNTIL_TAG, "Value": lock.until}]
