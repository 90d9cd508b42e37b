"""Metrics that are computed at a scrape: counts of objects, token buckets, and no labels from users."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.api.kinds import BOOKING, RESOURCE
from booking_operator.cloud.aws.accounts import Account, Accounts
from booking_operator.cloud.batching.token_bucket import PUBLISHED_LIMITS, full_limiter
from booking_operator.cloud.driver import ActionAnswer, Record
from booking_operator.cloud.inventory.polling import ScopeWatch
from booking_operator.cloud.inventory.view import InstanceView
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import Instance, InstanceState
from booking_operator.engine.store import Key
from booking_operator.observability import catalogue
from booking_operator.observability.collector import READ, StateCollector
from booking_operator.observability.object_counts import ObjectCounts
from booking_operator.observability.prometheus import Metrics
from booking_operator.observability.sources import Sources
from booking_operator.reconcilers.informers import Informers
from tests.support.virtual import EPOCH, VirtualClock, run

REGION = "eu-west-1"
ROLE = "arn:aws:iam::123456789012:role/operator"
STATUSES = ("", "CONFLICT", "SCHEDULED", "IN PROGRESS", "FINISHED")


def booking(name: str, status: str, version: int) -> Any:
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version), "generation": 1}
    return BOOKING.adapter.validate_python(
        {"metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"status": status}}
    )


def resource(name: str, version: int, since: str = "", reason: str = "x", **conditions: str) -> Any:
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version), "generation": 1}
    listed = [
        {"type": type_, "status": status, "reason": reason, "lastTransitionTime": since}
        for type_, status in conditions.items()
    ]
    return RESOURCE.adapter.validate_python(
        {
            "metadata": meta | {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"tag": name},
            "status": {"conditions": listed},
        }
    )


def read(sources: Sources, name: str, clock: VirtualClock | None = None) -> dict[tuple[str, ...], float]:
    """The values of one metric, by the values of its labels."""
    for family in StateCollector(sources, clock or VirtualClock()).collect():
        if family.name == name:
            return {tuple(sample.labels.values()): sample.value for sample in family.samples}
    raise AssertionError(name)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((*STATUSES, None))), max_size=30))
def test_the_counts_of_bookings_follow_all_changes(steps: list[tuple[str, str | None]]) -> None:
    informers = Informers(REGION)
    sources = Sources()
    sources.object_counts = ObjectCounts(informers)
    there: dict[str, str] = {}
    for version, (name, status) in enumerate(steps, start=1):
        if status is None:
            informers.bookings.delete(Key("ns", name))
            there.pop(name, None)
        else:
            informers.bookings.apply(booking(name, status, version))
            there[name] = status
    found = read(sources, catalogue.BOOKINGS.name)
    assert found.pop(("none",)) == list(there.values()).count("")
    assert found == {(status,): list(there.values()).count(status) for status in STATUSES if status}


def test_the_counts_follow_a_list() -> None:
    informers = Informers(REGION)
    sources = Sources()
    sources.object_counts = ObjectCounts(informers)
    informers.bookings.replace([booking("a", "SCHEDULED", 1), booking("b", "FINISHED", 2)])
    informers.bookings.replace([booking("b", "FINISHED", 2)])
    assert sum(read(sources, catalogue.BOOKINGS.name).values()) == 1


def test_resources_are_counted_by_condition() -> None:
    informers = Informers(REGION)
    sources = Sources()
    sources.object_counts = ObjectCounts(informers)
    informers.resources.apply(resource("a", 1, Ready="True", Synced="True"))
    informers.resources.apply(resource("b", 2, Ready="False", Synced="True", Tattle="True"))
    informers.resources.apply(resource("a", 3, Ready="Unknown", Synced="True"))
    found = read(sources, catalogue.RESOURCES.name)
    assert {pair: count for pair, count in found.items() if count} == {
        ("Ready", "Unknown"): 1,
        ("Ready", "False"): 1,
        ("Synced", "True"): 2,
    }


def test_the_longest_unready_time_is_reported_by_reason() -> None:
    informers = Informers(REGION)
    sources = Sources()
    sources.object_counts = ObjectCounts(informers)

    def found() -> dict[tuple[str, ...], float]:
        return read(sources, catalogue.UNREADY.name)

    assert found() == {}
    early, late = "1970-01-01T00:01:00Z", "1970-01-01T00:02:00Z"
    informers.resources.apply(resource("a", 1, late, "Starting", Ready="False", Synced="False"))
    informers.resources.apply(resource("b", 2, early, "Starting", Ready="False"))
    informers.resources.apply(resource("c", 3, early, "Tattle", Ready="False"))
    informers.resources.apply(resource("d", 4, early, "Running", Ready="True", Synced="False"))
    informers.resources.apply(resource("e", 6, late, "MaintenanceWindow", Ready="False"))
    assert found() == {("Starting",): 60.0, ("other",): 60.0, ("MaintenanceWindow",): 120.0}
    informers.resources.delete(Key("ns", "e"))
    informers.resources.apply(resource("b", 5, late, "Running", Ready="True"))
    informers.resources.delete(Key("ns", "c"))
    assert found() == {("Starting",): 120.0}


@pytest.mark.parametrize(
    "since", ["yesterday", "1970-01-01", "1970-01-01T00:00:30", "0001-01-01T00:00:00+01:00"]
)
def test_an_invalid_transition_time_is_ignored(since: str) -> None:
    informers = Informers(REGION)
    sources = Sources()
    sources.object_counts = ObjectCounts(informers)
    informers.resources.apply(resource("a", 1, since, "Starting", Ready="False"))
    assert read(sources, catalogue.UNREADY.name) == {}
    informers.resources.apply(resource("b", 2, "1970-01-01T00:01:00Z", "Starting", Ready="False"))
    assert read(sources, catalogue.UNREADY.name) == {("Starting",): 60.0}
    assert read(sources, catalogue.RESOURCES.name)["Ready", "False"] == 2


def test_calls_are_reported_by_account_and_region_and_unknown_regions_as_other() -> None:
    metrics = Metrics()
    for region in (REGION, "", "tattle-1", "tattle-2"):
        metrics.called("ec2", "DescribeInstances", "acme", region, "ok", 0.1)
    for region, calls in ((REGION, 1), ("", 1), ("other", 2), ("tattle-1", None)):
        labels = {"service": "ec2", "action": "DescribeInstances", "account": "acme", "region": region}
        value = metrics.registry.get_sample_value(catalogue.AWS_CALLS.name, {**labels, "result": "ok"})
        assert value == calls


def test_tokens_are_computed_at_the_scrape() -> None:
    async def main() -> None:
        clock = VirtualClock()
        queue = starts(Scope("", REGION), clock)
        queue.limiter = queue.limiter.sent(900, clock.now())
        queues = [queue, starts(Scope("tattle", REGION), clock)]
        driver: Any = SimpleNamespace(batcher=SimpleNamespace(queues=queues))
        sources = Sources(Accounts(REGION))
        with sources.leadership((), (driver,)):
            tokens = read(sources, catalogue.THROTTLE_TOKENS.name, clock)
            assert tokens == {
                ("", REGION, "StartInstances", "requests"): 4.0,
                ("", REGION, "StartInstances", "instances"): 100.0,
            }
            await clock.sleep(10)
            tokens = read(sources, catalogue.THROTTLE_TOKENS.name, clock)
            assert tokens["", REGION, "StartInstances", "instances"] == pytest.approx(120.0)
            waiting = read(sources, catalogue.THROTTLE_WAITING.name, clock)
            assert waiting == {("", REGION, "StartInstances"): 0.0}
        assert read(sources, catalogue.THROTTLE_TOKENS.name, clock) == {}

    run(main())


def starts(scope: Scope, clock: VirtualClock) -> Any:
    limiter = full_limiter(PUBLISHED_LIMITS["StartInstances"], clock.now())
    return SimpleNamespace(scope=scope, call="StartInstances", limiter=limiter, waiting=0)


def test_instances_are_counted_in_configured_scopes_only() -> None:
    scopes = [
        Scope("", REGION),
        Scope("acme", REGION),
        Scope("acme", "eu-central-1"),
        Scope("tattle", REGION),
        Scope("", "tattle-1"),
    ]
    watched = {scope: ScopeWatch(scope) for scope in scopes}
    states = (InstanceState.RUNNING, InstanceState.RUNNING, InstanceState.STOPPED)
    records = [Record("web", Instance(f"i-{number}", state)) for number, state in enumerate(states)]
    for watch in watched.values():
        watch.view.update(records, EPOCH, EPOCH)
    watched[scopes[1]].failures = 3
    accounts = Accounts(REGION, named={"acme": Account(role_arn=ROLE, regions=(REGION,))})
    service: Any = SimpleNamespace(watched=watched)
    sources = Sources(accounts, {"ec2": service})
    found = read(sources, catalogue.STATES.name)
    assert {key: count for key, count in found.items() if count} == {
        ("ec2", account, REGION, state): count
        for account in ("", "acme")
        for state, count in (("running", 2), ("stopped", 1))
    }
    assert read(sources, catalogue.VIEW_SEEN.name)["ec2", "", REGION] == EPOCH.timestamp()
    assert read(sources, catalogue.VIEW_FAILURES.name) == {
        ("ec2", "", REGION): 0,
        ("ec2", "acme", REGION): 3,
    }


def test_counts_of_instances_follow_accepted_actions() -> None:
    view = InstanceView()
    view.update([Record("web", Instance("i-1", InstanceState.STOPPED))], EPOCH, EPOCH)
    assert view.states() == {InstanceState.STOPPED: 1}
    view.record_answers("web", {"i-1": ActionAnswer(InstanceState.STOPPED, InstanceState.PENDING)}, EPOCH)
    assert view.states() == {InstanceState.PENDING: 1}


def test_the_catalogue_lists_all_metrics() -> None:
    metrics = Metrics()
    kept = {family.name for family in catalogue.CATALOGUE} - {family.name for family in READ}
    names = {metric.name for metric in metrics.registry.collect() if not metric.name.startswith("process_")}
    assert {name.removesuffix("_total") for name in kept} == names
    sources = Sources()
    collected = {family.name for family in StateCollector(sources, VirtualClock()).collect()}
    assert collected == {family.name.removesuffix("_total") for family in READ}
    described = {family.name for family in StateCollector(sources, VirtualClock()).describe()}
    assert described == collected
