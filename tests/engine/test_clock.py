"""Sleeping until an instant of the wall clock."""

from datetime import timedelta

from booking_operator.engine.clock import SystemClock, sleep_until
from tests.support import virtual
from tests.support.virtual import VirtualClock


def test_sleep_until_returns_at_the_instant() -> None:
    async def main() -> timedelta:
        clock = VirtualClock()
        due = clock.now() + timedelta(days=3, milliseconds=7)
        await sleep_until(clock, due)
        return clock.now() - due

    assert timedelta(0) <= virtual.run(main()) < timedelta(milliseconds=1)


def test_the_system_clock_is_aware_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)
