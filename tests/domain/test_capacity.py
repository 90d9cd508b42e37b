"""The capacity of scaled groups, and its tag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.capacity import Capacity, off_reason, parse_capacity


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50))
def test_a_capacity_survives_its_tag(minimum: int, more: int, beyond: int) -> None:
    desired = minimum + more
    capacity = Capacity(minimum, desired + beyond, desired)
    assert parse_capacity(str(capacity)) == capacity


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is not a capacity; use min/max/desired, such as 1/4/2"),
        ("1/4", "'1/4' is not a capacity"),
        ("-1/4/2", "'-1/4/2' is not a capacity"),
        ("1/4/2/", "'1/4/2/' is not a capacity"),
        ("0/4/0", "'0/4/0' has no machines"),
        ("3/4/2", "desired in '3/4/2' is not between min and max"),
        ("1/4/5", "desired in '1/4/5' is not between min and max"),
    ],
)
def test_a_tag_that_is_not_valid_says_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the message is compared below
        parse_capacity(text)
    assert str(raised.value).startswith(problem)
    assert problem in off_reason(text)


def test_a_group_without_a_size_says_what_to_do() -> None:
    assert off_reason("1/4/2") == ""
    assert off_reason(None) == (
        "has the size 0, and its size from before is not known; set its size once, or its tag "
        "resource-booking-capacity to min/max/desired, such as 1/4/2"
    )
