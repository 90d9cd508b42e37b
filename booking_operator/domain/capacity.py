"""The capacity of a scaled group: how many machines it may and should have.

A scaled group, such as an Auto Scaling group, is off while its capacity is zero. Before the operator scales a
group down, it writes the present capacity into a tag in AWS, so that neither a lost cluster nor a new
installation forgets it. The tag stays there while the group is on, and the next stop writes it again if it
has changed. So a change of the capacity while the group is on is kept, and a crash between the two calls of a
stop leaves nothing to undo:
- After the tag is written, the group still has the capacity that the tag says.
- After the group is scaled, the tag says what to restore.
"""

import re
from dataclasses import dataclass

CAPACITY_TAG = "resource-booking-capacity"
"""The AWS tag with the capacity to restore: `min/max/desired`."""

_CAPACITY = re.compile(r"(\d{1,9})/(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Capacity:
    """The capacity of a scaled group.

    Attributes:
        minimum: how few machines it may have.
        maximum: how many machines it may have.
        desired: how many machines it should have.
    """

    minimum: int
    maximum: int
    desired: int

    def __str__(self) -> str:
        """Return the value of the tag: `min/max/desired`."""
        return f"{self.minimum}/{self.maximum}/{self.desired}"

    @property
    def is_off(self) -> bool:
        """Whether it has no machines."""
        return self.desired == 0


OFF = Capacity(0, 0, 0)


def parse_capacity(text: str) -> Capacity:
    """Parse the value of the tag.

    Raises:
        ValueError: `text` is not a capacity with machines. The message says what is wrong, and shows an
            example.
    """
    found = _CAPACITY.fullmatch(text.strip())
    example = "use min/max/desired, such as 1/4/2"
    if found is None:
        raise ValueError(f"{text!r} is not a capacity; {example}")
    capacity = Capacity(*(int(part) for part in found.groups()))
    if capacity.is_off:
        raise ValueError(f"{text!r} has no machines; {example}")
    if not capacity.minimum <= capacity.desired <= capacity.maximum:
        raise ValueError(f"desired in {text!r} is not between min and max; {example}")
    return capacity


def remembered_capacity(tag: str | None) -> Capacity | None:
    """Return the capacity to restore; None if the tag is missing or not valid. `off_reason` says why.

    Args:
        tag: the value of the tag; None without a tag.
    """
    try:
        return parse_capacity(tag or "")
    except ValueError:
        return None


def off_reason(tag: str | None) -> str:
    """Return why a group without machines cannot be started, as the end of the sentence "it …".

    Args:
        tag: the value of its tag; None without a tag.

    Returns:
        The reason; empty if the tag says what to restore.
    """
    fix = f"set its size once, or its tag {CAPACITY_TAG} to min/max/desired, such as 1/4/2"
    if tag is None:
        return f"has the size 0, and its size from before is not known; {fix}"
    try:
        parse_capacity(tag)
    except ValueError as error:
        return f"has the size 0, and its tag {CAPACITY_TAG} is not valid: {error}"
    return ""
