"""Waiting for a connection of a channel, on virtual time."""

import asyncio

import pytest

from booking_operator.domain.notification import BusyError
from booking_operator.notify.turns import TURN_TIMEOUT_SECONDS, turn
from tests.support import virtual


def test_turns_are_taken_in_order() -> None:
    async def main() -> list[tuple[int, float]]:
        free, taken, loop = asyncio.Semaphore(2), [], asyncio.get_running_loop()

        async def take(number: int) -> None:
            async with turn(free):
                taken.append((number, loop.time()))
                await asyncio.sleep(10)

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(take(number))
        return taken

    assert virtual.run(main()) == [(0, 0), (1, 0), (2, 10), (3, 10), (4, 20)]


@pytest.mark.parametrize("ends", ["cancelled", "in time"])
def test_a_cancelled_or_timed_out_wait_takes_no_turn(ends: str) -> None:
    async def main() -> float:
        free, loop = asyncio.Semaphore(0), asyncio.get_running_loop()

        async def take() -> None:
            async with turn(free):
                raise AssertionError("there was no turn")

        waiting = asyncio.ensure_future(take())
        await asyncio.sleep(1)
        if ends == "cancelled":
            waiting.cancel()
        with pytest.raises(BusyError if ends == "in time" else asyncio.CancelledError):
            await waiting
        free.release()
        async with turn(free):
            return loop.time()

    assert virtual.run(main()) == pytest.approx(TURN_TIMEOUT_SECONDS if ends == "in time" else 1)
