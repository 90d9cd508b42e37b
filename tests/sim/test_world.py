"""The foundations of the simulation: processes, networks and servers that fail like real ones."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from booking_operator.kube.errors import ApiError
from tests.sim.client import SimKubeClient
from tests.sim.kernel import Kernel, Process
from tests.sim.kube import Request, SimKube
from tests.sim.network import Link, LinkFaults, LinkState
from tests.sim.run import play
from tests.sim.script import Act, Script

BOOKINGS = "/apis/manager.kotaico.de/v1/bookings"
ONE = "/apis/manager.kotaico.de/v1/namespaces/team/bookings/one"
HOURS = 12
MACHINES = 30
BROKEN = "the request to the API server failed: reset"
SPEC = {"resource_name": "g0", "user_id": "ada"}


class Setup:
    """A process with a link to an API server."""

    def __init__(self) -> None:
        self.kernel = Kernel("test")
        self.kube = SimKube(self.kernel, "test")
        self.process = Process(self.kernel, "a")  # type: ignore[abstract]
        self.link = Link(self.kernel, self.process, "test", (0.1, 0.1))
        client: Any = SimKubeClient(self.kernel, self.kube, self.link)
        self.client: SimKubeClient = client
        self.results: list[Any] = []

    def run(
        self, main: Coroutine[Any, Any, None], until: float, *, at: float = 0, do: Callable[[], None]
    ) -> None:
        if at:
            self.kernel.call_at(at, do)
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
            self.results.append(str(error))
        else:
            self.results.append("booked")


def test_time_jumps_to_the_next_timer() -> None:
    setup = Setup()

    async def main() -> None:
        await asyncio.sleep(86_400)
        setup.results.append(asyncio.get_running_loop().time())

    setup.run(main(), 100_000, do=lambda: None)
    assert setup.results == [pytest.approx(86_400, abs=0.001)]
    assert setup.kernel.steps < 10


def test_a_request_in_flight_of_a_killed_process_arrives_and_its_cleanup_sends_nothing() -> None:
    setup = Setup()

    async def main() -> None:
        try:
            await setup.book()
            await asyncio.sleep(1)
        finally:
            await setup.book()

    arrived: list[int] = []
    setup.kube.on_request = lambda _, status: arrived.append(status)
    setup.run(main(), 5, at=0.05, do=setup.process.kill)
    assert setup.kube.get("bookings", "one") is not None
    assert arrived == [200]
    assert not setup.process.tasks


def test_a_resumed_process_continues() -> None:
    setup = Setup()

    async def main() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            setup.results.append(round(asyncio.get_running_loop().time()))

    setup.kernel.call_at(10, setup.process.resume)
    setup.run(main(), 20, at=1.5, do=setup.process.pause)
    assert setup.results == [1, 10, 11]


def test_a_process_that_does_not_end_is_reported() -> None:
    setup = Setup()

    async def main() -> None:
        while not setup.results:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    with pytest.raises(AssertionError, match="a does not end"):
        setup.run(main(), 5, do=lambda: None)
    setup.results.append("over")
    setup.process.kill()


def test_a_request_whose_response_is_lost_is_carried_out() -> None:
    setup = Setup()
    setup.run(setup.book(), 60, do=lambda: setup.link.change(LinkFaults(lost=1, reset=1)))
    assert setup.kube.get("bookings", "one") is not None
    assert setup.results == [BROKEN]


def test_a_request_over_a_cut_link_times_out_and_is_not_carried_out() -> None:
    setup = Setup()
    setup.run(setup.book(), 60, do=lambda: setup.link.change(LinkFaults(LinkState.CUT)))
    assert setup.kube.get("bookings", "one") is None
    assert len(setup.results) == 1


def test_a_watch_sends_later_events_in_order_and_breaks_with_the_server() -> None:
    setup = Setup()
    setup.kube.user_request("POST", "bookings", "zero", {"spec": SPEC})
    since = str(setup.kube.storage.version)
    setup.kube.user_request("POST", "bookings", "one", {"spec": SPEC})

    async def main() -> None:
        query = [("resourceVersion", since), ("timeoutSeconds", "300")]
        try:
            async with setup.client.stream(BOOKINGS, query) as lines:
                async for line in lines:
                    event = json.loads(line)
                    setup.results.append((event["type"], event["object"]["metadata"].get("name")))
        except ApiError as error:
            setup.results.append(str(error))

    def change() -> None:
        setup.kube.user_request("PATCH", "bookings", "one", {"spec": {"user_id": "bob"}})
        setup.kube.user_request("DELETE", "bookings", "one")

    setup.kernel.call_at(70, setup.kube.restart)
    setup.run(main(), 100, at=5, do=change)
    assert setup.results == [
        ("ADDED", "one"),
        ("MODIFIED", "one"),
        ("DELETED", "one"),
        ("BOOKMARK", None),
        BROKEN,
    ]


def request(setup: Setup, method: str, path: str, body: Any = None, **query: str) -> Any:
    try:
        return json.loads(setup.kube.serve(Request("", method, path, query, body)))
    except ApiError as error:
        return error.status


def test_a_write_with_an_old_resource_version_conflicts() -> None:
    setup = Setup()
    setup.kube.user_request("POST", "bookings", "one", {"spec": SPEC})
    first = request(setup, "GET", ONE)["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": first}, "status": {"status": "SCHEDULED"}}
    assert request(setup, "PATCH", f"{ONE}/status", patch)["metadata"]["generation"] == 1
    assert request(setup, "PATCH", f"{ONE}/status", patch) == 409
    assert request(setup, "DELETE", ONE, {"preconditions": {"resourceVersion": first}}) == 409


def test_a_continue_token_expires() -> None:
    setup = Setup()
    setup.kube.user_request("POST", "bookings", "one", {"spec": SPEC})
    setup.kube.storage.compact()
    assert request(setup, "GET", BOOKINGS, **{"continue": "t1"}) == 410


def test_the_pages_of_a_list_have_one_resource_version() -> None:
    setup = Setup()
    for name in "abcde":
        setup.kube.user_request("POST", "bookings", name, {"spec": SPEC})
    page, names = request(setup, "GET", BOOKINGS, limit="2"), []
    version = page["metadata"]["resourceVersion"]
    while True:
        names += [item["metadata"]["name"] for item in page["items"]]
        if not (token := page["metadata"]["continue"]):
            break
        setup.kube.user_request("POST", "bookings", f"later-{token}", {"spec": SPEC})
        page = request(setup, "GET", BOOKINGS, limit="2", **{"continue": token})
        assert page["metadata"]["resourceVersion"] == version
    assert names == list("abcde")


@pytest.mark.parametrize("seed", range(4))
def test_a_new_leader_does_not_repeat_starts(seed: int) -> None:
    """The leader is killed three seconds after a start. The new leader's observation is older."""
    arguments = {"service": "ec2", "account": "", "tag": "g0", "pool": "m5.large in eu-west-1a"}
    acts = (
        *(Act(0, "launch", arguments) for _ in range(MACHINES)),
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
    )  # one replica started them, the other stopped them
    last = max(float(line[0]) for line in stopped)
    assert last < 150.5


def test_half_a_day_of_bookings() -> None:
    """A booking in each hour of half a day: the operator starts and stops the instance at each boundary."""
    acts = [
        Act(0, "launch", {"service": "ec2", "account": "", "tag": "g0", "pool": "m5.large in eu-west-1a"}),
        Act(0, "create", {"plural": "resources", "name": "g0", "spec": {"tag": "g0"}}),
    ]
    for hour in range(HOURS):
        arguments = {"name": f"b{hour}", "resource": "g0", "user": "ada"}
        acts.append(
            Act(hour * 3600, "book", arguments | {"start": hour * 3600 + 600, "end": hour * 3600 + 1800})
        )
        acts.append(Act(hour * 3600 + 3000, "delete", {"plural": "bookings", "name": f"b{hour}"}))
    outcome = play(Script(0, 1, 0.0, tuple(acts), HOURS * 3600))
    assert outcome.message == ""
    assert sum("StartInstances" in line for line in outcome.trace) == HOURS
    assert sum("StopInstances" in line for line in outcome.trace) == HOURS
