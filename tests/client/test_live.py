"""Requests that run at the same time."""

import asyncio
from typing import Any

import pytest

from booking_operator.client.errors import CommandError
from booking_operator.client.live import Changes, LiveObjects, together
from booking_operator.reconcilers.informers import Informers
from tests.support.virtual import run


async def answer(value: Any, seconds: float) -> Any:
    await asyncio.sleep(seconds)
    if isinstance(value, Exception):
        raise value
    return value


def test_results_have_the_order_of_the_requests() -> None:
    async def main() -> list[Any]:
        return await together(answer("slow", 2), answer("fast", 1))

    assert run(main()) == ["slow", "fast"]


def test_the_error_is_that_of_the_first_request_and_not_of_the_first_answer() -> None:
    async def main() -> None:
        await together(answer(CommandError("first"), 2), answer(CommandError("second"), 1))

    with pytest.raises(CommandError, match="first"):
        run(main())


def test_a_task_waits_for_a_change_that_it_does_not_know() -> None:
    async def main() -> list[int]:
        changes = Changes()
        changes.notify("team-a")
        waiting = asyncio.ensure_future(changes.wait(1, 60))
        await asyncio.sleep(5)
        assert not waiting.done()
        changes.notify("team-a")
        return [await changes.wait(0, 60), await waiting, await changes.wait(2, 3)]

    assert run(main()) == [2, 2, 2]


def test_an_outage_lasts_until_each_kind_is_answered_and_is_a_change_of_each_namespace() -> None:
    live = LiveObjects(Informers(default_region=""), [])
    seen = []
    for kind, answered in (
        ("bookings", False),
        ("resources", False),
        ("bookings", True),
        ("resources", True),
    ):
        live.note_answer(kind, answered=answered)
        seen.append((live.disconnected, live.changes.number("team-a"), live.changes.number()))
    assert seen == [(True, 1, 1), (True, 1, 1), (True, 1, 1), (False, 2, 2)]
