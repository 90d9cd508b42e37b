"""What the simulation itself rests on: processes, networks and servers that fail as real ones do."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from booking_operator.kube.errors import ApiError
from tests.sim.client import SimKubeClient
from tests.sim.kernel import Kernel, Process
from tests.sim.kube import Request, SimKube
from tests.sim.network import Link, Way, Weather
from tests.sim.run import play
from tests.sim.script import Act, Script

BOOKINGS = "/apis/manager.kotaico.de/v1/bookings"
ONE = "/apis/manager.kotaico.de/v1/namespaces/team/bookings/one"
HOURS = 48
MACHINES = 30
BROKEN = "the request to the API server failed: reset"
SPEC = {"resource_name": "g0", "user_id": "ada"}


class Ground:
    """A process with a way to an API server."""

    def __init__(self) -> None:
        self.kernel = Kernel("test")
        self.kube = SimKube(self.kernel, "test")
        self.process = Process(self.kernel, "a")  # type: ignore[abstract]
        self.link = Link(self.kernel, self.process, "test", (0.1, 0.1))
        client: Any = SimKubeClient(self.kernel, self.kube, self.link)
        self.client: SimKubeClient = client
        self.done: list[Any] = []

    def run(
        self, main: Coroutine[Any, Any, None], until: float, *, at: float = 0, do: Callable[[], None]
    ) -> None:
        if at:
            self.kernel.at(at, do)
        else:
            do()
        self.process.start(main)
        self.kernel.run(until)
        self.process.kill()

    async def book(self) -> None:
        body = {"metadata": {"name": "one"}, "spec": SPEC}
        try:
            await self.client.request("POST", ONE.rpartition("/")[0], body=body)
        except ApiError as error:
            self.done.append(str(error))
        else:
            self.done.append("booked")


def test_time_jumps_to_what_comes_next() -> None:
    ground = Ground()

    async def main() -> None:
        await asyncio.sleep(86_400)
        ground.done.append(asyncio.get_running_loop().time())

    ground.run(main(), 100_000, do=lambda: None)
    assert ground.done == [pytest.approx(86_400, abs=0.001)]
    assert ground.kernel.steps < 10


def test_what_a_killed_process_has_sent_arrives_and_nothing_else_of_it_happens() -> None:
    ground = Ground()

    async def main() -> None:
        try:
            await ground.book()
            await asyncio.sleep(1)
        finally:
            await ground.book()

    arrived: list[int] = []
    ground.kube.asked = lambda _, status: arrived.append(status)
    ground.run(main(), 5, at=0.05, do=ground.process.kill)
    assert ground.kube.get("bookings", "one") is not None
    assert arrived == [200]
    assert not ground.process.tasks


def test_a_paused_process_goes_on_where_it_was() -> None:
    ground = Ground()

    async def main() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            ground.done.append(round(asyncio.get_running_loop().time()))

    ground.kernel.at(10, ground.process.resume)
    ground.run(main(), 20, at=1.5, do=ground.process.pause)
    assert ground.done == [1, 10, 11]


def test_a_process_that_does_not_end_is_reported() -> None:
    ground = Ground()

    async def main() -> None:
        while not ground.done:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    with pytest.raises(AssertionError, match="a does not end"):
        ground.run(main(), 5, do=lambda: None)
    ground.done.append("over")
    ground.process.kill()


def test_what_was_lost_on_the_way_back_was_done() -> None:
    ground = Ground()
    ground.run(ground.book(), 60, do=lambda: ground.link.change(Weather(unanswered=1, reset=1)))
    assert ground.kube.get("bookings", "one") is not None
    assert ground.done == [BROKEN]


def test_across_a_cut_nothing_comes_and_a_request_is_given_up() -> None:
    ground = Ground()
    ground.run(ground.book(), 60, do=lambda: ground.link.change(Weather(Way.CUT)))
    assert ground.kube.get("bookings", "one") is None
    assert len(ground.done) == 1


def test_a_watch_reports_all_after_its_version_in_order_and_breaks_with_the_server() -> None:
    ground = Ground()
    ground.kube.user("POST", "bookings", "zero", {"spec": SPEC})
    since = str(ground.kube.storage.version)
    ground.kube.user("POST", "bookings", "one", {"spec": SPEC})

    async def main() -> None:
        query = [("resourceVersion", since), ("timeoutSeconds", "300")]
        try:
            async with ground.client.stream(BOOKINGS, query) as lines:
                async for line in lines:
                    event = json.loads(line)
                    ground.done.append((event["type"], event["object"]["metadata"].get("name")))
        except ApiError as error:
            ground.done.append(str(error))

    def change() -> None:
        ground.kube.user("PATCH", "bookings", "one", {"spec": {"user_id": "bob"}})
        ground.kube.user("DELETE", "bookings", "one")

    ground.kernel.at(70, ground.kube.restart)
    ground.run(main(), 100, at=5, do=change)
    assert ground.done == [
        ("ADDED", "one"),
        ("MODIFIED", "one"),
        ("DELETED", "one"),
        ("BOOKMARK", None),
        BROKEN,
    ]


def asked(ground: Ground, method: str, path: str, body: Any = None, **query: str) -> Any:
    try:
        return json.loads(ground.kube.serve(Request("", method, path, query, body)))
    except ApiError as error:
        return error.status


def test_a_write_must_name_the_version_it_was_decided_for() -> None:
    ground = Ground()
    ground.kube.user("POST", "bookings", "one", {"spec": SPEC})
    first = asked(ground, "GET", ONE)["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": first}, "status": {"status": "SCHEDULED"}}
    assert asked(ground, "PATCH", f"{ONE}/status", patch)["metadata"]["generation"] == 1
    assert asked(ground, "PATCH", f"{ONE}/status", patch) == 409
    assert asked(ground, "DELETE", ONE, {"preconditions": {"resourceVersion": first}}) == 409


def test_old_versions_are_forgotten() -> None:
    ground = Ground()
    ground.kube.user("POST", "bookings", "one", {"spec": SPEC})
    ground.kube.storage.compact()
    assert asked(ground, "GET", BOOKINGS, **{"continue": "t1"}) == 410


def test_a_list_comes_in_pages_of_one_version() -> None:
    ground = Ground()
    for name in "abcde":
        ground.kube.user("POST", "bookings", name, {"spec": SPEC})
    page, names = asked(ground, "GET", BOOKINGS, limit="2"), []
    version = page["metadata"]["resourceVersion"]
    while True:
        names += [item["metadata"]["name"] for item in page["items"]]
        if not (token := page["metadata"]["continue"]):
            break
        ground.kube.user("POST", "bookings", f"later-{token}", {"spec": SPEC})
        page = asked(ground, "GET", BOOKINGS, limit="2", **{"continue": token})
        assert page["metadata"]["resourceVersion"] == version
    assert names == list("abcde")


@pytest.mark.parametrize("seed", range(4))
def test_a_replica_that_takes_over_starts_nothing_again(seed: int) -> None:
    """The leader dies three seconds after a start. The view of the other replica dates from before it."""
    facts = {"service": "ec2", "account": "", "tag": "g0", "pool": "m5.large in eu-west-1a"}
    acts = (
        *(Act(0, "launch", facts) for _ in range(MACHINES)),
        Act(0, "create", {"plural": "resources", "name": "g0", "spec": {"tag": "g0"}}),
        Act(0, "book", {"name": "b", "resource": "g0", "user": "ada", "start": 70, "end": 150}),
        Act(73, "kill", {"replica": "leader"}, lasts=60),
    )
    outcome = play(Script(seed, 2, 12.0, acts, 180))
    assert outcome.message == ""
    started, stopped = (
        [line.split() for line in outcome.trace if f" {action} " in line]
        for action in ("StartInstances", "StopInstances")
    )
    assert [line.count("i-0000") for line in started] == [1]
    assert (
        len({line[2] for line in (*started, *stopped)}) == 2
    )  # one has started them, the other stopped them
    last = max(float(line[0]) for line in stopped)
    assert last < 150.5


def test_days_of_bookings_pass_in_seconds() -> None:
    """A booking in each hour of two days. Every poll is made, and each boundary kept."""
    acts = [
        Act(0, "launch", {"service": "ec2", "account": "", "tag": "g0", "pool": "m5.large in eu-west-1a"}),
        Act(0, "create", {"plural": "resources", "name": "g0", "spec": {"tag": "g0"}}),
    ]
    for hour in range(HOURS):
        facts = {"name": f"b{hour}", "resource": "g0", "user": "ada"}
        acts.append(Act(hour * 3600, "book", facts | {"start": hour * 3600 + 600, "end": hour * 3600 + 1800}))
        acts.append(Act(hour * 3600 + 3000, "delete", {"plural": "bookings", "name": f"b{hour}"}))
    outcome = play(Script(0, 1, 0.0, tuple(acts), HOURS * 3600))
    assert outcome.message == ""
    assert sum("StartInstances" in line for line in outcome.trace) == HOURS
    assert sum("StopInstances" in line for line in outcome.trace) == HOURS
