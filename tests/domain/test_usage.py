"""The usage of a Resource, compared with a second-by-second integration."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.instance import Instance, InstanceState, Observation
from booking_operator.domain.usage import (
    MAX_CHARGED,
    OTHERS,
    Booked,
    Fleet,
    Meter,
    UsageAmounts,
    UsageSpan,
    UsageSums,
    by_month,
    month_end,
    month_of,
    months_until,
    to_instant,
    to_second,
)
from tests.support.usage_integration import Integral, Observed, Rebooked, Trace, integrate

BEGIN = to_second(datetime.fromisoformat("2026-11-30T23:50:00+00:00"))
LENGTH = 1500


def at(second: int) -> datetime:
    return to_instant(BEGIN + second)


def booking(user: str, start: int, end: int) -> BookingInterval:
    return BookingInterval(f"{user}-{start}", user, at(start), at(end), at(0))


bookings = st.lists(
    st.builds(
        lambda user, start, length: booking(user, start, start + length),
        st.sampled_from("abc"),
        st.integers(-200, LENGTH),
        st.integers(1, 600),
    ),
    max_size=4,
).map(lambda found: tuple(sorted(found, key=lambda item: item.precedence)))
booked = st.builds(Booked, bookings, st.integers(0, 120).map(lambda s: timedelta(seconds=s)))
fleets = st.builds(
    lambda small, large, running: Fleet(
        {"s": small, "l": large}, {"s": min(small, running), "l": min(large, running)}
    ),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 3),
)


events = st.lists(
    st.one_of(
        st.builds(Observed, st.integers(BEGIN, BEGIN + LENGTH), fleets, booked),
        st.builds(Rebooked, st.integers(BEGIN, BEGIN + LENGTH), booked),
    ),
    min_size=1,
    max_size=12,
)
# In half of the traces, the clock is set back and forth.
traces = st.one_of(events.map(lambda found: sorted(found, key=lambda event: event.second)), events)


def metered(trace: Trace) -> Meter:
    meter = Meter()
    for event in trace:
        if isinstance(event, Observed):
            meter.observe(to_instant(event.second), event.fleet, event.booked)
        else:
            meter.rebook(to_instant(event.second), event.booked)
    return meter


def usage_of(spans: list[UsageSpan], begin: int) -> UsageSums:
    usage = UsageSums(begin)
    for span in spans:
        usage.add(span)
    return usage


@given(trace=traces, begin=st.integers(BEGIN - 100, BEGIN + LENGTH))
def test_the_sums_are_those_of_a_second_by_second_integration(trace: Trace, begin: int) -> None:
    usage = usage_of(list(metered(trace).spans), begin)
    assert Integral.of(usage) == integrate(trace, begin, usage.until)


@given(trace=traces, cuts=st.lists(st.integers(0, LENGTH), max_size=5))
def test_the_sums_do_not_depend_on_when_they_were_written(trace: Trace, cuts: list[int]) -> None:
    spans = list(metered(trace).spans)
    begin = spans[0].begin if spans else BEGIN
    whole, parts = usage_of(spans, begin), UsageSums(begin)
    for cut in [*sorted(cuts), LENGTH]:
        for span in spans:
            if (part := span.clipped(begin, BEGIN + cut)) is not None:
                parts.add(part)  # parts that were added before are not added again
    assert (parts.until, parts.sizes, +parts.charged) == (whole.until, whole.sizes, +whole.charged)


@given(trace=traces)
def test_the_amounts_are_consistent(trace: Trace) -> None:
    meter = metered(trace)
    usage = usage_of(list(meter.spans), meter.spans[0].begin if meter.spans else BEGIN)
    for amount in usage.sizes.values():
        assert 0 <= amount.saved <= amount.capacity
        assert amount.missing <= amount.booked <= amount.capacity
        assert amount.unbooked <= amount.running
    total = usage.total
    assert sum(usage.charged.values()) + total.unbooked == total.running


@given(trace=traces)
def test_months_divide_the_sums(trace: Trace) -> None:
    spans = list(metered(trace).spans)
    whole = usage_of(spans, spans[0].begin if spans else BEGIN)
    months = dict[str, list[UsageSpan]]()
    for month, span in by_month(spans):
        months.setdefault(month, []).append(span)
        assert month_of(span.begin) == month_of(span.end - 1) == month
    total = UsageAmounts()
    for parts in months.values():
        total += usage_of(parts, parts[0].begin).total
    assert total == whole.total


def test_time_that_a_clock_repeats_is_counted_once() -> None:
    fleet = Fleet({"s": 1}, {"s": 1})
    meter = Meter()
    for second in (0, 60, 120, 30, 90, 150):  # set back by 90 s
        meter.observe(at(second), fleet, Booked())
    usage = usage_of(list(meter.spans), BEGIN)
    assert (usage.until, usage.total.running) == (BEGIN + 150, 150)


def test_a_clock_that_is_set_forward_leaves_unobserved_time() -> None:
    fleet = Fleet({"s": 1}, {"s": 1})
    meter = Meter()
    for second in (0, 60, 3660, 3720):
        meter.observe(at(second), fleet, Booked())
    total = usage_of(list(meter.spans), BEGIN).total
    assert (total.capacity, total.running, total.unobserved, total.saved) == (3720, 120, 3600, 0)


def test_time_before_the_first_span_is_unobserved() -> None:
    usage = UsageSums(BEGIN)
    usage.add(UsageSpan(BEGIN + 100, BEGIN + 160, Fleet({"s": 2}, {"s": 1}), Booked()))
    total = usage.total
    assert (total.capacity, total.unobserved, total.running, total.unbooked) == (320, 200, 60, 60)


def test_time_before_the_creation_of_the_resource_does_not_count() -> None:
    fleet, usage = Fleet({"s": 2}, {"s": 1}), UsageSums(BEGIN)
    usage.skip_to(BEGIN + 100, fleet, exists_since=BEGIN + 70)
    assert (usage.until, usage.total.capacity, usage.total.unobserved) == (BEGIN + 100, 60, 60)
    usage.skip_to(BEGIN + 50, fleet)  # it is counted already
    assert (usage.until, usage.total.capacity) == (BEGIN + 100, 60)


def test_the_number_of_users_with_their_own_sum_is_limited() -> None:
    fleet, usage = Fleet({"s": 1}, {"s": 1}), UsageSums(BEGIN)
    for number in range(MAX_CHARGED + 5):
        plan = Booked((booking(f"user-{number}", 0, 5000),))
        usage.add(UsageSpan(BEGIN + number, BEGIN + number + 1, fleet, plan))
    assert len(usage.charged) == MAX_CHARGED + 1
    assert usage.charged[OTHERS, "s"] == 5
    assert sum(usage.charged.values()) == usage.total.running == MAX_CHARGED + 5


def test_a_warm_up_is_charged_to_the_booking_that_it_serves() -> None:
    plan = Booked((booking("ada", 60, 120),), timedelta(seconds=60))
    usage = usage_of([UsageSpan(BEGIN, BEGIN + 150, Fleet({"s": 1}, {"s": 1}), plan)], BEGIN)
    total = usage.total
    assert usage.charged == {("ada", "s"): 120}
    assert (total.running, total.booked, total.unbooked, total.missing) == (150, 60, 30, 0)


def test_equal_spans_are_one_span_and_old_ones_are_forgotten() -> None:
    fleet = Fleet({"s": 1}, {"s": 1})
    meter = Meter()
    for second in range(0, 7200, 60):
        meter.observe(at(second), fleet, Booked())
    assert [(span.begin - BEGIN, span.end - BEGIN) for span in meter.spans] == [(0, 7140)]
    meter.forget_before(BEGIN + 7000)
    assert [(span.begin - BEGIN, span.end - BEGIN) for span in meter.spans] == [(7000, 7140)]


def test_the_fleet_counts_each_machine_of_an_instance() -> None:
    running, stopped = InstanceState.RUNNING, InstanceState.STOPPED
    observation = Observation(
        (
            Instance("i-1", running, sizes=("t3.large",)),
            Instance("i-2", stopped, sizes=("t3.large",)),
            Instance("db", running, sizes=("db.r6g.large", "db.r6g.large")),
        ),
        at(0),
    )
    assert Fleet.of(observation) == Fleet(
        {"t3.large": 2, "db.r6g.large": 2}, {"t3.large": 1, "db.r6g.large": 2}
    )


@pytest.mark.parametrize(
    ("instant", "end"),
    [("2026-11-30T23:59:59+00:00", "2026-12-01"), ("2026-12-01T00:00:00+00:00", "2027-01-01")],
)
def test_months_are_utc(instant: str, end: str) -> None:
    second = to_second(datetime.fromisoformat(instant))
    assert f"{to_instant(month_end(second)):%Y-%m-%d}" == end


def test_the_months_of_the_retention() -> None:
    assert months_until("2026-02", 3) == ["2025-12", "2026-01", "2026-02"]
    assert len(months_until("2026-11", 14)) == 14
