"""The metrics of a controller, on virtual time."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from booking_operator.engine.controller import RECONCILE_TIMEOUT_SECONDS, Controller
from booking_operator.engine.workqueue import Priority, Result, WorkQueue
from booking_operator.metrics import ReconcileOutcome
from tests.support.virtual import EPOCH, VirtualClock, run


@dataclass
class Seen:
    """Records all metrics."""

    adds: int = 0
    waits: list[float] = field(default_factory=list)
    retries: int = 0
    ends: list[tuple[ReconcileOutcome, float]] = field(default_factory=list)
    turns: list[tuple[str, Hashable]] = field(default_factory=list)

    def added(self) -> None:
        self.adds += 1

    def waited(self, seconds: float) -> None:
        self.waits.append(round(seconds, 3))

    def retried(self) -> None:
        self.retries += 1

    def reconcile_started(self, key: Hashable, /) -> None:
        self.turns.append(("started", key))

    def reconcile_ended(self, key: Hashable, /) -> None:
        self.turns.append(("ended", key))

    def reconciled(self, outcome: ReconcileOutcome, seconds: float) -> None:
        self.ends.append((outcome, round(seconds, 3)))


async def worked(controller: Controller[str], seconds: float) -> None:
    task = asyncio.ensure_future(controller.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait({task})


def test_waits_count_from_the_add_or_from_the_due_time() -> None:
    async def slow(_: str) -> Result:
        await asyncio.sleep(2)
        return Result()

    async def main() -> None:
        seen = Seen()
        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        controller = Controller("test", queue, slow, workers=1, metrics=lambda _: seen)
        queue.add("a")
        queue.add("a", Priority.INITIAL)  # merged with the first, and not counted
        queue.add("b")
        queue.add_at("c", EPOCH + timedelta(seconds=3))
        assert len(queue) == 2
        await worked(controller, 10)
        assert (seen.adds, seen.waits) == (3, [0.0, 2.0, 1.0])
        assert seen.ends == [(ReconcileOutcome.SUCCESS, 2.0)] * 3
        assert (len(queue), controller.keys_taken, controller.longest_running_seconds) == (0, 3, 0.0)

    run(main())


def test_the_wait_of_a_key_added_while_it_is_processed_counts_from_the_add() -> None:
    async def main() -> None:
        seen = Seen()
        queue: WorkQueue[str] = WorkQueue(VirtualClock())

        async def slow(_: str) -> Result:
            await asyncio.sleep(5)
            return Result()

        controller = Controller("test", queue, slow, metrics=lambda _: seen)
        queue.add("a")
        asyncio.get_running_loop().call_later(1, queue.add, "a")
        await worked(controller, 7)
        assert seen.adds == 2
        assert seen.waits == [0.0, 4.0]

    run(main())


@pytest.mark.parametrize(
    ("error", "needs", "outcome"),
    [
        (None, RECONCILE_TIMEOUT_SECONDS + 1, ReconcileOutcome.TIMEOUT),
        (RuntimeError("bug"), 0.01, ReconcileOutcome.ERROR),
        (TimeoutError("of something within it"), 0.01, ReconcileOutcome.ERROR),
        (None, 0.01, ReconcileOutcome.REQUEUE),
    ],
)
def test_every_outcome_is_reported(error: Exception | None, needs: float, outcome: ReconcileOutcome) -> None:
    async def fail(_: str) -> Result:
        await asyncio.sleep(needs)
        if error is not None:
            raise error
        return Result(failed=True)

    async def main() -> None:
        seen = Seen()
        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        queue.add("a")
        took = min(needs, RECONCILE_TIMEOUT_SECONDS)
        await worked(Controller("test", queue, fail, metrics=lambda _: seen), took + 0.1)
        assert seen.ends == [(outcome, took)]
        assert seen.retries == 1

    run(main())


def test_each_reconcile_reports_its_start_and_its_end() -> None:
    async def reconcile(key: str) -> Result:
        if key == "bad":
            raise RuntimeError("bug")
        await asyncio.sleep(2 if key == "good" else 60)
        return Result()

    async def main() -> None:
        seen = Seen()
        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        controller = Controller("test", queue, reconcile, metrics=lambda _: seen)
        for key in ("good", "bad", "cancelled"):
            queue.add(key)
        task = asyncio.ensure_future(controller.run())
        await asyncio.sleep(0.1)
        assert set(controller.introspect()["running"]) == {"cancelled", "good"}
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        assert [key for what, key in seen.turns if what == "started"] == ["good", "bad", "cancelled"]
        assert {key for what, key in seen.turns if what == "ended"} == {"good", "bad", "cancelled"}
        assert not controller.introspect()["running"]

    run(main())


def test_the_oldest_reconcile_is_reported_while_it_runs() -> None:
    async def slow(_: str) -> Result:
        await asyncio.sleep(60)
        return Result()

    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        controller = Controller("test", queue, slow)
        queue.add("a")
        task = asyncio.ensure_future(controller.run())
        await asyncio.sleep(10)
        queue.add("b")
        await asyncio.sleep(20)
        assert round(controller.longest_running_seconds, 3) == 30.0
        task.cancel()
        await asyncio.wait({task})
        assert controller.longest_running_seconds == 0.0

    run(main())
