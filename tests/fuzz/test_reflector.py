"""Whatever a server sends, a reflector soon equals it, within the request rate of its back-off."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from booking_operator.engine.reflector import (
    EventType,
    ListWatchError,
    Reflector,
    ResourceExpiredError,
    WatchEvent,
)
from booking_operator.engine.store import Store
from booking_operator.engine.workqueue import Backoff
from tests.support import invalid_input, virtual
from tests.support.fakeapi import FakeApi
from tests.support.objects import Thing, thing
from tests.support.virtual import VirtualClock

LONGEST, SILENCE = 30, 80.0
GARBAGE = st.one_of(
    st.tuples(st.just("bookmark"), st.sampled_from(["", "x", "0", "-1", "1e9", "٣", "1.5"])),
    st.tuples(st.just("again"), st.integers(0, 50)),
    st.tuples(st.just("refused")),
    st.tuples(st.just("garbled")),
    st.tuples(st.just("expired")),
    st.tuples(st.just("end")),
    st.tuples(st.just("silence"), st.sampled_from([0.0, 5.0, SILENCE])),
)
FAILURES: dict[str, Exception] = {
    "refused": ListWatchError("refused"),
    "garbled": ListWatchError("invalid response", needs_relist=True),
    "expired": ResourceExpiredError("too old"),
}
CHANGES = st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", ""]))


class MadApi(FakeApi):
    """Sends the items of `garbage` before the real events."""

    def __init__(self) -> None:
        super().__init__()
        self.garbage: list[tuple[Any, ...]] = []

    @asynccontextmanager
    async def watch(
        self, resource_version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[WatchEvent[Thing]]]:
        await asyncio.sleep(0.001)
        if not (resource_version.isascii() and resource_version.isdecimal()):
            self.watches += 1
            raise ListWatchError("HTTP 400: invalid resource version", needs_relist=True)
        async with (
            super().watch(resource_version, seconds) as events,
            aclosing(self._mixed(events, int(resource_version))) as mixed,
        ):
            yield mixed

    async def _mixed(
        self, events: AsyncIterator[WatchEvent[Thing]], version: int
    ) -> AsyncGenerator[WatchEvent[Thing], None]:
        while self.garbage:
            what, *rest = self.garbage.pop(0)
            if what == "bookmark":
                yield WatchEvent(EventType.BOOKMARK, rest[0])
            elif what == "again":
                past = [event for event in self.history if int(event.resource_version) <= version]
                if past:
                    yield past[rest[0] % len(past)]
            elif what in FAILURES:
                raise FAILURES[what]
            elif what == "end":
                return
            elif what == "silence":
                await asyncio.sleep(rest[0])
                raise ListWatchError("silent")
        async for event in events:
            yield event


@invalid_input.budget(100)
@given(st.lists(st.tuples(CHANGES, st.lists(GARBAGE, max_size=6)), max_size=8))
@example([(("a", "x"), [("bookmark", "x")])])
@example([(("b", "x"), []), (("b", ""), []), (("a", "x"), [("again", 0)])])
@example([(("c", "x"), []), (("c", ""), []), (("a", "x"), [("bookmark", "x"), ("again", 0)])])
def test_the_store_equals_the_server_after_the_garbage_ends(steps: list[Any]) -> None:
    async def main() -> None:
        api, store = MadApi(), Store[Thing]()
        backoff = Backoff(maximum=timedelta(seconds=LONGEST))
        task = asyncio.ensure_future(Reflector("things", api, store, VirtualClock(), backoff).run())
        for (name, state), garbage in steps:
            api.garbage += garbage
            api.cut()
            if state:
                api.put(name, state)
            else:
                api.remove(name)
            await asyncio.sleep(1)
        while api.garbage:
            await asyncio.sleep(1)
            api.cut()
        requests = api.lists + api.watches
        await asyncio.sleep(SILENCE + LONGEST + 1)
        api.put("last", "z")
        await asyncio.sleep(LONGEST + 1)
        assert {item.metadata.name: item.status for item in store.objects()} == {
            name: item.status for name, item in api.objects.items()
        }
        assert api.lists + api.watches - requests < 12
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    virtual.run(main())


@pytest.mark.parametrize("nonsense", [("garbled",), ("again", 0), ("bookmark", "x"), ("expired",)])
def test_endless_garbage_causes_no_hot_loop(nonsense: tuple[Any, ...]) -> None:
    async def main() -> int:
        api = MadApi()
        api.put("a", "x")
        api.put("b", "x")
        task = asyncio.ensure_future(Reflector("things", api, Store[Thing](), VirtualClock()).run())
        for _ in range(600):
            api.garbage = [nonsense]
            await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return api.lists + api.watches

    assert virtual.run(main()) < 120


def test_an_event_older_than_the_stored_object_is_ignored() -> None:
    store: Store[Thing] = Store()
    store.apply(thing("a", 7, "new"))
    store.apply(thing("a", 6, "old"))
    assert [item.status for item in store.objects()] == ["new"]
