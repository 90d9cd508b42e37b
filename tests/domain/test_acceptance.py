"""Which bookings of a Resource are accepted: examples, properties, and a brute-force oracle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import itemgetter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.acceptance import (
    ACCEPT_AHEAD,
    NO_RULES,
    AcceptanceRecord,
    BookingRequest,
    BookingRules,
    Decision,
    counted,
    decide,
)
from booking_operator.domain.booking import BookingInterval, TimeSpan

UNIT = ACCEPT_AHEAD
ORIGIN = datetime(2026, 11, 24, tzinfo=UTC)
EXCLUSIVE = BookingRules(exclusive=frozenset({"res"}))


def at(unit: float) -> datetime:
    return ORIGIN + unit * UNIT


def span(start: float, end: float) -> TimeSpan:
    return TimeSpan(at(start), at(end))


def request(
    name: str,
    start: float,
    end: float,
    *records: TimeSpan,
    created: float = 0,
    rules: BookingRules = EXCLUSIVE,
) -> BookingRequest:
    kept = tuple(AcceptanceRecord(item, rules.exclusive) for item in records)
    return BookingRequest(name, f"user of {name}", at(created), span(start, end), kept, rules=rules)


def recorded(start: float, end: float) -> AcceptanceRecord:
    return AcceptanceRecord(span(start, end), EXCLUSIVE.exclusive)


def accepted(
    *requests: BookingRequest, now: float = 0, rules: BookingRules | None = None
) -> dict[str, TimeSpan]:
    found = decide([replace(item, rules=rules or item.rules) for item in requests], at(now))
    return {name: decision.accepted for name, decision in found.items() if decision.accepted is not None}


class TestExclusive:
    """Examples of an exclusive Resource."""

    def test_the_booking_that_was_created_first_is_accepted(self) -> None:
        late, early = request("a", 10, 20, created=2), request("b", 15, 25, created=1)
        assert accepted(late, early) == {"b": span(15, 25)}

    def test_a_recorded_booking_is_kept_although_another_one_is_older(self) -> None:
        first, recorded = request("a", 10, 20), request("b", 15, 25, span(15, 25), created=1)
        assert accepted(first, recorded) == {"b": span(15, 25)}

    def test_bookings_back_to_back_are_no_conflict(self) -> None:
        assert accepted(request("a", 10, 20), request("b", 20, 30)) == {"a": span(10, 20), "b": span(20, 30)}

    def test_a_conflict_names_the_other_booking_and_the_next_free_slot(self) -> None:
        others = (request("a", 10, 20, span(10, 20)), request("c", 25, 40, span(25, 40)))
        decision = decide((*others, request("b", 15, 23)), at(0))["b"]
        assert decision.accepted is None
        assert decision.conflict is not None
        assert (decision.conflict.name, decision.conflict.span) == ("a", span(10, 20))
        assert decision.conflict.free_at == at(40)  # 20 to 25 is too short for 8 units
        assert decision.retry_at == at(20) - ACCEPT_AHEAD
        shorter = decide((*others, request("b", 15, 20)), at(0))["b"]
        assert shorter.conflict is not None
        assert shorter.conflict.free_at == at(20)

    def test_a_waiting_booking_is_accepted_shortly_before_the_other_one_ends(self) -> None:
        waiting, other = request("b", 15, 30), request("a", 10, 20, span(10, 20))
        assert accepted(waiting, other, now=18.9) == {"a": span(10, 20)}
        assert accepted(waiting, other, now=19) == {"a": span(10, 20), "b": span(20, 30)}
        # Its record then has no overlap with that of the other one, and stays the same.
        stored = replace(waiting, records=(recorded(20, 30),))
        assert accepted(stored, other, now=19.5) == {"a": span(10, 20), "b": span(20, 30)}
        assert accepted(stored, now=25) == {"b": span(20, 30)}

    def test_a_waiting_booking_is_accepted_when_the_other_one_is_deleted(self) -> None:
        assert accepted(request("b", 15, 30), now=17) == {"b": span(15, 30)}

    def test_an_extension_that_conflicts_leaves_the_old_interval_accepted(self) -> None:
        extended, other = request("a", 10, 25, span(10, 20)), request("b", 20, 30, span(20, 30), created=1)
        decision = decide((extended, other), at(12))["a"]
        assert decision.accepted == span(10, 20)
        assert decision.conflict is not None
        assert decision.conflict.name == "b"
        # The other one ends early: now the whole extension is accepted.
        shortened = request("b", 20, 21, span(20, 21), created=1)
        assert accepted(extended, shortened, now=20.5)["a"] == span(21, 25)

    def test_a_shorter_booking_frees_its_rest_only_when_that_is_stored(self) -> None:
        released, waiting = request("a", 10, 15, span(10, 20)), request("b", 15, 20)
        assert accepted(released, waiting, now=12) == {"a": span(10, 15)}
        pending = replace(released, records=(recorded(10, 20), recorded(10, 15)))
        assert accepted(pending, waiting, now=12) == {"a": span(10, 15)}
        stored = replace(released, records=(recorded(10, 15),))
        assert accepted(stored, waiting, now=12) == {"a": span(10, 15), "b": span(15, 20)}

    def test_a_booking_that_moves_away_keeps_others_out_until_that_is_stored(self) -> None:
        moved = BookingRequest("a", "ada", at(0), None, (recorded(10, 20),), rules=EXCLUSIVE)
        assert accepted(moved, request("b", 15, 20)) == {}
        assert accepted(request("b", 15, 20)) == {"b": span(15, 20)}

    def test_a_record_keeps_others_out_although_the_rules_of_its_resource_are_unknown(self) -> None:
        of_web = request("w", 10, 20, span(10, 20), rules=EXCLUSIVE)
        for unknown in (replace(of_web, rules=NO_RULES), replace(of_web, wanted=None, rules=NO_RULES)):
            found = decide((unknown, request("d", 5, 30)), at(12))["d"]
            assert found.accepted is None
            assert found.conflict is not None
            assert (found.conflict.name, found.conflict.resource) == ("w", "res")

    def test_a_record_without_one_of_the_present_resources_is_decided_again(self) -> None:
        more = replace(EXCLUSIVE, exclusive=frozenset({"res", "db"}))
        booking = replace(request("w", 10, 20, span(10, 20), created=1), rules=more)
        only_db = BookingRules(exclusive=frozenset({"db"}))
        new = request("d", 15, 30, rules=only_db)
        assert accepted(booking, new, now=12) == {"w": span(10, 20)}
        other = request("d", 15, 30, span(15, 30), rules=only_db)
        assert accepted(booking, other, now=12) == {"d": span(15, 30)}
        longer = BookingRules(more.exclusive, max_duration=5 * UNIT)
        assert accepted(replace(booking, rules=longer), now=12) == {"w": span(10, 20)}

    def test_a_shared_resource_that_becomes_exclusive(self) -> None:
        """Recorded intervals that overlap exist only then. The one that begins first is kept."""
        first, second = request("a", 10, 20, span(10, 20), created=1), request("b", 15, 25, span(15, 25))
        assert accepted(first, second) == {"a": span(10, 20)}


class TestLimits:
    """Limits of the length and of how far ahead."""

    RULES = BookingRules(max_duration=5 * UNIT, max_ahead=100 * UNIT)

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_a_booking_that_is_too_long_is_not_accepted(self, exclusive: bool) -> None:
        rules = replace(self.RULES, exclusive=EXCLUSIVE.exclusive if exclusive else frozenset())
        assert accepted(request("a", 10, 15), rules=rules) == {"a": span(10, 15)}
        decision = decide([request("a", 10, 15.1, rules=rules)], at(0))["a"]
        assert decision == Decision(None, too_long=True)

    @pytest.mark.parametrize("exclusive", [False, True])
    def test_an_extension_that_is_too_long_leaves_the_old_interval_accepted(self, exclusive: bool) -> None:
        rules = replace(self.RULES, exclusive=EXCLUSIVE.exclusive if exclusive else frozenset())
        decision = decide([request("a", 10, 17, span(10, 15), rules=rules)], at(12))["a"]
        assert decision == Decision(span(10, 15), too_long=True)

    def test_a_lower_limit_takes_nothing_away(self) -> None:
        rules = BookingRules(max_duration=1 * UNIT)
        assert accepted(request("a", 10, 17, span(10, 17)), rules=rules) == {"a": span(10, 17)}

    def test_a_booking_too_far_ahead_becomes_valid_by_itself(self) -> None:
        decision = decide([request("a", 110, 112, rules=self.RULES)], at(9))["a"]
        assert decision == Decision(None, allowed_from=at(10), retry_at=at(10))
        assert accepted(request("a", 110, 112), rules=self.RULES, now=10) == {"a": span(110, 112)}


def test_what_is_counted() -> None:
    booking = BookingInterval("a", "ada", at(10), at(20), at(0))
    limited = BookingRules(max_duration=5 * UNIT)
    assert counted(booking, None) is booking
    assert counted(booking, span(12, 14), NO_RULES) is booking
    assert counted(booking, None, EXCLUSIVE) is None
    assert counted(booking, span(20, 30), EXCLUSIVE) is None
    assert counted(booking, span(5, 12), EXCLUSIVE) == replace(booking, end_at=at(12))
    assert counted(booking, None, limited) is None
    assert counted(booking, span(10, 15), limited) == replace(booking, end_at=at(15))
    assert counted(booking, None, replace(limited, max_duration=10 * UNIT)) is booking


# Properties

numbers = st.integers(0, 40)
lengths = st.integers(1, 12)


RESOURCES = ("app", "web", "db")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[BookingRequest], int]:
    """Requests with records that do not overlap, as the operator writes them, and the present unit.

    Each booking wants one, two or three exclusive Resources. Its record may be for others, because the rules
    have changed.
    """
    requests, taken = [], set[tuple[str, int]]()
    for number in range(draw(st.integers(0, 7))):
        start, length = draw(numbers), draw(lengths)
        records = []
        begin, size = draw(numbers), draw(lengths)
        exclusive = draw(st.sets(st.sampled_from(RESOURCES), min_size=1))
        units = {(resource, unit) for resource in exclusive for unit in range(begin, begin + size)}
        if draw(st.booleans()) and not units & taken:
            taken |= units
            records.append(AcceptanceRecord(span(begin, begin + size), frozenset(exclusive)))
            shorter = draw(st.integers(1, size))
            if draw(st.booleans()):
                records.append(AcceptanceRecord(span(begin, begin + shorter), frozenset(exclusive)))
            if draw(st.integers(0, 3)) == 0:
                exclusive = draw(st.sets(st.sampled_from(RESOURCES), min_size=1))
        created = draw(st.integers(0, 3))
        rules = BookingRules(exclusive=frozenset(exclusive))
        made = request(f"b{number}", start, start + length, created=created, rules=rules)
        requests.append(replace(made, records=tuple(records)))
    return requests, draw(numbers)


def units_of(item: TimeSpan) -> set[int]:
    return set(range((item.start - ORIGIN) // UNIT, (item.end - ORIGIN) // UNIT))


@dataclass
class Oracle:
    """The rules once more, unit by unit."""

    requests: Sequence[BookingRequest]
    now: int

    def __post_init__(self) -> None:
        self.taken = {
            (item.name, resource, unit)
            for item in self.requests
            for record in item.records
            for unit in units_of(record.span)
            for resource in record.exclusive
        }

    def decisions(self) -> Mapping[str, set[int]]:
        """Return the accepted units of each booking that has not ended, apart from those in the past."""
        found: dict[str, set[int]] = {}
        everything_kept = self._kept()
        for item in sorted(self.requests, key=lambda item: (item.created_at, item.name)):
            assert item.wanted is not None
            wanted = units_of(item.wanted)
            if max(wanted) < self.now:
                continue
            kept, exclusive = everything_kept[item.name], item.rules.exclusive
            free = {unit for unit in wanted if not self._taken_by_others(item, unit)}
            missing = {unit for unit in wanted - kept if unit > self.now}
            # What another booking has at present ends within a unit, so it counts as free.
            if missing <= free:
                first = max(wanted - free, default=min(wanted) - 1) + 1
                kept |= {unit for unit in wanted if unit >= first}
            self.taken |= {(item.name, resource, unit) for unit in kept for resource in exclusive}
            found[item.name] = {unit for unit in kept if unit >= self.now}
        return found

    def _kept(self) -> dict[str, set[int]]:
        """Return the units that bookings keep. A record for others is kept if the present ones are free."""
        found = {item.name: set[int]() for item in self.requests}
        records = [(item.kept, item.name, item) for item in self.requests if item.kept is not None]
        for span, name, item in sorted(records, key=itemgetter(0, 1)):
            assert item.wanted is not None
            units, exclusive = units_of(span), item.rules.exclusive
            if max(units_of(item.wanted)) < self.now:
                continue
            if not item.records[-1].exclusive >= exclusive:
                if any(self._taken_by_others(item, unit) for unit in units):
                    continue
                self.taken |= {(name, resource, unit) for unit in units for resource in exclusive}
            found[name] = units
        return found

    def _taken_by_others(self, item: BookingRequest, unit: int) -> bool:
        others = {request.name for request in self.requests} - {item.name}
        return any((other, one, unit) in self.taken for other in others for one in item.rules.exclusive)


@given(worlds())
def test_the_decisions_are_those_of_the_oracle(world: tuple[list[BookingRequest], int]) -> None:
    requests, now = world
    found = decide(requests, at(now))
    units = {
        name: {unit for unit in units_of(decision.accepted) if unit >= now} if decision.accepted else set()
        for name, decision in found.items()
    }
    assert units == Oracle(requests, now).decisions()


@given(worlds(), st.integers())
def test_the_order_of_the_bookings_does_not_matter(
    world: tuple[list[BookingRequest], int], seed: int
) -> None:
    requests, now = world
    shuffled = Random(seed).sample(requests, len(requests))
    assert decide(requests, at(now)) == decide(shuffled, at(now))


@given(worlds())
def test_stored_decisions_are_decided_the_same_again(world: tuple[list[BookingRequest], int]) -> None:
    requests, now = world
    first = decide(requests, at(now))
    pending = [with_record(item, first) for item in requests]
    assert accepted(*pending, now=now) == accepted(*requests, now=now)


@given(worlds())
def test_the_next_free_slot_is_free_and_the_first_one(world: tuple[list[BookingRequest], int]) -> None:
    requests, now = world
    found = decide(requests, at(now))
    everything = [with_record(item, found) for item in requests]
    for item in requests:
        conflict = found[item.name].conflict if item.name in found else None
        if conflict is None:
            continue
        assert item.wanted is not None
        others = [
            record.span
            for other in everything
            for record in other.records
            if other.name != item.name and record.exclusive & item.rules.exclusive
        ]
        assert conflict.resource in item.rules.exclusive
        begins = [item.wanted.start + number * UNIT for number in range(200)]
        slots = (TimeSpan(begin, begin + item.wanted.length) for begin in begins)
        free = next(slot for slot in slots if not any(slot.overlaps(other) for other in others))
        # A booking that is accepted later than this one was refused is not known yet.
        assert conflict.free_at <= free.start
        assert conflict.free_at >= min(conflict.span.end, free.start)


def with_record(item: BookingRequest, found: Mapping[str, Decision]) -> BookingRequest:
    """Return a request whose decision is about to be stored."""
    decision = found.get(item.name)
    if decision is None or decision.accepted is None:
        return item
    return replace(
        item, records=(*item.records[:1], AcceptanceRecord(decision.accepted, item.rules.exclusive))
    )


@dataclass
class Cluster:
    """Bookings, and the operator that decides about them; writes take long, and some are lost."""

    requests: dict[str, BookingRequest]
    now: float = 0

    def decide(self, name: str) -> None:
        """Reconcile one Booking: its decision is about to be stored."""
        decision = decide(list(self.requests.values()), at(self.now)).get(name)
        if decision is not None:
            item = self.requests[name]
            about = (AcceptanceRecord(decision.accepted, item.rules.exclusive),) if decision.accepted else ()
            self.requests[name] = replace(item, records=(*item.records[:1], *about) if about else ())

    def store(self, name: str) -> None:
        """Store what is about to be stored."""
        self.requests[name] = replace(self.requests[name], records=self.requests[name].records[-1:])

    def lose(self, name: str) -> None:
        """Lose what is about to be stored, as when the operator is killed."""
        self.requests[name] = replace(self.requests[name], records=self.requests[name].records[:1])

    def edit(self, name: str, start: float, end: float) -> None:
        """Create a Booking, or change its times."""
        known = self.requests.get(name)
        if known is None:
            self.requests[name] = request(name, start, end, created=self.now)
        else:
            self.requests[name] = replace(known, wanted=span(start, end))

    def do(self, what: object, *arguments: object) -> None:
        """Do one of `steps`."""
        match what, arguments:
            case "edit", [str(name), int(start), int(length)]:
                self.edit(name, start, start + length)
            case "wait", [int(units)]:
                self.now += units
            case "delete", [str(name)]:
                self.requests.pop(name, None)
            case str(verb), [str(name)] if name in self.requests:
                getattr(self, verb)(name)

    def check(self) -> None:
        """Check that the stored intervals of different bookings do not overlap."""
        stored = [(record.span, name) for name, item in self.requests.items() for record in item.records[:1]]
        for record, name in stored:
            assert not any(record.overlaps(other) for other, another in stored if another != name)


names = st.sampled_from(["a", "b", "c", "d"])
steps = st.one_of(
    st.tuples(st.just("edit"), names, numbers, lengths),
    st.tuples(st.just("edit"), names, numbers, lengths),
    st.tuples(st.sampled_from(["decide", "decide", "store", "lose", "delete"]), names),
    st.tuples(st.just("wait"), st.integers(1, 5)),
)
"""What happens in a cluster: users edit and delete, the operator decides, and writes arrive or are lost."""


@given(st.lists(steps, max_size=40))
def test_whatever_happens_nobody_takes_an_accepted_interval_away(history: list[tuple[object, ...]]) -> None:
    cluster = Cluster({})
    for what, *arguments in history:
        before = dict(cluster.requests)
        cluster.do(what, *arguments)
        cluster.check()
        own = before.get(str(arguments[0]))
        # The own reconcile shortens the record only to what the spec wants.
        if what in ("decide", "store") and own is not None and own.kept and own.kept.end > at(cluster.now):
            left = TimeSpan(max(own.kept.start, at(cluster.now)), own.kept.end)
            assert left.within(cluster.requests[own.name].records[-1].span) == left
    for name in [*cluster.requests] * len(cluster.requests):  # until nothing changes any more
        cluster.decide(name)
        cluster.store(name)
    for name, decision in decide(list(cluster.requests.values()), at(cluster.now)).items():
        if decision.accepted is None:  # something stands against it
            wanted = cluster.requests[name].wanted
            assert wanted is not None
            others = [other for key, other in cluster.requests.items() if key != name]
            assert any(record.span.overlaps(wanted) for other in others for record in other.records)


def test_a_thousand_bookings_are_decided_in_a_moment() -> None:
    """The next reconcile of each of them decides again, so this must not take long."""
    requests = [
        request(f"b{number}", 10 * number, 10 * number + 15, created=number) for number in range(1000)
    ]
    assert len(accepted(*requests)) == 500
