"""The proxy's request limits, compared with the documentation of AWS."""

import pytest

from tests.support.aws_limits import UNFILTERED, Bucket, Limits, counted_as

PLACE = ("123456789012", "eu-west-1")


def taken(limits: Limits, action: str, instances: int, now: float, calls: int = 10_000) -> int:
    """The number of equal calls that are accepted at one instant, of at most `calls`."""
    return sum(limits.admits(*PLACE, action, instances, now) for _ in range(calls))


@pytest.mark.parametrize(
    ("action", "burst", "per_second"),
    [
        ("StartInstances", 5, 2),
        ("StopInstances", 50, 5),
        ("CreateTags", 100, 10),
        ("DeleteTags", 100, 10),
        ("DescribeInstances", 100, 20),
        (UNFILTERED, 50, 10),
    ],
)
def test_request_buckets(action: str, burst: int, per_second: int) -> None:
    limits = Limits()
    assert taken(limits, action, 1, now=7.0) == burst
    assert taken(limits, action, 1, now=7.0) == 0
    assert taken(limits, action, 1, now=8.0) == per_second
    assert taken(limits, action, 1, now=1000.0) == burst


@pytest.mark.parametrize(("action", "per_second"), [("StartInstances", 2), ("StopInstances", 20)])
def test_instance_buckets(action: str, per_second: int) -> None:
    limits = Limits()
    assert limits.admits(*PLACE, action, 1000, now=0.0)
    assert not limits.admits(*PLACE, action, 1, now=0.0)
    assert not limits.admits(*PLACE, action, per_second + 1, now=1.0)
    assert limits.admits(*PLACE, action, per_second, now=1.0)
    assert not limits.admits(*PLACE, action, 1001, now=1e6)


def test_a_refused_call_takes_no_tokens() -> None:
    limits = Limits()
    assert taken(limits, "StartInstances", 1001, now=0.0, calls=50) == 0
    assert limits.admits(*PLACE, "StartInstances", 1000, now=0.0)


def test_two_thousand_starts_take_500_seconds() -> None:
    limits, now, left = Limits(), 0.0, 2000
    while left:
        n = min(left, 1000) if now == 0 else 2
        if limits.admits(*PLACE, "StartInstances", n, now):
            left -= n
        else:
            now += 0.5
    assert now == 500


def test_accounts_regions_and_actions_have_separate_buckets() -> None:
    limits = Limits()
    taken(limits, "StartInstances", 1, now=0.0)
    assert limits.admits("210987654321", "eu-west-1", "StartInstances", 1, now=0.0)
    assert limits.admits("123456789012", "us-east-1", "StartInstances", 1, now=0.0)
    assert limits.admits(*PLACE, "StopInstances", 1, now=0.0)


def test_drain_takes_all_request_tokens() -> None:
    limits = Limits()
    limits.drain(*PLACE, "StartInstances", now=0.0)
    limits.drain(*PLACE, "TerminateInstances", now=0.0)
    assert not limits.admits(*PLACE, "StartInstances", 1000, now=0.4)
    assert limits.admits(*PLACE, "StartInstances", 1000, now=0.5)


def test_other_actions_are_not_limited() -> None:
    assert taken(Limits(), "TerminateInstances", 1, now=0.0) == 10_000


def test_a_clock_that_does_not_advance_refills_nothing() -> None:
    bucket = Bucket(2, 1)
    bucket.take(2, now=5.0)
    assert [bucket.level(now) for now in (4.0, 5.0, 5.5, 9.0)] == [0, 0, 0.5, 2]


@pytest.mark.parametrize(
    ("action", "parameters", "counted"),
    [
        ("DescribeInstances", ["MaxResults"], "DescribeInstances"),
        ("DescribeInstances", ["Filter.1.Name", "Filter.1.Value.1"], "DescribeInstances"),
        ("DescribeInstances", ["InstanceId.1"], UNFILTERED),
        ("StartInstances", ["InstanceId.1"], "StartInstances"),
    ],
)
def test_the_action_that_a_call_counts_as(action: str, parameters: list[str], counted: str) -> None:
    assert counted_as(action, parameters) == counted
