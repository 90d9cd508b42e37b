"""Objects as the API server serves them, whole and garbled."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.api.meta import Condition, Garbled, merge_conditions
from booking_operator.api.resource import ResourceSpec, ad_hoc_claim, policy
from booking_operator.domain import report
from booking_operator.domain.power import Unbooked

NOW = datetime(2026, 1, 1, 9, tzinfo=UTC)
META = {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def resource(**spec: Any) -> Any:
    return RESOURCE.adapter.validate_python({"metadata": META, "spec": {"tag": "t", **spec}})


@given(st.sampled_from([BOOKING, RESOURCE]), json, json)
def test_whatever_is_stored_is_read(kind: Any, spec: Any, status: Any) -> None:
    """One bad object must never stop a list."""
    read = kind.adapter.validate_python({"metadata": META, "spec": spec, "status": status})
    assert isinstance(read.spec, Garbled | kind.spec)
    if isinstance(read.spec, Garbled):
        assert read.spec.reason.startswith("spec")
    assert isinstance(read.status, kind.status)


def test_a_missing_spec_is_garbled() -> None:
    assert BOOKING.adapter.validate_python({"metadata": META}).spec == Garbled("spec: it is missing")


def test_all_problems_are_named() -> None:
    spec = {"resource_name": "", "start_at": "x", "end_at": "y"}
    garbled = BOOKING.adapter.validate_python({"metadata": META, "spec": spec}).spec
    assert isinstance(garbled, Garbled)
    reason = garbled.reason
    for field in ("spec.resource_name", "spec.start_at", "spec.end_at", "spec.user_id"):
        assert field in reason


def test_managed_fields_are_not_kept() -> None:
    read = BOOKING.adapter.validate_python({"metadata": META | {"managedFields": [{}]}, "spec": {}})
    assert not hasattr(read, "__dict__")
    assert not hasattr(read.metadata, "managedFields")


def test_the_go_operators_resource() -> None:
    read = resource(booked_by="", booked_until="", type="ec2")
    group = read.group("eu-central-1")
    assert (group.service, group.tag, group.region) == ("ec2", "t", "eu-central-1")
    assert ad_hoc_claim(read, read.spec) is None


def test_an_ad_hoc_booking_needs_both_fields() -> None:
    until = "2026-01-02T00:00:00Z"
    for spec in ({"booked_by": "ada"}, {"booked_until": until}):
        read = resource(**spec)
        assert ad_hoc_claim(read, read.spec) is None
    read = resource(booked_by="ada", booked_until=until)
    claim = ad_hoc_claim(read, read.spec)
    assert claim is not None
    assert claim.active(NOW)
    long_over = resource(booked_by="ada", booked_until="2025-01-02T00:00:00Z")
    assert ad_hoc_claim(long_over, long_over.spec) is None


def test_policy() -> None:
    read = resource(unbooked="Leave", warm_up="5m", hibernate=True)
    assert isinstance(read.spec, ResourceSpec)
    how = policy(read.spec, dry_run=True)
    assert (how.unbooked, how.warm_up, how.hibernate, how.acts) == (
        Unbooked.LEAVE,
        timedelta(minutes=5),
        True,
        False,
    )


def test_transition_times_change_with_the_status_alone() -> None:
    verdict = report.Condition("Ready", False, "Starting", "0 of 2")
    first = merge_conditions((), [verdict], 1, NOW)
    later = merge_conditions(first, [replace(verdict, message="1 of 2")], 1, NOW + timedelta(minutes=1))
    assert later[0].last_transition_time == first[0].last_transition_time == "2026-01-01T09:00:00Z"
    assert later[0].message == "1 of 2"
    done = merge_conditions(later, [replace(verdict, status=True)], 2, NOW + timedelta(minutes=2))
    assert (done[0].last_transition_time, done[0].observed_generation) == ("2026-01-01T09:02:00Z", 2)


def test_a_status_goes_out_as_it_comes_in() -> None:
    condition = Condition("Ready", "True", "Running", "fine", "2026-01-01T09:00:00Z", 3)
    status = replace(resource().status, conditions=(condition,), instances=2)
    dumped = RESOURCE.status_adapter.dump_python(status, mode="json", by_alias=True)
    assert dumped["conditions"][0]["lastTransitionTime"] == "2026-01-01T09:00:00Z"
    assert RESOURCE.status_adapter.validate_python(dumped) == status
