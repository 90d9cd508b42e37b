"""The invariants of the work queue, by a state machine against a model, and its timers on virtual time."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from booking_operator.engine.workqueue import Backoff, Priority, Result, WorkQueue
from tests.support import virtual
from tests.support.virtual import EPOCH, VirtualClock

KEYS = ("a", "b", "c")
BACKOFF = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=8))


class ManualClock:
    """A clock that the state machine sets."""

    def __init__(self) -> None:
        self.instant = EPOCH

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        raise AssertionError("nothing measures here")

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing sleeps here ({seconds} s)")


@dataclass
class KeyModel:
    """The expected state of one key, in a simple form."""

    waiting: bool = False
    processing: bool = False
    again: bool = False
    timers: list[datetime] = field(default_factory=list)
    held: list[datetime] = field(default_factory=list)
    taken_at: datetime = EPOCH
    failures: int = 0


class QueueMachine(RuleBasedStateMachine):
    """Any sequence of adds, timers, takes, successes, failures and passing time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock, BACKOFF)
        self.model = {key: KeyModel() for key in KEYS}

    def fire(self) -> None:
        for model in self.model.values():
            if any(timer <= self.clock.instant for timer in model.timers):
                model.timers = []
                if model.processing:
                    model.again = True
                else:
                    model.waiting = True

    @rule(key=st.sampled_from(KEYS), priority=st.sampled_from(Priority))
    def add(self, key: str, priority: Priority) -> None:
        self.queue.add(key, priority)
        model = self.model[key]
        if model.processing:
            model.again = True
        else:
            model.waiting = True

    @rule(key=st.sampled_from(KEYS), seconds=st.integers(0, 20))
    def add_at(self, key: str, seconds: int) -> None:
        when = self.clock.instant + timedelta(seconds=seconds)
        self.queue.add_at(key, when)
        model = self.model[key]
        model.timers = [min([*model.timers, when])]

    @rule(seconds=st.integers(1, 15))
    def pass_time(self, seconds: int) -> None:
        self.clock.instant += timedelta(seconds=seconds)

    @rule(seconds=st.integers(1, 15))
    def set_back(self, seconds: int) -> None:
        self.clock.instant -= timedelta(seconds=seconds)

    @rule()
    def take(self) -> None:
        self.fire()
        expected = {key for key, model in self.model.items() if model.waiting}
        taken = self.queue.try_get()
        assert len(taken) == bool(expected)
        if not taken:
            return
        [key] = taken
        assert key in expected
        model = self.model[key]
        assert not model.processing, "handed out twice at once"
        model.waiting, model.processing, model.taken_at = False, True, self.clock.instant
        model.held, model.timers = model.timers, []

    @precondition(lambda self: any(model.processing for model in self.model.values()))
    @rule(data=st.data(), seconds=st.none() | st.integers(-5, 20), failed=st.booleans())
    def done(self, data: st.DataObject, seconds: int | None, failed: bool) -> None:
        busy = sorted(key for key, model in self.model.items() if model.processing)
        key = data.draw(st.sampled_from(busy))
        model = self.model[key]
        next_at = None if seconds is None else model.taken_at + timedelta(seconds=seconds)
        self.queue.done(key, Result(next_at, failed=failed))
        wanted = [next_at] if next_at else []
        if failed:
            model.failures += 1
            wanted.append(self.clock.instant + BACKOFF.after(model.failures))
            wanted += [] if next_at else model.held
        else:
            model.failures = 0
        wanted = [when for when in wanted if when > min(model.taken_at, self.clock.instant)]
        model.timers = [min([*model.timers, *wanted])] if [*model.timers, *wanted] else []
        model.again |= self.clock.instant < model.taken_at
        model.processing, model.held = False, []
        model.waiting, model.again = model.again, False

    @invariant()
    def idle_keys_are_forgotten(self) -> None:
        for key, model in self.model.items():
            idle = not (model.waiting or model.processing or model.timers or model.failures)
            assert (key not in self.queue._entries) == idle, key
        assert self.queue.key_count == len(self.queue._entries)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_boundaries_precede_changes_and_changes_precede_the_first_list() -> None:
    async def main() -> list[str]:
        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        for key in ("i1", "i2"):
            queue.add(key, Priority.INITIAL)
        queue.add("c1")
        queue.add_at("b1", EPOCH)
        queue.add("i2")
        return [await queue.get() for _ in range(4)]

    assert virtual.run(main()) == ["b1", "c1", "i2", "i1"]


@pytest.mark.parametrize("seconds", [0.0005, 0.25, 9.0, 3600.0, 100_000.0])
def test_a_timer_fires_at_its_instant_and_never_before(seconds: float) -> None:
    async def main() -> timedelta:
        clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(clock)
        due = clock.now() + timedelta(seconds=seconds)
        queue.add_at("a", due)
        await queue.get()
        return clock.now() - due

    late = virtual.run(main())
    assert timedelta(0) <= late < timedelta(milliseconds=1)


