"""Requests that run at the same time."""

import asyncio
from typing import Any

import pytest

from booking_operator.client.errors import CommandError
from booking_operator.client.live import Changes, together
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
