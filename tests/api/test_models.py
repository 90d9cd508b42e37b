"""Models of objects as the API server returns them, valid and invalid."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from json import dumps
from operator import attrgetter
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.booking import BookingSpec, BookingStatus
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER, RESOURCE
from booking_operator.api.meta import Condition, InvalidSpec, merge_conditions
from booking_operator.api.resource import ResourceSpec, ResourceStatus, ad_hoc_interval, power_policy
from booking_operator.api.scheduler import BookingSchedulerSpec
from booking_operator.domain import conditions
from booking_operator.domain.power import UnbookedPolicy
from booking_operator.domain.services import SERVICES, ServiceName

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
def test_any_stored_object_is_decoded(kind: Any, spec: Any, status: Any) -> None:
    """One invalid object must not fail a whole list."""
    read = kind.adapter.validate_python({"metadata": META, "spec": spec, "status": status})
    assert isinstance(read.spec, InvalidSpec | kind.spec)
    if isinstance(read.spec, InvalidSpec):
        assert read.spec.message.startswith("spec")
    assert isinstance(read.status, kind.status)


def test_a_missing_spec_is_invalid() -> None:
    assert BOOKING.adapter.validate_python({"metadata": META}).spec == InvalidSpec("spec: Field required")


def test_all_errors_are_reported() -> None:
    spec = {"resource_name": "", "start_at": "x", "end_at": "y"}
    garbled = BOOKING.adapter.validate_python({"metadata": META, "spec": spec}).spec
    assert isinstance(garbled, InvalidSpec)
    reason = garbled.message
    for field in ("spec.resource_name", "spec.start_at", "spec.end_at", "spec.user_id"):
        assert field in reason


def test_a_copy_of_an_invalid_object_keeps_its_errors() -> None:
    spec = {"tag": "web", "warm_up": "soon", "requires": ["db", "db", 7, ""]}
    read = RESOURCE.adapter.validate_python({"metadata": META, "spec": spec})
    assert isinstance(read.spec, InvalidSpec)
    assert "spec.warm_up: 'soon'" in read.spec.message
    assert read.requires == ("db",)
    assert replace(read, status=ResourceStatus(running=1)).spec == read.spec


def test_managed_fields_are_not_kept() -> None:
    read = BOOKING.adapter.validate_python({"metadata": META | {"managedFields": [{}]}, "spec": {}})
    assert not hasattr(read, "__dict__")
    assert not hasattr(read.metadata, "managedFields")


def test_a_resource_of_the_go_operator() -> None:
    read = resource(booked_by="", booked_until="", type="ec2")
    group = read.group("eu-central-1")
    assert (group.service, group.tag, group.region) == ("ec2", "t", "eu-central-1")
    assert ad_hoc_interval(read, read.spec) is None


def test_an_ad_hoc_booking_needs_both_fields() -> None:
    until = "2026-01-02T00:00:00Z"
    for spec in ({"booked_by": "ada"}, {"booked_until": until}):
        read = resource(**spec)
        assert ad_hoc_interval(read, read.spec) is None
    read = resource(booked_by="ada", booked_until=until)
    interval = ad_hoc_interval(read, read.spec)
    assert interval is not None
    assert interval.is_active(NOW)
    long_over = resource(booked_by="ada", booked_until="2025-01-02T00:00:00Z")
    assert ad_hoc_interval(long_over, long_over.spec) is None


def test_the_power_policy() -> None:
    read = resource(unbooked="Leave", warm_up="5m", hibernate=True)
    assert isinstance(read.spec, ResourceSpec)
    how = power_policy(read.spec, read.status, NOW, dry_run=True)
    assert (how.unbooked, how.warm_up, how.hibernate, how.may_act) == (
        UnbookedPolicy.LEAVE,
        timedelta(minutes=5),
        True,
        False,
    )


def test_transition_times_change_only_with_the_status() -> None:
    verdict = conditions.ConditionUpdate("Ready", False, "Starting", "0 of 2")
    first = merge_conditions((), [verdict], 1, NOW)
    later = merge_conditions(first, [replace(verdict, message="1 of 2")], 1, NOW + timedelta(minutes=1))
    assert later[0].last_transition_time == first[0].last_transition_time == "2026-01-01T09:00:00Z"
    assert later[0].message == "1 of 2"
    done = merge_conditions(later, [replace(verdict, status=True)], 2, NOW + timedelta(minutes=2))
    assert (done[0].last_transition_time, done[0].observed_generation) == ("2026-01-01T09:02:00Z", 2)


def test_a_status_survives_encoding_and_decoding() -> None:
    condition = Condition("Ready", "True", "Running", "fine", "2026-01-01T09:00:00Z", 3)
    status = replace(resource().status, conditions=(condition,), instances=2)
    dumped = RESOURCE.status_adapter.dump_python(status, mode="json", by_alias=True)
    assert dumped["conditions"][0]["lastTransitionTime"] == "2026-01-01T09:00:00Z"
    assert RESOURCE.status_adapter.validate_python(dumped) == status


def booking_text(name: str) -> bytes:
    spec = {"resource_name": "res-1", "user_id": "ada.lovelace"}
    times = {"start_at": "2026-01-01T09:00:00+01:00", "end_at": "2026-01-01T17:00:00+01:00"}
    condition = {"type": "HoldsLock", "status": "False", "reason": "Finished", "message": "It has ended."}
    condition["lastTransitionTime"] = "2026-01-01T16:00:00Z"
    status = {"status": "FINISHED", "conditions": [condition], "observedGeneration": 1}
    return dumps({"metadata": META | {"name": name}, "spec": spec | times, "status": status}).encode()


def test_the_interval_of_a_booking_is_cached_until_it_changes() -> None:
    read = BOOKING.adapter.validate_json(booking_text("a"))
    interval = read.interval()
    assert interval is not None
    assert read.interval() is interval
    assert isinstance(read.spec, BookingSpec)
    later = replace(read, spec=replace(read.spec, end_at="2026-01-01T18:00:00+01:00")).interval()
    assert later is not None
    assert later.end_at == interval.end_at + timedelta(hours=1)


def test_common_texts_and_instants_of_bookings_are_shared() -> None:
    one, other = (BOOKING.adapter.validate_json(booking_text(name)) for name in "ab")
    for path in (
        "metadata.namespace",
        "spec.resource_name",
        "spec.user_id",
        "spec.end_at",
        "status.status",
        "metadata.annotations",
    ):
        get = attrgetter(path)
        assert get(one) is get(other), path
    for field in ("type", "status", "reason", "message", "last_transition_time"):
        get = attrgetter(field)
        assert get(one.status.conditions[0]) is get(other.status.conditions[0]), field
    intervals = one.interval(), other.interval()
    assert intervals[0] is not None
    assert intervals[1] is not None
    assert intervals[0].end_at is intervals[1].end_at


def test_a_decoded_object_does_not_keep_its_source_text() -> None:
    text = booking_text("a")
    references = sys.getrefcount(text)
    read = BOOKING.adapter.validate_json(text)
    assert read.metadata.name == "a"
    assert sys.getrefcount(text) == references


def test_an_unchanged_condition_is_reused() -> None:
    verdict = conditions.ConditionUpdate("Ready", False, "Starting", "1 of 2 instances are running.")
    first = merge_conditions((), [verdict], 1, NOW)
    later = NOW + timedelta(minutes=1)
    assert merge_conditions(first, [verdict], 1, later)[0] is first[0]
    assert merge_conditions(first, [verdict], 2, later)[0] == replace(first[0], observed_generation=2)


@pytest.mark.parametrize(
    ("type_", "learnt", "minutes"), [("ec2", "", 2), ("rds", "", 10), ("ec2", "garbage", 2), ("ec2", "7m", 7)]
)
def test_an_automatic_warm_up_comes_from_the_status(type_: str, learnt: str, minutes: float) -> None:
    read = replace(resource(type=type_, warm_up="auto"), status=ResourceStatus(warm_up=learnt))
    assert read.warm_up == timedelta(minutes=minutes)


def test_each_service_type_has_its_facts() -> None:
    assert set(get_args(ServiceName)) == set(SERVICES)


def test_a_template_without_when_keeps_the_hash_of_earlier_versions() -> None:
    """Another hash would make every scheduler write all of its bookings again after an upgrade."""

    def hashed(**more: Any) -> str:
        recipient = {"type": "email", "recipient": "ada@example.com"} | more
        template = {"resource_name": "analytics", "user_id": "ada", "notifications": [recipient]}
        spec = {"schedule": "0 9 * * *", "duration": 60, "bookingTemplate": template}
        scheduler = BOOKING_SCHEDULER.adapter.validate_python({"metadata": {"name": "x"}, "spec": spec})
        assert isinstance(scheduler.spec, BookingSchedulerSpec)
        return scheduler.spec.template_hash()

    assert hashed() == hashed(when=["Ending"]) == "768f461818868952"
    assert hashed(when=["Ready"]) != hashed()


def test_an_exclusive_resource_has_no_ad_hoc_booking() -> None:
    spec = {"tag": "web", "sharing": "Exclusive", "booked_by": "ada"}
    found = RESOURCE.adapter.validate_python({"metadata": {"name": "x"}, "spec": spec}).spec
    assert isinstance(found, InvalidSpec)
    assert found.message == (
        "spec: booked_by needs sharing: Shared; for an exclusive Resource, create a Booking"
    )


@pytest.mark.parametrize(
    "fields",
    [
        ("web", "soon", "2026-01-01T00:00:00Z"),
        ("web", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("other", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
    ],
)
def test_a_record_that_another_client_wrote_counts_for_nothing(fields: tuple[str, str, str]) -> None:
    resource, begin, end = fields
    status = BookingStatus(accepted_resource=resource, accepted_from=begin, accepted_until=end)
    assert status.accepted_for("web") is None
