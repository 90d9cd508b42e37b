"""Liveness and readiness on virtual time: liveness fails only if a restart would help."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.engine.controller import Controller
from booking_operator.engine.reflector import ListWatchError, Reflector
from booking_operator.engine.store import Store
from booking_operator.engine.workqueue import Result, WorkQueue
from booking_operator.observability.health import Check, Health, as_text
from booking_operator.observability.loop_monitor import LoopMonitor
from booking_operator.observability.sources import Sources
from tests.support.virtual import VirtualClock, run

Reconcile = Callable[[str], Awaitable[Result]]


class AwaySource:
    """An API server that is unreachable."""

    async def list(self, _: str = "") -> NoReturn:
        raise ListWatchError("no connection")

    def watch(self, _: str, __: int) -> NoReturn:
        raise ListWatchError("no connection")


class Patient:
    """One controller and one watch, with a liveness probe every ten seconds."""

    def __init__(self, reconcile: Reconcile, *, workers: int = 1) -> None:
        self.clock = VirtualClock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock)
        self.controller = Controller("Lock tags", self.queue, reconcile, workers=workers)
        self.sources = Sources(Accounts())
        self.sources.controllers = (self.controller,)
        self.beat = LoopMonitor(lambda _: None)
        self.health = Health(self.sources, lambda: self.beat.age, self.clock)

    async def watched(self, seconds: float) -> dict[str, str]:
        """The failed checks of the last probe."""
        self.beat.start()
        task = asyncio.ensure_future(self.controller.run())
        checks: list[Check] = []
        for _ in range(int(seconds / 10)):
            await asyncio.sleep(10)
            checks = self.health.live()
        self.beat.stop()
        task.cancel()
        await asyncio.wait({task})
        return {check.name: check.problem for check in checks if check.problem}


async def succeed(_: str) -> Result:
    return Result()


def test_an_idle_operator_is_live() -> None:
    async def main() -> None:
        assert await Patient(succeed).watched(3600) == {}

    run(main())


def test_timeouts_of_reconciles_do_not_fail_liveness() -> None:
    async def hang(_: str) -> Result:
        await asyncio.sleep(100_000)
        return Result()

    async def main() -> None:
        patient = Patient(hang)
        for key in "abcdefgh":
            patient.queue.add(key)
        assert await patient.watched(600) == {}

    run(main())


def test_a_reconcile_that_ignores_its_timeout_fails_liveness() -> None:
    stop = False

    async def stubborn(_: str) -> Result:
        while not stop:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue
        return Result()

    async def main() -> None:
        nonlocal stop
        patient = Patient(stubborn)
        patient.queue.add("secret")
        running = asyncio.ensure_future(patient.watched(160))
        await asyncio.sleep(155)
        stop = True
        checks = patient.health.live()
        problems = {check.name: check.problem for check in checks if check.problem}
        assert problems == {"controller/lock-tags": "a reconcile has run for 155 s (timeout 120 s)"}
        assert "secret" not in as_text("healthz", checks, verbose=True)[1]
        await running

    run(main())


def test_keys_that_no_worker_takes_fail_liveness() -> None:
    async def main() -> None:
        patient = Patient(succeed, workers=0)
        patient.queue.add("a")
        assert await patient.watched(140) == {}
        problems = await patient.watched(40)
        assert problems == {"controller/lock-tags": "1 keys are ready, but none was taken for 170 s"}

    run(main())


def test_a_blocked_event_loop_fails_liveness() -> None:
    async def main() -> None:
        patient = Patient(succeed)
        await asyncio.sleep(45)
        checks = patient.health.live()
        assert checks[0] == Check("event-loop", "the last heartbeat was 45 s ago")
        well, text = as_text("healthz", checks, verbose=False)
        assert not well
        assert text.splitlines() == [
            "[-]event-loop failed: the last heartbeat was 45 s ago",
            "[+]controller/lock-tags ok",
            "healthz check failed",
        ]

    run(main())


def test_an_outage_of_the_api_server_does_not_fail_liveness_but_silence_does() -> None:
    async def main() -> None:
        patient = Patient(succeed)
        store: Store[Any] = Store()
        reflector: Reflector[Any] = Reflector("bookings", AwaySource(), store, patient.clock)
        patient.sources.reflectors = patient.sources.required_reflectors = (reflector,)
        trying = asyncio.ensure_future(reflector.run())
        assert await patient.watched(7200) == {}
        assert patient.health.ready() == [Check("cache-sync/bookings", "not listed yet")]
        trying.cancel()
        await asyncio.wait({trying})
        [(check, problem)] = (await patient.watched(1200)).items()
        assert check == "watch/bookings"
        assert problem.startswith("no event and no failure for 1")

    run(main())


def test_an_operator_that_is_starting_is_not_ready() -> None:
    async def main() -> None:
        health = Health(Sources(), lambda: 0.0, VirtualClock())
        assert health.ready() == [Check("started", "the operator is starting")]
        assert as_text("healthz", health.live(), verbose=False) == (True, "ok")
        assert as_text("healthz", health.live(), verbose=True) == (
            True,
            "[+]event-loop ok\nhealthz check passed\n",
        )

    run(main())


def test_the_lag_of_the_event_loop_is_measured() -> None:
    async def main() -> None:
        lags: list[float] = []
        beat = LoopMonitor(lags.append)
        beat.start()
        await asyncio.sleep(2)
        assert len(lags) >= 7
        assert max(lags) < 0.001
        loop: Any = asyncio.get_running_loop()
        loop._jumping.elapsed += 3.0  # one iteration of the event loop that takes three seconds
        await asyncio.sleep(0.5)
        beat.stop()
        assert 2.7 < max(lags) <= 3.0
        count = len(lags)
        await asyncio.sleep(2)
        assert len(lags) == count

    run(main())


def test_the_checks_restart_with_the_controllers_of_a_new_leadership() -> None:
    async def main() -> None:
        patient = Patient(succeed, workers=0)
        patient.queue.add("a")
        assert await patient.watched(140) == {}
        other: WorkQueue[str] = WorkQueue(patient.clock)
        other.add("a")
        patient.sources.controllers = (Controller("Lock tags", other, succeed),)
        assert {check.problem for check in patient.health.live()} == {""}
        await asyncio.sleep(100)
        patient.beat.start()
        await asyncio.sleep(1)
        assert {check.problem for check in patient.health.live()} == {""}
        patient.beat.stop()

    run(main())
