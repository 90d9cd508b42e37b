"""The timeline against a brute-force oracle, at every instant that matters."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.booking import Booking, Phase
from booking_operator.domain.booking_timeline import Agenda, Moment
from booking_operator.domain.decision_trigger import LEAD, cause, wake_at

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON = 30


def moment(claims: list[Booking], now: datetime, warm_up: timedelta = timedelta(0)) -> Moment:
    return Agenda(claims).moment(now, warm_up)


def at(minute: float) -> datetime:
    return EPOCH + timedelta(minutes=minute)


def booking(name: str, start: int, end: int, created: int = 0) -> Booking:
    return Booking(name, f"user-{name}", at(start), at(end), at(created))


@st.composite
def bookings(draw: st.DrawFn) -> list[Booking]:
    spans = draw(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.integers(0, 3)), max_size=7))
    return [
        booking(f"b{number}", start, start + length, created)
        for number, (start, length, created) in enumerate(spans)
    ]


warm_ups = st.sampled_from([timedelta(0), timedelta(minutes=1), timedelta(minutes=3)])
instants = st.integers(-5, HORIZON).map(at)


def wanted_by_oracle(claims: list[Booking], now: datetime, warm_up: timedelta) -> bool:
    return any(claim.start_at - warm_up <= now < claim.end_at for claim in claims)


def seen_by_oracle(claims: list[Booking], now: datetime, warm_up: timedelta) -> tuple[str | None, bool]:
    active = [claim for claim in claims if claim.start_at - warm_up <= now < claim.end_at]
    active.sort(key=lambda claim: claim.name)
    active.sort(key=lambda claim: claim.created_at)
    active.sort(key=lambda claim: claim.start_at)
    return (active[0].name if active else None), bool(active)


@given(bookings(), instants, warm_ups)
def test_holder_and_power_agree_with_the_oracle(
    claims: list[Booking], now: datetime, warm_up: timedelta
) -> None:
    seen = moment(claims, now, warm_up)
    assert (seen.holder.name if seen.holder else None, seen.wanted) == seen_by_oracle(claims, now, warm_up)


@given(bookings(), instants, warm_ups)
def test_nothing_changes_before_next_at(claims: list[Booking], now: datetime, warm_up: timedelta) -> None:
    seen = moment(claims, now, warm_up)
    later = [at(minute) for minute in range(-5, HORIZON + 10) if at(minute) > now]
    changes = [
        instant
        for instant in later
        if seen_by_oracle(claims, instant, warm_up) != seen_by_oracle(claims, now, warm_up)
    ]
    if changes:
        assert seen.next_at is not None
        assert now < seen.next_at <= changes[0]


@given(bookings(), instants, warm_ups)
def test_next_change_is_the_first_instant_at_which_power_differs(
    claims: list[Booking], now: datetime, warm_up: timedelta
) -> None:
    seen = moment(claims, now, warm_up)
    later = [at(minute) for minute in range(-5, HORIZON + 10) if at(minute) > now]
    expected = next(
        (instant for instant in later if wanted_by_oracle(claims, instant, warm_up) != seen.wanted), None
    )
    assert seen.next_change_at == expected


@given(bookings(), instants, warm_ups)
def test_the_order_of_bookings_is_irrelevant(
    claims: list[Booking], now: datetime, warm_up: timedelta
) -> None:
    assert moment(claims, now, warm_up) == moment(claims[::-1], now, warm_up)


@given(bookings(), st.integers(-5, HORIZON), warm_ups)
def test_following_the_wake_ups_sees_every_change_of_power_at_its_instant(
    claims: list[Booking], minute: int, warm_up: timedelta
) -> None:
    now, flips = at(minute), []
    wanted = moment(claims, now, warm_up).wanted
    for _ in range(100):
        wake = wake_at(moment(claims, now, warm_up), now)
        if wake is None:
            break
        assert wake > now
        now = wake
        if moment(claims, now, warm_up).wanted != wanted:
            wanted = not wanted
            flips.append(now)
    expected = [
        at(m)
        for m in range(minute + 1, HORIZON + 10)
        if wanted_by_oracle(claims, at(m), warm_up) != wanted_by_oracle(claims, at(m - 1), warm_up)
    ]
    assert flips == expected


def test_back_to_back_bookings_never_cause_a_stop() -> None:
    claims = [booking("a", 0, 5), booking("b", 5, 10)]
    seen = moment(claims, at(4))
    assert seen.next_change_at == at(10)
    assert seen.next_at == at(5)
    handed_over = moment(claims, at(5)).holder
    assert handed_over is not None
    assert handed_over.name == "b"


def test_a_nested_booking_that_ends_leaves_the_outer_one_holding() -> None:
    claims = [booking("outer", 0, 10), booking("inner", 2, 4)]
    for minute in (1, 3, 5):
        holder = moment(claims, at(minute)).holder
        assert holder is not None
        assert holder.name == "outer"


def test_warm_up_holds_but_is_still_scheduled() -> None:
    claim = booking("a", 10, 20)
    seen = moment([claim], at(8), timedelta(minutes=3))
    assert seen.holder == claim
    assert claim.phase(at(8)) is Phase.SCHEDULED
    assert claim.phase(at(10)) is Phase.IN_PROGRESS
    assert claim.phase(at(20)) is Phase.FINISHED


def test_without_bookings_there_is_nothing_to_wait_for() -> None:
    assert moment([], at(0)) == Moment(None, None, None, None)


def test_a_boundary_that_was_foreseen_counts_from_the_view_before_it() -> None:
    claims = [booking("a", 10, 20)]
    before = cause(None, moment(claims, at(5)), at(5))
    arrived = cause(before, moment(claims, at(10)), at(10))
    assert arrived.planned
    assert arrived.since == at(10) - LEAD


def test_the_end_of_what_is_left_after_another_has_vanished_is_not_planned() -> None:
    """When a CRD is deleted its bookings go one by one, and the last of them may end meanwhile."""
    short, long = booking("a", 10, 20), booking("b", 10, 30)
    both = cause(None, moment([short, long], at(15)), at(15))
    left = cause(both, moment([short], at(16)), at(16))
    assert left.shortened
    still = cause(left, moment([short], at(18)), at(18))
    ended = cause(still, moment([short], at(20)), at(20))
    assert not ended.planned
    assert not ended.shortened
    assert ended.since == at(20) - LEAD


def test_a_booking_that_is_extended_ends_as_planned() -> None:
    before = cause(None, moment([booking("a", 10, 20)], at(15)), at(15))
    longer = cause(before, moment([booking("a", 10, 30)], at(16)), at(16))
    assert not longer.shortened
    assert cause(longer, moment([booking("a", 10, 30)], at(30)), at(30)).planned


def test_a_booking_that_vanishes_counts_from_when_that_was_seen() -> None:
    claims = [booking("a", 10, 20)]
    before = cause(None, moment(claims, at(12)), at(12))
    after = cause(before, moment([], at(13)), at(13))
    assert not after.planned
    assert after.since == at(13)


def test_a_changed_policy_is_a_cause_of_its_own() -> None:
    seen = moment([], at(0))
    before = cause(None, seen, at(0), basis="Leave")
    assert cause(before, seen, at(9), basis="Stop").since == at(9)
    assert cause(before, seen, at(9), basis="Leave") == before


def test_just_before_a_boundary_a_new_view_is_asked_for() -> None:
    claims = [booking("a", 10, 20)]
    before = cause(None, moment(claims, at(5)), at(5))
    soon = at(10) - LEAD
    assert cause(before, moment(claims, soon), soon).since == soon
