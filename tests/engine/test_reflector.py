"""The reflector on virtual time: after all faults, the store equals the server."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from booking_operator.engine.reflector import (
    EVENTS_PER_TURN,
    EventType,
    ListPage,
    ListWatchError,
    Reflector,
    RestartReason,
    WatchEvent,
)
from booking_operator.engine.store import Change, Origin, Store
from booking_operator.engine.workqueue import Backoff
from tests.support import virtual
from tests.support.fakeapi import FakeApi, Fault
from tests.support.objects import Thing, thing
from tests.support.virtual import VirtualClock

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
STATES = st.sampled_from(["x", "y", "z"])
FAULTS: tuple[Fault, ...] = ("", "refused", "instant close", "gone", "not found")
ACTIONS = st.one_of(
    st.tuples(st.just("put"), NAMES, STATES),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("bookmark")),
    st.tuples(st.just("compact")),
    st.tuples(st.just("cut")),
    st.tuples(st.just("relist")),
    st.tuples(st.just("fault"), st.sampled_from(FAULTS)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 1.0, 700.0])),
)


class Rig:
    """A reflector with a fake API."""

    def __init__(self, api: FakeApi | None = None) -> None:
        self.api = api or FakeApi()
        self.store: Store[Thing] = Store()
        self.changes: list[Change[Thing]] = []
        self.store.subscribe(self.changes.append)
        self.reflector = Reflector(
            "things", self.api, self.store, VirtualClock(), Backoff(maximum=timedelta(seconds=30))
        )

    def stored(self) -> dict[str, str]:
        return {object_.metadata.name: object_.status for object_ in self.store.objects()}

    def served(self) -> dict[str, str]:
        return {name: object_.status for name, object_ in self.api.objects.items()}

    async def restored(self, version: int, objects: dict[str, Thing]) -> None:
        """Stop the server for 3 s, then restore an earlier version.

        The server keeps refusing requests until a test resets `fault`.
        """
        self.api.fault = "refused"
        self.api.cut()
        await asyncio.sleep(3)
        self.api.restore(version, objects)


def reflecting(scenario: Callable[[Rig], Awaitable[None]]) -> Rig:
    async def main() -> Rig:
        rig = Rig()
        task = asyncio.ensure_future(rig.reflector.run())
        await scenario(rig)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return rig

    return virtual.run(main())


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_the_store_finally_equals_the_server(actions: list[tuple[str, ...]]) -> None:
    async def scenario(rig: Rig) -> None:
        for name, *arguments in actions:
            if name == "wait":
                await asyncio.sleep(float(arguments[0]))
            elif name == "fault":
                rig.api.fault = arguments[0]  # type: ignore[assignment]
                rig.api.cut()
            elif name == "relist":
                rig.reflector.relist("requested")
            else:
                getattr(rig.api, name)(*arguments)
        rig.api.fault = ""
        await asyncio.sleep(60)

    rig = reflecting(scenario)
    assert rig.stored() == rig.served()
    assert rig.reflector.stale_reason == ""


@settings(max_examples=50, deadline=None)
@given(st.lists(ACTIONS, max_size=15))
def test_changes_alone_give_the_state_of_the_server(actions: list[tuple[str, ...]]) -> None:
    """A handler that applies only the changes has the same state as the store."""

    async def scenario(rig: Rig) -> None:
        for name, *arguments in actions:
            if name == "wait":
                await asyncio.sleep(float(arguments[0]))
            elif name == "relist":
                rig.reflector.relist("requested")
            elif name != "fault":
                getattr(rig.api, name)(*arguments)
        await asyncio.sleep(60)

    rig = reflecting(scenario)
    reported: dict[str, str] = {}
    for change in rig.changes:
        if change.new is None:
            del reported[change.key.name]
        else:
            reported[change.key.name] = change.new.status
    assert reported == rig.served()


def test_the_first_list_is_read_in_pages_with_origin_initial() -> None:
    async def scenario(rig: Rig) -> None:
        for name in "abcde":
            rig.api.put(name, "x")
        await asyncio.sleep(1)

    rig = reflecting(scenario)
    assert rig.api.lists == 3
    assert {change.origin for change in rig.changes} == {Origin.INITIAL}


def test_the_store_is_stale_until_the_first_list() -> None:
    async def scenario(rig: Rig) -> None:
        assert "not been listed" in rig.reflector.stale_reason
        rig.api.fault = "refused"
        await asyncio.sleep(100)
        assert "not been listed" in rig.reflector.stale_reason

    reflecting(scenario)


def test_a_failed_list_makes_the_store_stale_but_a_failed_watch_does_not() -> None:
    async def scenario(rig: Rig) -> None:
        rig.api.put("a", "x")
        await asyncio.sleep(1)
        rig.api.fault = "refused"
        rig.api.cut()
        await asyncio.sleep(600)
        assert rig.reflector.stale_reason == ""
        rig.api.compact()
        rig.api.put("b", "x")
        rig.api.fault = "gone"
        await asyncio.sleep(60)
        rig.api.fault = "refused"
        await asyncio.sleep(60)
        assert "failed" in rig.reflector.stale_reason
        assert rig.stored() == {"a": "x"}
        rig.api.fault = ""
        await asyncio.sleep(60)
        assert rig.reflector.stale_reason == ""

    assert reflecting(scenario).stored() == {"a": "x", "b": "x"}


def test_a_kind_that_is_no_longer_served_makes_the_store_stale_and_keeps_objects() -> None:
    async def scenario(rig: Rig) -> None:
        rig.api.put("a", "x")
        await asyncio.sleep(1)
        rig.api.fault = "not found"
        rig.api.cut()
        await asyncio.sleep(60)
        assert rig.reflector.stale_reason == "the kind is not served"

    assert reflecting(scenario).stored() == {"a": "x"}


def test_faults_cause_no_hot_loop() -> None:
    for fault in FAULTS[1:]:

        async def scenario(rig: Rig, fault: Fault = fault) -> None:
            await asyncio.sleep(1)
            rig.api.fault = fault
            rig.api.cut()
            await asyncio.sleep(600)

        rig = reflecting(scenario)
        # Watches are retried every 2.5 to 5 s, lists every 15 to 30 s.
        assert rig.api.lists < 60, fault
        assert rig.api.lists + rig.api.watches < 250, fault


def test_failure_and_recovery_of_the_watch_are_reported() -> None:
    reported: list[float] = []
    failed: list[float] = []

    async def scenario(rig: Rig) -> None:
        loop = asyncio.get_running_loop()
        rig.reflector.on_recovered(lambda: reported.append(loop.time()))
        rig.reflector.on_failed(lambda: failed.append(loop.time()))
        await asyncio.sleep(1)
        assert (reported, failed) == ([], [])
        rig.api.fault = "refused"
        rig.api.cut()
        await asyncio.sleep(99)
        rig.api.fault = ""
        await asyncio.sleep(60)

    reflecting(scenario)
    assert len(reported) == 1
    assert 100 <= reported[0] <= 106  # a watch is retried after at most 5 s
    assert failed[0] == 1
    assert max(failed) < reported[0]


def test_a_list_after_410_ignores_the_back_off_of_the_watch() -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.api.fault = "instant close"
        rig.api.cut()
        await asyncio.sleep(300)
        rig.api.put("a", "x")
        rig.api.compact()
        rig.api.fault = ""
        for _ in range(301):
            if rig.reflector.restarts[RestartReason.EXPIRED]:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert rig.stored() == {"a": "x"}

    reflecting(scenario)


def test_a_restored_server_is_listed_again() -> None:
    """The storage was restored. A watch from the last seen version would stay open and send nothing."""

    async def scenario(rig: Rig) -> None:
        rig.api.put("kept", "x")
        rig.api.put("deleted later", "x")
        version, objects = rig.api.version, dict(rig.api.objects)
        rig.api.put("kept", "y")
        rig.api.remove("deleted later")
        rig.api.put("made later", "x")
        await asyncio.sleep(1)
        await rig.restored(version, objects)
        rig.api.put("kept", "z")  # this has the same resourceVersion as "y"
        rig.api.fault = ""
        await asyncio.sleep(6)
        assert rig.stored() == {"kept": "z", "deleted later": "x"}

    reflecting(scenario)


def test_a_server_restored_during_an_outage_is_listed_again() -> None:
    """Nothing shows the restore: the versions exceed the last seen one before the watch works again."""

    async def scenario(rig: Rig) -> None:
        rig.api.put("deleted later", "x")
        version, objects = rig.api.version, dict(rig.api.objects)
        rig.api.remove("deleted later")
        await asyncio.sleep(1)
        await rig.restored(version, objects)
        for _ in range(10):
            rig.api.put("of others", "x")
        rig.api.fault = ""
        await asyncio.sleep(6)
        assert rig.stored() == {"deleted later": "x", "of others": "x"}

    reflecting(scenario)


def test_relist_after_a_restore_lists_the_restored_state() -> None:
    async def scenario(rig: Rig) -> None:
        rig.api.put("kept", "x")
        version, objects = rig.api.version, dict(rig.api.objects)
        rig.api.put("kept", "y")
        rig.api.put("of others", "x")
        await asyncio.sleep(1)
        await rig.restored(version, objects)
        rig.api.put("kept", "z")  # this has the same resourceVersion as "y"
        rig.api.fault = ""
        rig.reflector.relist("requested")
        await asyncio.sleep(6)
        assert rig.stored() == {"kept": "z"}

    reflecting(scenario)


def test_a_list_does_not_overwrite_a_newer_own_write() -> None:
    """For example, a status is written during a relist at the start of a leadership."""

    async def scenario(rig: Rig) -> None:
        for name in ("a", "b", "c"):
            rig.api.put(name, "x")
        await asyncio.sleep(1)
        rig.reflector.relist("requested")
        await asyncio.sleep(0.0015)  # the first of two pages has arrived
        rig.api.put("a", "ours")
        rig.store.apply_own_write(rig.api.objects["a"])
        await asyncio.sleep(1)

    rig = reflecting(scenario)
    assert [change.latest.status for change in rig.changes] == ["x", "x", "x", "ours"]


def test_a_list_that_keeps_expiring_makes_the_store_stale() -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.api.fault = "gone"
        rig.api.cut()
        await asyncio.sleep(60)
        assert "failed" in rig.reflector.stale_reason
        rig.api.fault = ""
        await asyncio.sleep(60)
        assert rig.reflector.stale_reason == ""

    reflecting(scenario)


def test_a_reset_watch_resumes_without_a_list() -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(2)
        rig.api.fault = "refused"
        rig.api.cut()
        await asyncio.sleep(0.01)
        rig.api.fault = ""
        rig.api.put("a", "x")
        await asyncio.sleep(6)
        assert rig.stored() == {"a": "x"}
        assert rig.api.lists == 1

    reflecting(scenario)


def test_an_outage_of_the_watch_does_not_make_the_store_stale() -> None:
    """Only the watch is down. The known state stays valid."""

    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.api.fault = "refused"
        rig.api.cut()
        await asyncio.sleep(60)
        assert rig.reflector.stale_reason == ""

    reflecting(scenario)


@pytest.mark.parametrize("requested", [3600.0, float("inf")])
def test_retry_after_does_not_exceed_the_own_back_off(requested: float) -> None:
    class Hour(FakeApi):
        async def list(self, _: str = "") -> ListPage[Thing]:
            self.lists += 1
            raise ListWatchError("try again later", retry_after=requested)

    async def main() -> int:
        rig = Rig(Hour())
        task = asyncio.ensure_future(rig.reflector.run())
        await asyncio.sleep(301)
        task.cancel()
        await asyncio.wait([task])
        return rig.api.lists

    assert virtual.run(main()) == 11


def test_each_sync_is_reported() -> None:
    reported: list[int] = []

    async def scenario(rig: Rig) -> None:
        rig.reflector.on_synced(lambda: reported.append(rig.api.lists))
        await asyncio.sleep(1)
        rig.api.compact()
        rig.api.version += 1
        rig.api.compact()
        rig.api.cut()
        await asyncio.sleep(10)

    reflecting(scenario)
    assert reported == [1, 2]


def test_many_events_yield_to_other_tasks() -> None:
    """Events that have arrived together are read without a pause, so the reflector must yield in between."""

    class Flood(FakeApi):
        @asynccontextmanager
        async def watch(self, *_: Any) -> AsyncIterator[AsyncIterator[WatchEvent[Thing]]]:
            async def events() -> AsyncGenerator[WatchEvent[Thing], None]:
                for number in range(1000):
                    yield WatchEvent(EventType.ADDED, str(number + 10), thing(f"t{number}", number + 10))
                await asyncio.sleep(3600)

            async with aclosing(events()) as stream:
                yield stream

    async def main() -> int:
        store: Store[Thing] = Store()
        begun = asyncio.Event()
        store.subscribe(lambda _: begun.set())
        reflector = Reflector("things", Flood(), store, VirtualClock())
        task = asyncio.ensure_future(reflector.run())
        await begun.wait()
        before, longest = len(store), 0
        while len(store) < 1000:
            await asyncio.sleep(0)
            before, longest = len(store), max(longest, len(store) - before)
        task.cancel()
        await asyncio.wait([task])
        return longest

    assert virtual.run(main()) <= EVENTS_PER_TURN


class Deaf(FakeApi):
    """Its watches are open and send nothing, as on a connection whose other end is gone."""

    def watch(self, *_: Any) -> Any:
        return self._silence()

    @asynccontextmanager
    async def _silence(self) -> AsyncIterator[AsyncIterator[WatchEvent[Thing]]]:
        async def nothing() -> AsyncGenerator[WatchEvent[Thing], None]:
            await asyncio.Future()
            yield WatchEvent(EventType.BOOKMARK, "")

        async with aclosing(nothing()) as stream:
            yield stream


def test_relist_finds_changes_that_a_dead_watch_missed() -> None:
    async def main() -> list[Any]:
        rig = Rig(Deaf())
        rig.api.put("a", "x")
        task = asyncio.ensure_future(rig.reflector.run())
        await asyncio.sleep(10)
        rig.api.put("b", "y")
        await asyncio.sleep(10)
        found: list[Any] = [rig.stored(), rig.reflector.stale_reason]
        rig.reflector.relist("requested")
        found.append(rig.reflector.stale_reason)
        await asyncio.sleep(1)
        found += [rig.stored(), rig.reflector.stale_reason, rig.api.lists]
        task.cancel()
        await asyncio.wait([task])
        return [*found, task.cancelled()]

    assert virtual.run(main()) == [{"a": "x"}, "", "requested", {"a": "x", "b": "y"}, "", 2, True]


class Silent(Deaf):
    """Its watches send nothing until the client's read timeout."""

    @asynccontextmanager
    async def _silence(self) -> AsyncIterator[AsyncIterator[WatchEvent[Thing]]]:
        async def nothing() -> AsyncGenerator[WatchEvent[Thing], None]:
            await asyncio.sleep(80)
            raise ListWatchError("read timeout")
            yield WatchEvent(EventType.BOOKMARK, "")

        async with aclosing(nothing()) as stream:
            yield stream


