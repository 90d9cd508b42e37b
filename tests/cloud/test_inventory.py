"""Which callers share which call, on virtual time and with a cloud in memory."""

import asyncio
from asyncio import TaskGroup
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_operator.cloud.driver import CloudError, Record
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.domain.group import Scope
from booking_operator.domain.instance import InstanceState, Observation
from tests.support import virtual
from tests.support.inventory import DB, FAR, UNREACHABLE, WEB, Stage, play
from tests.support.virtual import EPOCH, DoneError

STOPPED = InstanceState.STOPPED


def test_concurrent_callers_share_one_call() -> None:
    async def scenario(stage: Stage) -> None:
        seen = await asyncio.gather(*(stage.observe(group) for group in [WEB, DB] * 100))
        assert len(stage.cloud.calls) == 1
        assert {observation.at for observation in seen} == {EPOCH}
        assert seen[0].ids(STOPPED) == ("a",)
        assert seen[1].ids(STOPPED) == ("d",)

    play(scenario)


def test_a_fresh_view_needs_no_call() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.observe()
        await stage.sleep_to(30)
        observation = await stage.view(DB, EPOCH)
        assert observation.at == EPOCH
        assert len(stage.cloud.calls) == 1

    play(scenario)


def test_callers_that_need_a_newer_view_share_the_next_call() -> None:
    async def scenario(stage: Stage) -> None:
        first = asyncio.create_task(stage.observe())
        await stage.sleep_to(0.1)
        late = await asyncio.gather(*(stage.observe() for _ in range(50)))
        assert (await first).at == EPOCH
        assert {observation.at for observation in late} == {EPOCH + timedelta(seconds=0.2)}
        assert len(stage.cloud.calls) == 2

    play(scenario)


def test_callers_that_accept_an_older_view_join_the_call_in_flight() -> None:
    async def scenario(stage: Stage) -> None:
        first = asyncio.create_task(stage.observe())
        await stage.sleep_to(0.1)
        assert (await stage.view(WEB, EPOCH)).at == EPOCH
        await first
        assert len(stage.cloud.calls) == 1

    play(scenario)


def test_scopes_do_not_wait_for_one_another() -> None:
    async def scenario(stage: Stage) -> None:
        await asyncio.gather(stage.observe(WEB), stage.observe(FAR))
        assert [at for _, at in stage.cloud.calls] == [EPOCH, EPOCH]

    play(scenario)


def test_a_cancelled_caller_cancels_no_other() -> None:
    async def scenario(stage: Stage) -> None:
        first, second = asyncio.create_task(stage.observe()), asyncio.create_task(stage.observe())
        await stage.sleep_to(0.1)
        first.cancel()
        assert (await second).at == EPOCH
        assert first.cancelled()
        assert len(stage.cloud.calls) == 1

    play(scenario)


def test_a_call_without_callers_still_refreshes_the_view() -> None:
    async def scenario(stage: Stage) -> None:
        caller = asyncio.create_task(stage.observe())
        await stage.sleep_to(0.1)
        caller.cancel()
        await stage.sleep_to(1)
        assert stage.inventory.observation(WEB) is not None

    play(scenario)


def test_a_since_in_the_future_means_now() -> None:
    async def scenario(stage: Stage) -> None:
        observation = await stage.view(WEB, EPOCH + timedelta(days=1))
        assert observation.at == EPOCH

    play(scenario)


def test_a_view_from_before_the_clock_was_set_back_is_not_fresh() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.observe()
        stage.clock.skew = timedelta(hours=-1)
        assert (await stage.observe()).at < EPOCH
        assert len(stage.cloud.calls) == 2

    play(scenario)


def test_the_shutdown_ends_all_waiting_callers() -> None:
    async def main() -> None:
        callers: list[asyncio.Task[Observation]] = []

        async def scenario() -> None:
            async with TaskGroup() as tasks:
                stage = Stage(tasks)
                callers.extend(asyncio.create_task(stage.observe()) for _ in range(2))
                await stage.sleep_to(0.1)
                callers.append(asyncio.create_task(stage.observe()))  # it waits for the next call
                callers.append(asyncio.create_task(stage.observe(FAR)))  # its call has not started
                await asyncio.sleep(0)
                raise DoneError

        with pytest.raises(ExceptionGroup):
            await scenario()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert [getattr(outcome, "reason", None) for outcome in outcomes] == ["Closed"] * 4

    virtual.run(main())


def test_an_error_goes_to_all_callers_of_the_call_and_the_last_view_stays() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.observe()
        await stage.sleep_to(10)
        stage.cloud.error = UNREACHABLE
        outcomes = await asyncio.gather(*(stage.observe() for _ in range(3)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["There was no reply."] * 3
        assert len({id(outcome) for outcome in outcomes}) == 3
        last = stage.inventory.observation(WEB)
        assert last is not None
        assert last.at == EPOCH
        assert len(stage.cloud.calls) == 2

    play(scenario)


def test_a_caller_of_the_call_after_a_failed_one_gets_a_view() -> None:
    async def scenario(stage: Stage) -> None:
        stage.cloud.error = UNREACHABLE
        first = asyncio.create_task(stage.observe())
        await stage.sleep_to(0.1)
        second = asyncio.create_task(stage.observe())
        await stage.sleep_to(0.15)
        stage.cloud.error = None
        assert (await second).ids(STOPPED) == ("a",)
        with pytest.raises(CloudError):
            await first

    play(scenario)


ASKS = st.lists(
    st.tuples(
        st.floats(0, 3),  # the time of the request
        st.floats(0, 2),  # the age of an acceptable view at that time
        st.none() | st.floats(0.01, 1),  # the timeout of the caller
    ),
    min_size=1,
    max_size=25,
)
LATENCIES = st.lists(st.floats(0, 1), min_size=1, max_size=5)
FAILURES = st.lists(st.booleans(), min_size=1, max_size=5)


@given(asks=ASKS, latencies=LATENCIES, failures=FAILURES)
def test_sharing_and_freshness_hold_in_any_order(
    asks: list[tuple[float, float, float | None]], latencies: list[float], failures: list[bool]
) -> None:
    """Only one call is in flight. Every view is as new as requested, and no caller waits for three calls."""

    async def ask(stage: Stage, at: float, age: float, limit: float | None) -> None:
        await stage.sleep_to(at)
        now = stage.clock.now()
        since = now - timedelta(seconds=age)
        last, calls = stage.inventory.observation(WEB), len(stage.cloud.calls)
        try:
            async with asyncio.timeout(limit):
                observation = await stage.view(WEB, since)
        except (CloudError, TimeoutError):
            assert last is None or last.at < since
        else:
            assert observation.at >= since
            if last is not None and last.at >= since:
                assert stage.clock.now() == now
        finally:
            assert stage.clock.now() - now <= timedelta(seconds=2 * max(latencies) + 0.001)
            # At most the call that is already requested and one for this caller begin during the wait.
            assert len(stage.cloud.calls) - calls <= 2

    async def scenario(stage: Stage) -> None:
        describe = stage.cloud.describe

        async def varying(scope: Scope) -> list[Record]:
            number = len(stage.cloud.calls)
            stage.cloud.latency = latencies[number % len(latencies)]
            stage.cloud.error = UNREACHABLE if failures[number % len(failures)] else None
            return await describe(scope)

        stage.inventory = Inventory(varying, stage.clock, stage.tasks)
        await asyncio.gather(*(ask(stage, *one) for one in asks))
        assert len(stage.cloud.calls) <= len(asks)

    play(scenario)
