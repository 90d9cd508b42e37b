"""The forecast: the calls for the bookings of a time span, late bookings, and remedies."""

from collections.abc import Sequence
from datetime import timedelta

from booking_operator.cloud.batching.token_bucket import (
    BucketLimit,
    LimitsOf,
    RequestLimits,
    published_limits,
)
from booking_operator.cloud.forecast import Forecast, Member, forecast
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.group import Group
from booking_operator.engine.store import Key
from tests.support.virtual import EPOCH, after

DAY = timedelta(hours=24)


def booking(name: str, start: float, end: float) -> BookingInterval:
    return BookingInterval(name, "ada", after(start), after(end), EPOCH)


def member(
    name: str,
    *bookings: BookingInterval,
    size: int = 2,
    warm_up: float = 0,
    service: str = "ec2",
    account: str = "",
    namespace: str = "ns",
) -> Member:
    group = Group(service, account, "eu-west-1", name)
    return Member(Key(namespace, name), group, size, timedelta(seconds=warm_up), list(bookings))


def foreseen(
    members: Sequence[Member], span: timedelta = DAY, limits: LimitsOf = published_limits
) -> Forecast:
    return forecast(members, EPOCH, EPOCH + span, limits)


def test_calls_and_peaks_are_counted_by_action_account_and_region() -> None:
    found = foreseen(
        [
            member("a", booking("a1", 60, 120), booking("a2", 300, 400)),
            member("b", booking("b1", 60, 200), size=3),
            member("c", booking("c1", 60, 200), account="prod"),
        ]
    )
    rows = [(item.call, item.account, item.calls, item.instances, item.peak) for item in found.calls]
    assert rows == [
        ("StartInstances", "", 2, 7, 5),
        ("StopInstances", "", 3, 7, 3),
        ("StartInstances", "prod", 1, 2, 2),
        ("StopInstances", "prod", 1, 2, 2),
    ]
    start = found.calls[0]
    assert (start.peak_at, start.peak_done_at) == (after(60), after(60))
    assert found.late == []


def test_back_to_back_bookings_need_one_start_and_one_stop() -> None:
    found = foreseen([member("a", booking("1", 60, 120), booking("2", 120, 200), booking("3", 90, 150))])
    assert [(item.call, item.calls) for item in found.calls] == [("StartInstances", 1), ("StopInstances", 1)]


def test_only_boundaries_in_the_span_count() -> None:
    found = foreseen([member("a", booking("1", -60, 30), booking("2", 99999, 100000))])
    assert [(item.call, item.calls) for item in found.calls] == [("StopInstances", 1)]


def test_each_database_needs_a_call() -> None:
    found = foreseen([member("a", booking("1", 60, 120), size=3, service="rds")])
    assert [(item.call, item.calls) for item in found.calls] == [
        ("StartDBInstance", 3),
        ("StopDBInstance", 3),
    ]


def test_starts_and_stops_of_scaled_groups_share_the_limits_of_their_call() -> None:
    """A burst of 50 calls, and then five a second."""
    stopped = [member(f"old{n}", booking(f"o{n}", 60, 3600), size=1, service="asg") for n in range(50)]
    started = [member(f"new{n}", booking(f"n{n}", 3600, 7200), size=1, service="asg") for n in range(50)]
    assert foreseen(started).late == []
    late = foreseen([*stopped, *started]).late
    assert max(item.late_by for item in late) > timedelta(seconds=5)


def test_a_longer_warm_up_is_the_remedy_for_too_many_starts_at_one_instant() -> None:
    members = [member(f"r{n}", booking(f"b{n}", 3600, 7200)) for n in range(700)]
    found = foreseen(members)
    assert len(found.late) == 199  # two more leave within the tolerance
    worst = max(item.late_by for item in found.late)
    assert 195 <= worst.total_seconds() <= 205
    assert all(item.remedy is not None for item in found.late)
    remedies = {item.resource: item.remedy for item in found.late}
    fixed = [
        member(
            item.key.name, *item.bookings, warm_up=(remedies.get(item.key) or timedelta(0)).total_seconds()
        )
        for item in members
    ]
    assert foreseen(fixed).late == []


def test_lateness_counts_from_the_start_of_the_warm_up() -> None:
    members = [member(f"r{n}", booking(f"b{n}", 3600, 7200), warm_up=120) for n in range(510)]
    late = foreseen(members).late
    assert len(late) == 9
    assert max(item.started_at for item in late) <= after(3600 - 120 + 12)


def test_a_warm_up_of_more_than_a_day_is_no_remedy() -> None:
    slow, three_days = RequestLimits(BucketLimit(5, 2), BucketLimit(100, 0.01)), 3 * DAY.total_seconds()
    ahead = booking("b", three_days, three_days + 3600)
    for size, helps in ((900, True), (1100, False)):
        found = foreseen([member("huge", ahead, size=size)], 4 * DAY, lambda *_: slow)
        assert [item.remedy is not None for item in found.late] == [helps]


def test_one_namespace_does_not_make_another_late() -> None:
    burst = [member(f"r{n}", booking(f"b{n}", 3600, 7200), size=4, namespace="burst") for n in range(500)]
    found = foreseen([*burst, member("one", booking("one", 3600, 7200), namespace="other")])
    assert "other" not in {item.resource.namespace for item in found.late}


def test_empty_groups_need_no_calls() -> None:
    found = foreseen([member("a", booking("1", 60, 120), size=0)])
    assert (found.calls, found.late) == ([], [])


def test_a_warm_up_that_would_begin_in_the_past_is_no_remedy() -> None:
    found = foreseen([member("huge", booking("b", 60, 7200), size=1400)])
    assert [item.remedy for item in found.late] == [None]