def test_a_clock_set_forward_is_noticed_within_ten_seconds() -> None:
    async def main() -> float:
        clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(clock)
        queue.add_at("a", clock.now() + timedelta(hours=1))
        getting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(5)
        clock.skew = timedelta(hours=2)
        began = asyncio.get_running_loop().time()
        await getting
        return asyncio.get_running_loop().time() - began

    assert virtual.run(main()) <= 10


def test_a_clock_set_back_never_makes_a_timer_early() -> None:
    async def main() -> timedelta:
        clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(clock)
        due = clock.now() + timedelta(minutes=1)
        queue.add_at("a", due)
        getting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(30)
        clock.skew = -timedelta(minutes=10)
        await getting
        return clock.now() - due

    assert virtual.run(main()) >= timedelta(0)


def test_a_clock_set_back_while_a_key_is_processed_loses_no_boundary() -> None:
    """The boundary that is in the future again counts even if the reconcile that follows at once fails."""
    clock, queue = set_back_during_a_reconcile()
    queue.done("a", Result(clock.now() + timedelta(seconds=1)))
    assert queue.try_get() == ("a",)
    queue.done("a", Result(failed=True))
    assert queue.try_get() == ()
    clock.instant += timedelta(seconds=1)
    assert queue.try_get() == ("a",)


def test_a_clock_set_back_while_a_key_is_processed_makes_it_ready_again() -> None:
    """The reconcile began after a boundary that is in the future again."""
    _, queue = set_back_during_a_reconcile()
    queue.done("a", Result())
    assert queue.try_get() == ("a",)
    queue.done("a", Result())
    assert queue.try_get() == ()


def set_back_during_a_reconcile() -> tuple[ManualClock, WorkQueue[str]]:
    """A queue that has handed out the key `a`, and its clock, which was set back after that."""
    clock = ManualClock()
    queue: WorkQueue[str] = WorkQueue(clock, Backoff(initial=timedelta(minutes=1)))
    queue.add("a")
    queue.try_get()
    clock.instant -= timedelta(seconds=2)
    return clock, queue


def test_the_back_off_never_delays_a_boundary() -> None:
    async def main() -> float:
        clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(clock, Backoff(timedelta(seconds=60), timedelta(seconds=60)))
        queue.add("a")
        await queue.get()
        queue.done("a", Result(clock.now() + timedelta(seconds=3), failed=True))
        await queue.get()
        return asyncio.get_running_loop().time()

    assert 3 <= virtual.run(main()) < 3.01


def test_a_boundary_in_the_past_is_processed_once() -> None:
    async def main() -> int:
        clock, served = VirtualClock(), 0
        queue: WorkQueue[str] = WorkQueue(clock)
        due = clock.now()
        queue.add_at("a", due)
        try:
            async with asyncio.timeout(100):
                while True:
                    key = await queue.get()
                    served += 1
                    queue.done(key, Result(due))
        except TimeoutError:
            return served

    assert virtual.run(main()) == 1


def test_the_queue_is_idle_when_no_key_is_ready_or_processed() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(VirtualClock())
        await queue.wait_until_idle()
        queue.add("a")
        queue.add("b")
        waiting = asyncio.ensure_future(queue.wait_until_idle())
        for key in ("a", "b"):
            assert await queue.get() == key
            await asyncio.sleep(1)
            assert not waiting.done()
            queue.done(key, Result(EPOCH + timedelta(hours=1)))
        await waiting

    virtual.run(main())


def test_the_back_off_doubles_up_to_its_maximum() -> None:
    backoff = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=60))
    assert [backoff.after(n).total_seconds() for n in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]


def test_timers_can_have_the_priority_of_changes() -> None:
    async def main() -> list[str]:
        queue: WorkQueue[str] = WorkQueue(VirtualClock(), timer_priority=Priority.CHANGE)
        queue.add("i1", Priority.INITIAL)
        queue.add("c1")
        queue.add_at("b1", EPOCH)
        return [await queue.get() for _ in range(3)]

    assert virtual.run(main()) == ["c1", "b1", "i1"]


def test_repeated_reconciles_before_a_boundary_do_not_accumulate_timers() -> None:
    async def main() -> tuple[int, float]:
        clock = VirtualClock()
        queue: WorkQueue[str] = WorkQueue(clock)
        due = clock.now() + timedelta(days=1)
        for _ in range(1000):
            queue.add("a")
            queue.done(await queue.get(), Result(due))
        kept = len(queue._timers)
        await queue.get()
        return kept, (clock.now() - due).total_seconds()

    kept, late = virtual.run(main())
    assert kept < 100
    assert 0 <= late < 0.001
