"""The controller: keys run concurrently, one key only once at a time, and exceptions affect one key only."""

import asyncio
from datetime import timedelta

from booking_operator.engine.controller import RECONCILE_TIMEOUT_SECONDS, Controller
from booking_operator.engine.workqueue import Result, WorkQueue
from tests.support import virtual
from tests.support.virtual import EPOCH, VirtualClock


async def during(controller: Controller[str], seconds: float) -> None:
    """Run the controller for `seconds`, then cancel it."""
    task = asyncio.ensure_future(controller.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_keys_run_concurrently_and_one_key_only_once_at_a_time() -> None:
    async def main() -> tuple[int, int]:
        busy: dict[str, int] = {}
        most = {"keys": 0, "same": 0}

        async def reconcile(key: str) -> Result:
            busy[key] = busy.get(key, 0) + 1
            most["same"] = max(most["same"], busy[key])
            most["keys"] = max(most["keys"], sum(busy.values()))
            queue.add(key)
            await asyncio.sleep(1)
            busy[key] -= 1
            return Result()

        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        for key in "abc":
            queue.add(key)
        await during(Controller("test", queue, reconcile), 10.5)
        return most["keys"], most["same"]

    assert virtual.run(main()) == (3, 1)


def test_an_exception_for_one_key_backs_off_and_affects_no_other() -> None:
    async def main() -> dict[str, int]:
        calls: dict[str, int] = {}

        async def reconcile(key: str) -> Result:
            calls[key] = calls.get(key, 0) + 1
            if key == "bad":
                raise ValueError("a bug")
            return Result(queue_clock.now() + timedelta(seconds=1))

        queue_clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(queue_clock)
        queue.add("bad")
        queue.add("good")
        await during(Controller("test", queue, reconcile), 100.5)
        return calls

    calls = virtual.run(main())
    assert calls["good"] == 101
    assert calls["bad"] == 9  # after 0, .25, .75, 1.75, 3.75, 7.75, 15.75, 31.75 and 63.75 s


def test_a_hanging_reconcile_times_out() -> None:
    async def main() -> list[float]:
        began: list[float] = []

        async def reconcile(_: str) -> Result:
            began.append(asyncio.get_running_loop().time())
            await asyncio.Event().wait()
            return Result()

        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        queue.add("a")
        await during(Controller("test", queue, reconcile), RECONCILE_TIMEOUT_SECONDS + 1)
        return began

    first, second = virtual.run(main())
    assert first < 1
    assert second >= RECONCILE_TIMEOUT_SECONDS


def test_the_number_of_workers_bounds_concurrent_keys() -> None:
    async def main() -> tuple[int, int]:
        running, most, done = 0, 0, 0

        async def reconcile(_: str) -> Result:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1
            done += 1
            return Result()

        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        for key in "abcdefg":
            queue.add(key)
        await during(Controller("test", queue, reconcile, workers=3), 3.5)
        return most, done

    assert virtual.run(main()) == (3, 7)


def test_many_ready_keys_yield_to_other_tasks() -> None:
    async def main() -> int:
        queue: WorkQueue[int] = WorkQueue(VirtualClock())
        begun: list[int] = []

        async def reconcile(key: int) -> Result:
            begun.append(key)
            return Result()

        for key in range(200):
            queue.add_at(key, EPOCH)
        task = asyncio.ensure_future(Controller("test", queue, reconcile).run())
        turns = 0
        while len(begun) < 200:
            await asyncio.sleep(0)
            turns += 1
        task.cancel()
        await asyncio.wait([task])
        return turns

    assert virtual.run(main()) >= 200
