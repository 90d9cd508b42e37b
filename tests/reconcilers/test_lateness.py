"""Lateness counts for boundaries that were known ahead, until the first action at each of them."""

from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import Any

from booking_operator.cloud.driver import Action, CloudError, FailureKind
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.store import Key
from tests.support.environment import World
from tests.support.virtual import EPOCH, run

Late = list[tuple[Action, str, float, int]]


class Measured(World):
    """A world that records lateness."""

    def __init__(self, **spec: Any) -> None:
        self.late: Late = []
        super().__init__(late=lambda *facts: self.late.append(facts), **spec)

    @property
    def rounded(self) -> list[tuple[str, float]]:
        """Action and seconds for each instance."""
        rows = [[(action.value, round(seconds, 2))] * count for action, _, seconds, count in self.late]
        return list(chain(*rows))

    def remember(self, seconds: float) -> None:
        """Set the next power change that an operator wrote before this one started."""
        found: Any = self.informers.resources.get(Key("ns", "res"))
        assert found is not None
        status = replace(found.status, next_change_at=format_utc(EPOCH + timedelta(seconds=seconds)))
        version = str(int(found.metadata.resource_version) + 1)
        metadata = replace(found.metadata, resource_version=version)
        self.informers.resources.apply(replace(found, status=status, metadata=metadata))


def test_planned_boundaries_count_for_each_instance() -> None:
    async def main() -> None:
        world = Measured()
        world.booking("bk", 10, 20)
        await world.run(30)
        assert world.rounded == [("start", 0.0)] * 2 + [("stop", 0.0)] * 2
        assert {service for _, service, _, _ in world.late} == {"ec2"}

    run(main())


def test_a_boundary_counts_from_the_warm_up() -> None:
    async def main() -> None:
        world = Measured(warm_up="5s")
        world.booking("bk", 10, 20)
        world.driver.queue_seconds = 1.0
        await world.run(9)
        assert world.rounded == [("start", 1.0)] * 2

    run(main())


def test_the_wait_in_the_request_queue_counts() -> None:
    async def main() -> None:
        world = Measured()
        world.driver.queue_seconds = 42.0
        world.booking("bk", 10, 600)
        await world.run(60)
        assert world.rounded == [("start", 42.0)] * 2

    run(main())


def test_unplanned_starts_and_stops_do_not_count() -> None:
    async def main() -> None:
        world = Measured()
        world.booking("now", -5, 20)
        await world.run(5)
        assert [act.verb for act in world.driver.acts] == ["start"]
        world.delete_booking("now")
        await world.run(5)
        assert [act.verb for act in world.driver.acts] == ["start", "stop"]
        world.booking("again", -5, 600)
        await world.run(5)
        world.booking("again", -5, 1)  # shortened to an end in the past
        await world.run(5)
        assert [act.verb for act in world.driver.acts] == ["start", "stop", "start", "stop"]
        assert world.late == []

    run(main())


def test_an_instance_started_by_hand_later_does_not_count() -> None:
    async def main() -> None:
        world = Measured()
        world.booking("bk", 2, 10)
        await world.run(30)
        world.late.clear()
        world.driver.instances["i-1"] = InstanceState.RUNNING
        world.driver.view = world.driver.look(world.clock.now())
        world.wake()
        await world.run(5)
        assert world.driver.acts[-1].verb == "stop"
        assert world.late == []

    run(main())


def test_a_refused_action_counts_when_it_is_accepted_later() -> None:
    async def main() -> None:
        world = Measured()
        world.driver.act_error = CloudError("IncorrectState", "no", kind=FailureKind.REFUSED)
        world.booking("bk", 5, 600)
        await world.run(8)
        assert world.late == []
        world.driver.act_error = None
        await world.run(70)
        [first, *_] = world.rounded
        assert first[0] == "start"
        assert first[1] >= 3.0

    run(main())


def test_a_boundary_while_no_operator_ran_counts_in_full() -> None:
    async def main() -> None:
        world = Measured()
        world.booking("bk", -90, 600)
        world.remember(-90)
        await world.run(5)
        assert world.rounded == [("start", 90.05)] * 2  # the first refresh of the inventory takes 50 ms

    run(main())


def test_the_first_run_with_old_bookings_does_not_count() -> None:
    async def main() -> None:
        world = Measured()
        world.driver.instances = dict.fromkeys(world.driver.instances, InstanceState.RUNNING)
        world.booking("old", -7200, -3600)
        await world.run(5)
        assert [act.verb for act in world.driver.acts] == ["stop"]
        assert world.late == []

    run(main())


def test_a_boundary_of_a_suspended_resource_does_not_count() -> None:
    async def main() -> None:
        world = Measured(suspend=True)
        world.booking("bk", 5, 600)
        await world.run(60)
        world.resource(suspend=False)
        await world.run(5)
        assert [act.verb for act in world.driver.acts] == ["start"]
        assert world.late == []

    run(main())
