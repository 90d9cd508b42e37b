"""Status writes, Events and cache consistency, with an API server whose answers a test sets."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from booking_operator.api.kinds import RESOURCE
from booking_operator.api.resource import Resource
from booking_operator.engine.reflector import Reflector
from booking_operator.engine.store import Key, Store
from booking_operator.engine.workqueue import WorkQueue
from booking_operator.kube.cache_consistency import DISCOVERY_LAG_SECONDS, CacheConsistency
from booking_operator.kube.client import KubeClient
from booking_operator.kube.errors import ApiError, error_from_response
from booking_operator.kube.events import EventRecorder
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.kube.status import MAX_PATCHES, StatusWriter, WriteResult
from tests.support import virtual
from tests.support.fakeapi import FakeApi
from tests.support.virtual import VirtualClock

KEY = Key("ns", "res")


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Server(KubeClient):
    """Answers requests itself: first with `errors`, then with `garbage`."""

    def __init__(self) -> None:
        super().__init__(ClusterConfig(environ={}), VirtualClock())
        self.requests: list[tuple[str, str, Any]] = []
        self.errors: list[Exception] = []
        self.garbage: list[bytes] = []
        self.answer: dict[str, Any] = {}
        self.seconds = 0.0
        self.version = 10

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> bytes:
        self.requests.append((method, path, body))
        await asyncio.sleep(self.seconds)
        if self.errors:
            raise self.errors.pop(0)
        if self.garbage:
            return self.garbage.pop(0)
        if method == "PATCH":
            self.version += 1
            status = {name: value for name, value in body["status"].items() if value is not None}
            whole = {"metadata": meta(self.version), "spec": {"tag": "t"}, "status": status}
            return json.dumps(whole).encode()
        return json.dumps(self.answer).encode()

    def count(self, method: str) -> int:
        return sum(request[0] == method for request in self.requests)


def meta(version: int, uid: str = "u1") -> dict[str, Any]:
    return {"name": "res", "namespace": "ns", "uid": uid, "resourceVersion": str(version), "generation": 1}


def resource(version: int = 1, uid: str = "u1") -> Resource:
    return RESOURCE.adapter.validate_python({"metadata": meta(version, uid), "spec": {"tag": "t"}})


class Rig:
    def __init__(self) -> None:
        self.server = Server()
        self.clock = VirtualClock()
        self.store: Store[Resource] = Store()
        self.recorder = EventRecorder(self.server, self.clock)
        self.again: list[Key] = []
        self.writer = StatusWriter(
            self.server,
            RESOURCE,
            self.store,
            self.recorder,
            WorkQueue(self.clock),
            requeue=self.again.append,
        )
        self.store.apply(resource())

    def status(self, instances: int) -> Any:
        return replace(resource().status, instances=instances)

    @property
    def stored(self) -> Resource:
        found = self.store.get(KEY)
        assert found is not None
        return found


def played(scenario: Callable[[Rig], Awaitable[None]]) -> Rig:
    async def main() -> Rig:
        rig = Rig()
        tasks = [
            asyncio.ensure_future(rig.writer.controller.run()),
            asyncio.ensure_future(rig.recorder.run()),
        ]
        await scenario(rig)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return rig

    return virtual.run(main())


def test_a_change_is_patched_once_with_its_version_and_stored_immediately() -> None:
    async def scenario(rig: Rig) -> None:
        for _ in range(3):
            rig.writer.set(rig.stored, rig.status(2))
            await asyncio.sleep(1)
        assert rig.stored.status.instances == 2

    rig = played(scenario)
    [(method, path, body)] = rig.server.requests
    assert (method, path) == (
        "PATCH",
        "/apis/manager.kotaico.de/v1/namespaces/ns/resources/res/status",
    )
    assert body["metadata"] == {"resourceVersion": "1"}
    assert body["status"]["instances"] == 2
    assert body["status"]["started"] is None


def test_only_the_last_of_several_changes_is_written() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.seconds = 5
        for instances in range(1, 9):
            rig.writer.set(rig.stored, rig.status(instances))
            await asyncio.sleep(0.1)
        assert rig.writer.current(rig.stored).instances == 8
        await asyncio.sleep(20)
        assert rig.stored.status.instances == 8

    assert played(scenario).server.count("PATCH") == 2


def written_by_another(version: int) -> Resource:
    """The object with a status that the previous leader wrote."""
    found = resource(version)
    return replace(found, status=replace(found.status, started=("i-1",)))


def test_a_concurrent_write_is_not_overwritten_and_the_key_is_requeued() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [error_from_response(409, b"", None)]
        rig.writer.set(rig.stored, rig.status(2))
        await asyncio.sleep(0.05)
        rig.store.apply(written_by_another(5))
        await asyncio.sleep(20)
        assert rig.stored.status.started == ("i-1",)
        assert rig.writer.current(rig.stored).started == ("i-1",)

    rig = played(scenario)
    assert rig.server.count("PATCH") == 1
    assert rig.again == [KEY]


def test_an_overtaken_write_returns_overtaken() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [error_from_response(500, b"", None)]
        known = rig.stored
        rig.writer.set(known, rig.status(2))
        await asyncio.sleep(0.05)
        rig.store.apply(written_by_another(5))
        assert await rig.writer.write(known, rig.status(3)) is WriteResult.OVERTAKEN

    assert played(scenario).again == [KEY]


def test_a_newer_version_with_the_same_status_is_patched() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [error_from_response(409, b"", None)]
        rig.writer.set(rig.stored, rig.status(2))
        await asyncio.sleep(0.05)
        rig.store.apply(resource(5))
        await asyncio.sleep(20)
        assert rig.stored.status.instances == 2

    rig = played(scenario)
    assert [body["metadata"]["resourceVersion"] for _, _, body in rig.server.requests] == ["1", "5"]
    assert rig.again == []


def test_a_change_that_is_reverted_while_in_flight_is_written_again() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.seconds = 5
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(1)
        rig.writer.set(rig.stored, rig.status(0))
        await asyncio.sleep(20)
        assert rig.stored.status.instances == 0

    assert played(scenario).server.count("PATCH") == 2


def test_a_failed_write_is_retried_and_immediately_after_recovery() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [ApiError(0, "connection refused")] * 9
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(70)
        tried = rig.server.count("PATCH")
        assert 7 <= tried <= 9
        rig.server.errors = []
        rig.writer.retry()
        await asyncio.sleep(0.1)
        assert rig.stored.status.instances == 1

    played(scenario)


def test_a_garbled_response_is_reported_and_the_write_is_retried() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.garbage = [b'{"metadata": {"na', b"[]"]
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(10)
        assert rig.stored.status.instances == 1

    with capture_logs() as logs:
        assert played(scenario).server.count("PATCH") == 3
    reported = [(entry["event"], "invalid response" in entry["error"]) for entry in logs if "error" in entry]
    assert reported == [("status_write_failed", True)] * 2


def test_a_write_to_a_deleted_object_is_not_retried() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [ApiError(404, "gone")]
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(100)

    assert played(scenario).server.count("PATCH") == 1


def test_a_conflict_is_retried_with_the_version_of_the_watch() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [ApiError(409, "the object has been modified")]
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(0.1)
        rig.store.apply(resource(7))
        await asyncio.sleep(10)
        assert rig.stored.status.instances == 1

    bodies = [body for _, _, body in played(scenario).server.requests]
    assert [body["metadata"]["resourceVersion"] for body in bodies] == ["1", "7"]


def test_a_refusal_is_reported_once_and_not_repeated() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [error_from_response(422, b'{"message": "spec.start_at: Invalid value"}', None)]
        for _ in range(5):
            rig.writer.set(rig.stored, rig.status(1))
            await asyncio.sleep(100)

    rig = played(scenario)
    assert rig.server.count("PATCH") == 1
    [event] = [body for method, _, body in rig.server.requests if method == "POST"]
    assert (event["reason"], event["type"]) == ("StatusRefused", "Warning")
    assert "spec.start_at: Invalid value" in event["note"]


def test_a_recreated_object_is_not_patched() -> None:
    async def scenario(rig: Rig) -> None:
        old = rig.stored
        rig.store.delete(KEY)
        rig.store.apply(resource(5, uid="u2"))
        rig.writer.set(old, rig.status(1))
        await asyncio.sleep(10)

    assert played(scenario).server.requests == []


def test_the_number_of_concurrent_patches_is_bounded() -> None:
    async def scenario(rig: Rig) -> None:
        for number in range(100):
            made = resource()
            made = replace(made, metadata=replace(made.metadata, name=f"res-{number}"))
            rig.store.apply(made)
            rig.writer.set(made, rig.status(1))
        rig.server.seconds = 1
        await asyncio.sleep(0.5)
        assert rig.server.count("PATCH") == MAX_PATCHES
        await asyncio.sleep(20)

    assert played(scenario).server.count("PATCH") == 100


def test_an_unexpected_exception_drops_one_event_only() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [RuntimeError("a bug")]
        rig.recorder.normal(RESOURCE, rig.stored, "Started", "Start", "first")
        await rig.recorder.wait_until_idle()
        rig.recorder.normal(RESOURCE, rig.stored, "Stopped", "Stop", "second")
        await rig.recorder.wait_until_idle()

    notes = [body["note"] for _, _, body in played(scenario).server.requests]
    assert notes == ["first", "second"]


def test_events_are_retried_a_few_times_and_then_dropped() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [ApiError(0, "away")] * 4
        rig.recorder.normal(RESOURCE, rig.stored, "Started", "Start", "x" * 5000)
        await asyncio.sleep(100)
        rig.recorder.normal(RESOURCE, rig.stored, "Stopped", "Stop", "fine")
        await asyncio.sleep(100)

    posted = [body for method, _, body in played(scenario).server.requests if method == "POST"]
    assert [body["reason"] for body in posted] == ["Started"] * 4 + ["Stopped"]
    assert len(posted[0]["note"]) == 1024
    assert posted[0]["regarding"]["uid"] == "u1"


def test_an_event_whose_response_was_lost_counts_as_written() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [
            ApiError(0, "away"),
            error_from_response(409, b'{"reason": "AlreadyExists"}', None),
        ]
        with capture_logs() as logs:
            rig.recorder.normal(RESOURCE, rig.stored, "Started", "Start", "x")
            await asyncio.sleep(100)
        assert logs == []

    assert played(scenario).server.count("POST") == 2


def test_an_event_with_a_quota_conflict_is_retried() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [error_from_response(409, b'{"reason": "Conflict"}', None)]
        rig.recorder.normal(RESOURCE, rig.stored, "Started", "Start", "x")
        await asyncio.sleep(100)

    assert played(scenario).server.count("POST") == 2


def test_excess_events_are_dropped_without_waiting() -> None:
    async def scenario(rig: Rig) -> None:
        for _ in range(12_000):
            rig.recorder.warning(RESOURCE, rig.stored, "Noise", "Make", "noise")
        await asyncio.sleep(10)

    assert played(scenario).server.count("POST") == 10_000


def discovery(*verbs: str) -> dict[str, Any]:
    return {"resources": [{"name": "resources", "verbs": ["create"]}, {"name": "bookings", "verbs": verbs}]}


@pytest.mark.parametrize(
    ("answer", "errors", "stale_reason"),
    [
        ({"metadata": {}}, [], ""),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, [], "is being deleted"),
        ({}, [404], "cannot read the Custom"),
        ({}, [0], "cannot read the Custom"),
        ({}, [], "invalid response"),
        # Without permission to read the CRD, the operator uses discovery.
        (discovery("create", "list"), [403], ""),
        (discovery("delete", "list"), [403], "is being deleted"),
        ({"resources": []}, [403], "is being deleted"),
        ({}, [403], "invalid response"),
        ({}, [403, 403], ""),
        ({}, [403, 0], "cannot read the Custom"),
    ],
)
def test_an_unplanned_stop_is_confirmed(answer: dict[str, Any], errors: list[int], stale_reason: str) -> None:
    async def main() -> tuple[str, str]:
        server = Server()
        server.answer, server.errors = answer, [ApiError(status, "no") for status in errors]
        reflector = Reflector("things", FakeApi(), Store(), VirtualClock())
        consistency = CacheConsistency(server, [reflector], VirtualClock())
        before = await consistency.confirm()
        task = asyncio.ensure_future(reflector.run())
        await asyncio.sleep(1)
        after = await consistency.confirm()
        task.cancel()
        await asyncio.wait([task])
        return before, after

    before, after = virtual.run(main())
    assert "not been listed" in before
    assert stale_reason in after
    assert bool(after) == bool(stale_reason)


def test_a_recreated_crd_triggers_a_relist() -> None:
    """The CRD was deleted with all bookings, and applied again, before a caller asked for a confirmation."""

    async def main() -> tuple[list[str], int]:
        server, api = Server(), FakeApi()
        server.answer = {"metadata": {"uid": "old"}}
        reflector = Reflector("things", api, Store(), VirtualClock())
        consistency = CacheConsistency(server, [reflector], VirtualClock())
        await consistency.record_crds()
        task = asyncio.ensure_future(reflector.run())
        await asyncio.sleep(1)
        reasons = [await consistency.confirm()]
        before, server.answer = api.lists, {"metadata": {"uid": "new"}}
        reasons.append(await consistency.confirm())
        await asyncio.sleep(1)
        reasons.append(await consistency.confirm())
        task.cancel()
        await asyncio.wait([task])
        return reasons, api.lists - before

    (first, recreated, after), lists = virtual.run(main())
    assert (first, after, lists) == ("", "", 1)
    assert "is new" in recreated


def test_an_interrupted_watch_triggers_a_relist() -> None:
    """The API server was away, and its etcd may have been restored. It answers again, but no watch does."""

    async def main() -> tuple[list[str], int]:
        server, api = Server(), FakeApi()
        server.answer = {"metadata": {"uid": "crd"}}
        reflector = Reflector("things", api, Store(), VirtualClock())
        consistency = CacheConsistency(server, [reflector], VirtualClock())
        await consistency.record_crds()
        task = asyncio.ensure_future(reflector.run())
        await asyncio.sleep(1)
        api.fault = "refused"
        api.cut()
        await asyncio.sleep(30)
        assert reflector.backing_off
        before, api.fault = api.lists, ""
        reasons = [await consistency.confirm()]
        await asyncio.sleep(0.1)
        reasons.append(await consistency.confirm())
        task.cancel()
        await asyncio.wait([task])
        return reasons, api.lists - before

    (interrupted, after), lists = virtual.run(main())
    assert interrupted == "the watch of the things was interrupted, and a relist is pending"
    assert (after, lists) == ("", 1)


@pytest.mark.parametrize(
    ("answer", "errors", "stale_reason"),
    [
        ({"metadata": {}}, [], ""),
        (
            {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
            [],
            "the namespace ns is being deleted",
        ),
        ({}, [403], ""),
        ({}, [404], "the namespace ns does not exist any more"),
        ({}, [0], "the operator cannot read the namespace ns: no"),
    ],
)
def test_a_namespace_that_is_being_deleted_is_known(
    answer: dict[str, Any], errors: list[int], stale_reason: str
) -> None:
    server = Server()
    server.answer, server.errors = answer, [ApiError(status, "no") for status in errors]
    consistency = CacheConsistency(server, [], VirtualClock())
    assert virtual.run(consistency.confirm_namespace("ns")) == stale_reason
    assert not consistency._namespaces


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/api/v1/namespaces/ns", "the namespace ns"),
        (f"{CRDS}/bookings.manager.kotaico.de", "the CustomResourceDefinition bookings.manager.kotaico.de"),
        (f"{CRDS}/resources.manager.kotaico.de", "the CustomResourceDefinition resources.manager.kotaico.de"),
    ],
)
def test_a_confirmation_for_a_required_resource_reads_both_crds(path: str, what: str) -> None:
    class Deleting(Server):
        async def request(self, _: str, path_: str, **__: Any) -> bytes:  # type: ignore[override]
            deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if path_ == path else {}
            return json.dumps({"metadata": deleted}).encode()

    async def main() -> str:
        consistency = CacheConsistency(Deleting(), [], VirtualClock())
        return await consistency.confirm_within(namespace="ns", required=True)

    assert virtual.run(main()) == f"{what} is being deleted"


@pytest.mark.parametrize("required", [False, True])
def test_only_a_required_resource_needs_the_crd_of_the_resources(required: bool) -> None:
    """A ClusterRole of an older version allows only that of the bookings."""

    class OlderRole(Server):
        async def request(self, _: str, path: str, **__: Any) -> bytes:  # type: ignore[override]
            paths.append(path)
            if path.endswith("resources.manager.kotaico.de"):
                raise ApiError(403, "no")
            kinds = [{"name": name, "verbs": ["create"]} for name in ("bookings", "resources")]
            return json.dumps({"metadata": {}, "resources": kinds}).encode()

    paths: list[str] = []

    async def main() -> tuple[str, float]:
        consistency = CacheConsistency(OlderRole(), [], VirtualClock())
        found = await consistency.confirm(required=required)
        return found, asyncio.get_running_loop().time()

    with capture_logs() as logs:
        assert virtual.run(main()) == ("", DISCOVERY_LAG_SECONDS if required else 0)
    assert len(paths) == (3 if required else 1)
    assert [log["fix"] for log in logs] == ["grant get on resources.manager.kotaico.de"] * required


def test_callers_share_the_read_of_their_namespace() -> None:
    async def main() -> tuple[set[str], int, int]:
        server = Server()
        server.answer, server.seconds = {"metadata": {}}, 2
        consistency = CacheConsistency(server, [], VirtualClock())
        names = [f"ns{number % 2}" for number in range(100)]
        answers = await asyncio.gather(*(consistency.confirm_namespace(name) for name in names))
        return set(answers), server.count("GET"), len(consistency._namespaces)

    assert virtual.run(main()) == ({""}, 4, 0)


async def consistency_of(server: Server) -> CacheConsistency:
    """A cache consistency check for one reflector that has synced."""
    reflector = Reflector("things", FakeApi(), Store(), VirtualClock())
    task = asyncio.ensure_future(reflector.run())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    return CacheConsistency(server, [reflector], VirtualClock())


def test_callers_before_the_start_of_a_confirmation_share_it() -> None:
    async def main() -> tuple[set[str], int]:
        server = Server()
        server.answer, server.seconds = {"metadata": {}}, 2
        consistency = await consistency_of(server)
        answers = await asyncio.gather(*(consistency.confirm() for _ in range(500)))
        return set(answers), server.count("GET")

    # The first request starts before the second caller arrives.
    assert virtual.run(main()) == ({""}, 2)


def test_a_confirmation_gathers_callers_but_does_not_wait_for_a_slow_one() -> None:
    async def main() -> tuple[list[float], int]:
        server, loop = Server(), asyncio.get_running_loop()
        server.answer, server.seconds = {"metadata": {}}, 9
        consistency, ends = await consistency_of(server), []
        began = loop.time()

        async def ask() -> None:
            assert await consistency.confirm() == ""
            ends.append(round(loop.time() - began, 2))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask())
            for _ in range(40):
                await asyncio.sleep(0.01)
                tasks.create_task(ask())
        return ends, server.count("GET")

    ends, requests = virtual.run(main())
    assert requests == 1 + 4
    assert max(ends) <= 0.4 + 0.1 + 9.01


def test_a_caller_does_not_share_a_confirmation_that_started_before() -> None:
    async def main() -> list[str]:
        server = Server()
        server.seconds, server.garbage = 2, [b'{"metadata": {}}']
        consistency = await consistency_of(server)
        before = asyncio.ensure_future(consistency.confirm())
        await asyncio.sleep(1)
        server.answer = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
        after = asyncio.ensure_future(consistency.confirm())
        return [await before, await after]

    before, after = virtual.run(main())
    assert before == ""
    assert "is being deleted" in after


def test_a_cancelled_caller_cancels_no_confirmation_of_others() -> None:
    async def main() -> tuple[str, int, float]:
        server = Server()
        server.answer, server.seconds = {"metadata": {}}, 2
        consistency = await consistency_of(server)
        began = asyncio.get_running_loop().time()
        first = asyncio.ensure_future(consistency.confirm())
        await asyncio.sleep(1)
        second, third = (asyncio.ensure_future(consistency.confirm()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0.5)
        second.cancel()
        return await third, server.count("GET"), asyncio.get_running_loop().time() - began

    assert virtual.run(main()) == ("", 3, 3.5)


def test_callers_of_a_failed_confirmation_share_its_error_and_the_next_caller_retries() -> None:
    async def main() -> tuple[set[str], str]:
        server = Server()
        server.answer, server.errors = {"metadata": {}}, [ApiError(0, "no") for _ in range(2)]
        consistency = await consistency_of(server)
        answers = await asyncio.gather(*(consistency.confirm() for _ in range(9)))
        return set(answers), await consistency.confirm()

    failed, after = virtual.run(main())
    assert [text for text in failed if "cannot read the Custom" not in text] == []
    assert after == ""


@pytest.mark.parametrize("errors", [[403], [404], [0]])
def test_start_up_continues_if_the_crd_cannot_be_read(errors: list[int]) -> None:
    server = Server()
    server.errors = [ApiError(status, "no") for status in errors]
    consistency = CacheConsistency(server, [], VirtualClock())
    virtual.run(consistency.record_crds())
    assert consistency.stale_reason() == ""


def test_a_decision_from_before_an_own_write_is_valid() -> None:
    """One reconcile writes twice: the started instances before it acts, and the status afterwards."""

    async def scenario(rig: Rig) -> None:
        before = rig.stored
        assert await rig.writer.write(before, replace(before.status, started=("i-1",)))
        rig.writer.set(before, replace(before.status, started=("i-1",), instances=2))
        await asyncio.sleep(1)
        assert (rig.stored.status.started, rig.stored.status.instances) == (("i-1",), 2)

    rig = played(scenario)
    assert (rig.server.count("PATCH"), rig.again) == (2, [])


def test_a_decision_from_before_an_own_write_uses_that_write() -> None:
    """A leader with an older object writes what `unbooked: Leave` started, then the rest."""

    async def scenario(rig: Rig) -> None:
        before = rig.stored
        assert await rig.writer.write(before, replace(before.status, started=("i-1",)))
        assert rig.writer.current(before).started == ("i-1",)
        rig.writer.set(before, before.status)
        await asyncio.sleep(1)
        assert rig.stored.status.started == ()

    rig = played(scenario)
    assert (rig.server.count("PATCH"), rig.again) == (2, [])


def test_a_recreated_object_has_its_own_status() -> None:
    async def scenario(rig: Rig) -> None:
        before = rig.stored
        rig.store.delete(KEY)
        rig.store.apply(replace(written_by_another(7), metadata=resource(7, uid="u2").metadata))
        assert rig.writer.current(before) == before.status

    played(scenario)


def test_a_refused_status_of_a_deleted_object_is_forgotten() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [error_from_response(422, b"", None)]
        rig.writer.set(rig.stored, rig.status(2))
        await asyncio.sleep(1)
        rig.store.delete(KEY)
        rig.writer.retry()
        await asyncio.sleep(1)
        assert not rig.writer._wanted

    played(scenario)


def test_records_of_own_writes_do_not_accumulate() -> None:
    async def scenario(rig: Rig) -> None:
        for number in range(300):
            made = replace(rig.stored.metadata, name=f"r{number}")
            rig.store.apply(replace(rig.stored, metadata=made))
            found = rig.store.get(Key("ns", f"r{number}"))
            assert found is not None
            rig.writer.set(found, rig.status(1))
            await asyncio.sleep(0.01)
            rig.store.delete(Key("ns", f"r{number}"))
        assert len(rig.writer._last_written) < 100

    played(scenario)


def test_a_refused_status_returns_refused_immediately() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [error_from_response(422, b"", None)]
        assert await rig.writer.write(rig.stored, rig.status(2)) is WriteResult.REFUSED
        async with asyncio.timeout(1):
            assert await rig.writer.write(rig.stored, rig.status(2)) is WriteResult.REFUSED

    played(scenario)


def test_a_write_during_another_one_waits_for_its_own_attempt() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.seconds = 5
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(1)
        assert await rig.writer.write(rig.stored, rig.status(2)) is WriteResult.WRITTEN
        assert rig.stored.status.instances == 2

    assert played(scenario).server.count("PATCH") == 2


def test_a_write_returns_its_own_result_and_not_that_of_its_replacement() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.seconds = 5
        first = asyncio.ensure_future(rig.writer.write(rig.stored, rig.status(1)))
        await asyncio.sleep(1)
        rig.server.errors = [ApiError(0, "connection refused")]
        second = asyncio.ensure_future(rig.writer.write(rig.stored, rig.status(2)))
        assert await first is WriteResult.FAILED
        assert await second is WriteResult.WRITTEN

    played(scenario)


def test_a_write_replaced_before_its_attempt_returns_the_result_of_the_replacement() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [ApiError(0, "connection refused")]
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(0.1)
        waiting = [asyncio.ensure_future(rig.writer.write(rig.stored, rig.status(n))) for n in (2, 3)]
        assert await asyncio.gather(*waiting) == [WriteResult.WRITTEN] * 2
        assert rig.stored.status.instances == 3

    assert played(scenario).server.count("PATCH") == 2


def test_a_write_of_the_status_in_flight_waits_for_it() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.seconds = 5
        rig.writer.set(rig.stored, rig.status(1))
        await asyncio.sleep(1)
        assert await rig.writer.write(rig.stored, rig.status(1)) is WriteResult.WRITTEN

    assert played(scenario).server.count("PATCH") == 1


def test_a_write_of_the_stored_status_is_a_no_op() -> None:
    async def scenario(rig: Rig) -> None:
        assert await rig.writer.write(rig.stored, rig.stored.status) is WriteResult.WRITTEN

    assert played(scenario).server.requests == []


def test_a_write_to_a_deleted_or_recreated_object_returns_gone() -> None:
    async def scenario(rig: Rig) -> None:
        before = rig.stored
        rig.server.errors = [ApiError(404, "gone")]
        assert await rig.writer.write(before, rig.status(1)) is WriteResult.GONE
        rig.store.delete(KEY)
        assert await rig.writer.write(before, rig.status(2)) is WriteResult.GONE
        rig.server.errors = [ApiError(0, "connection refused")]
        rig.store.apply(before)
        rig.writer.set(before, rig.status(1))
        await asyncio.sleep(0.1)
        late = asyncio.ensure_future(rig.writer.write(before, rig.status(2)))
        await asyncio.sleep(0)
        rig.store.delete(KEY)
        rig.store.apply(resource(5, uid="u2"))
        rig.writer.set(rig.stored, rig.status(3))
        assert await late is WriteResult.GONE

    played(scenario)


def test_a_failed_write_returns_failed_and_is_retried() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.errors = [ApiError(0, "connection refused")]
        assert await rig.writer.write(rig.stored, rig.status(1)) is WriteResult.FAILED
        await asyncio.sleep(1)
        assert rig.stored.status.instances == 1

    played(scenario)