def test_after_a_read_timeout_everything_is_listed_again() -> None:
    async def main() -> dict[str, str]:
        rig = Rig(Silent())
        task = asyncio.ensure_future(rig.reflector.run())
        await asyncio.sleep(10)
        rig.api.put("a", "x")
        await asyncio.sleep(75)
        task.cancel()
        await asyncio.wait([task])
        return rig.stored()

    assert virtual.run(main()) == {"a": "x"}


def test_relist_does_not_wait_for_the_back_off() -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.api.fault = "refused"
        rig.api.cut()
        await asyncio.sleep(300)
        rig.api.fault = ""
        rig.api.put("a", "x")
        rig.reflector.relist("requested")
        await asyncio.sleep(0.01)
        assert rig.stored() == {"a": "x"}
        assert rig.reflector.stale_reason == ""

    reflecting(scenario)


@pytest.mark.parametrize("away", [True, False], ids=["during a back-off", "during a watch"])
def test_several_relists_in_one_iteration_of_the_event_loop(away: bool) -> None:
    """`call_soon` runs the later calls after the first call has started to interrupt the reflector."""

    async def scenario(rig: Rig) -> None:
        failures: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context.get("exception")))
        await asyncio.sleep(1)
        if away:
            rig.api.fault = "refused"
            rig.api.cut()
            await asyncio.sleep(300)
        lists, rig.api.fault = rig.api.lists, ""
        rig.reflector.relist("first")
        loop.call_soon(rig.reflector.relist, "second")
        loop.call_soon(rig.reflector.relist, "third")
        await asyncio.sleep(0)
        rig.reflector.relist("fourth")
        assert rig.reflector.stale_reason == "fourth"
        await asyncio.sleep(1)
        assert failures == []
        assert rig.api.lists == lists + 1
        assert rig.reflector.stale_reason == ""

    reflecting(scenario)


def test_a_failed_relist_leaves_the_store_stale() -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.api.fault = "refused"
        rig.reflector.relist("requested")
        await asyncio.sleep(1)
        assert "the last list of things failed" in rig.reflector.stale_reason

    reflecting(scenario)


def test_a_relist_during_a_list_starts_another_list() -> None:
    async def main() -> int:
        rig = Rig()
        for name in "abcde":
            rig.api.put(name, "x")
        task = asyncio.ensure_future(rig.reflector.run())
        await asyncio.sleep(0.0015)
        assert rig.api.lists == 1
        rig.reflector.relist("requested")
        await asyncio.sleep(10)
        task.cancel()
        await asyncio.wait([task])
        assert rig.stored() == rig.served()
        return rig.api.lists

    assert virtual.run(main()) == 1 + 3  # one page, and then three


def test_backing_off_is_set_only_during_the_back_off() -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.api.fault = "refused"
        rig.api.cut()
        await asyncio.sleep(0.01)
        assert rig.reflector.backing_off
        rig.api.fault = ""
        await asyncio.sleep(60)
        assert not rig.reflector.backing_off

    reflecting(scenario)
