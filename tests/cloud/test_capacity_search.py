"""The search for how many instances of a pool fit, for any capacity and any order of answers."""

from math import log2

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.cloud.batching.capacity_search import PROBE, CapacitySearch

sizes = st.integers(1, 2000)


def most_calls(instances: int) -> float:
    return 2 * log2(instances) + 3


@given(sizes, st.integers(0, 2500), st.booleans())
def test_what_fits_starts_within_few_calls(instances: int, capacity: int, probes: bool) -> None:
    search = PROBE if probes else CapacitySearch(instances)
    waiting, room, calls = list(range(instances)), capacity, 0
    started: list[int] = []
    while waiting and not search.over:
        asked = waiting[: search.size]
        calls += 1
        if len(asked) <= room:
            room -= len(asked)
            started += asked
            waiting = waiting[len(asked) :]
            search = search.accepted(len(asked))
        else:
            search = search.failed(len(asked))
    assert started == list(range(min(instances, capacity)))
    assert calls <= most_calls(instances)


@given(sizes, st.lists(st.booleans(), min_size=40, max_size=40), st.booleans())
def test_any_order_of_answers_ends_the_search(instances: int, answers: list[bool], probes: bool) -> None:
    """The capacity may change at any time, and so may the answer to a call of the same size."""
    search = PROBE if probes else CapacitySearch(instances)
    left, calls = instances, 0
    while left and not search.over:
        asked = min(left, search.size)
        assert asked > 0
        fits, calls = answers[calls], calls + 1
        left -= asked if fits else 0
        search = search.accepted(asked) if fits else search.failed(asked)
    assert calls <= most_calls(instances)


@given(sizes, st.integers(0, 2500), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_a_limit_of_instances_for_a_call_changes_nothing_about_what_starts(
    instances: int, capacity: int, rooms: list[int]
) -> None:
    """The request limits may allow fewer instances than the search wants in its next call."""
    search, left, started, number = CapacitySearch(instances), instances, 0, 0
    while left and not search.over:
        asked = min(left, search.size, rooms[number % len(rooms)])
        number += 1
        if asked <= capacity - started:
            started, left = started + asked, left - asked
            search = search.accepted(asked)
        else:
            search = search.failed(asked)
    assert started == min(instances, capacity)


def test_a_full_pool_costs_one_call_after_its_back_off() -> None:
    assert PROBE.failed(1).over
