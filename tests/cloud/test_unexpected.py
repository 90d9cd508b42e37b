"""An unexpected exception fails one call, one poll or one batch, is logged, and affects nothing else."""

import asyncio
from asyncio import TaskGroup
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, cast

import pytest
from aiobotocore.credentials import AioCredentials
from structlog.testing import capture_logs

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.credential_renewal import RenewedCredentials
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.ec2 import Ec2Api
from booking_operator.cloud.aws.rds import RdsApi
from booking_operator.cloud.batching.fair_queue import GATHER_TIME
from booking_operator.cloud.batching.token_bucket import published_limits
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Operation, Order
from booking_operator.cloud.instrumentation import measured
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import InstanceState
from booking_operator.engine.clock import Clock
from booking_operator.metrics import FailedPart
from tests.support import batcher_stage
from tests.support.batcher_stage import START, Stage, outcome, play
from tests.support.inventory import DB, FAR, WEB, FakeListener
from tests.support.inventory import Stage as Views
from tests.support.inventory import play as watch
from tests.support.virtual import VirtualClock, run

HERE = WEB.scope
TAGS = [{"Key": "resource-booking-application", "Value": "web"}]
LATER = GATHER_TIME.total_seconds() + 0.01


class Counted:
    """Metrics that record unexpected errors and the results of calls."""

    def __init__(self) -> None:
        self.parts: list[FailedPart] = []
        self.results: list[str] = []

    def called(self, _: str, __: str, ___: str, ____: str, result: str, _____: float) -> None:
        self.results.append(result)

    def batched(self, action: str, instances: int) -> None:
        pass

    def aws_skewed(self, ahead: timedelta) -> None:
        pass

    def unexpected(self, part: FailedPart, times: int = 1) -> None:
        self.parts += [part] * times


def tracebacks(logs: list[Any]) -> list[tuple[str, type[BaseException]]]:
    return [
        (entry["part"], type(entry["exc_info"])) for entry in logs if entry["event"] == "unexpected_error"
    ]


# Views of the instances.


def test_an_exception_in_a_describe_fails_only_it_and_is_retried_with_back_off() -> None:
    async def scenario(stage: Views) -> None:
        await stage.observe()
        stage.track(WEB, FAR)
        stage.cloud.error = cast("Any", KeyError("instanceId"))
        await stage.sleep_to(1)
        with pytest.raises(CloudError) as caught:
            await stage.observe()
        assert caught.value.reason == "UnexpectedError"
        assert "KeyError" in str(caught.value)
        assert stage.inventory.observation(WEB) is not None
        await stage.sleep_to(70)
        failure = stage.inventory.failure(HERE)
        assert failure is not None
        assert failure.reason == "UnexpectedError"
        far = [at for scope, at in stage.cloud.calls if scope == FAR.scope]
        pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(far)]
        assert pauses[:4] == pytest.approx([2, 4, 8, 16], abs=0.01)
        stage.cloud.error = None
        await stage.sleep_to(200)
        assert stage.inventory.failure(HERE) is None

    with capture_logs() as logs:
        watch(scenario)
    assert ("view", KeyError) in tracebacks(logs)


def test_an_exception_of_a_listener_for_one_group_affects_no_other() -> None:
    async def scenario(stage: Views) -> None:
        woken: list[Group] = []

        def changed(group: Group) -> None:
            woken.append(group)
            if group == WEB:
                raise ValueError("a bug")

        stage.inventory.set_listener(FakeListener(lambda: (WEB, DB), changed))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(1)
        assert woken == [WEB, DB]
        assert stage.inventory.failure(HERE) is None
        assert stage.inventory.observation(DB) is not None

    with capture_logs() as logs:
        watch(scenario)
    assert tracebacks(logs) == [("listener", ValueError)]


def test_an_exception_in_a_poll_does_not_stop_polling() -> None:
    async def scenario(stage: Views) -> None:
        broken = True

        def groups() -> Collection[Group]:
            if broken:
                raise ValueError("a bug")
            return (WEB,)

        stage.inventory.set_listener(FakeListener(groups))
        stage.tasks.create_task(stage.inventory.poll())
        await stage.sleep_to(20)
        assert stage.cloud.calls == []
        broken = False
        await stage.sleep_to(40)
        assert len(stage.cloud.calls) == 1

    with capture_logs() as logs:
        watch(scenario)
    assert tracebacks(logs) == [("poll", ValueError)] * 4


def test_a_view_is_updated_although_the_listener_raises() -> None:
    async def scenario(stage: Views) -> None:
        def groups() -> Collection[Group]:
            raise ValueError("a bug")

        stage.inventory.set_listener(FakeListener(groups))
        for error in (None, CloudError("NoCredentials", "there are none"), None):
            stage.cloud.error = error
            if error is None:
                assert (await stage.observe()).ids(InstanceState.STOPPED) == ("a",)
            else:
                with pytest.raises(CloudError):
                    await stage.observe()
            await asyncio.sleep(60)

    with capture_logs() as logs:
        watch(scenario)
    assert tracebacks(logs) == [("listener", ValueError)] * 3


# Batches.


def raising(error: Exception, *bad: str) -> batcher_stage.Reply:
    """Raise `error` for each call that contains any of `bad`."""

    def reply(_: Operation, ids: Sequence[str]) -> CloudError | None:
        if set(ids) & set(bad):
            raise error
        return None

    return reply


def test_an_exception_in_a_batch_fails_only_it() -> None:
    async def scenario(stage: Stage) -> None:
        stage.reply = raising(KeyError("StartingInstances"), "bad")
        failed = stage.order("bad", "worse")
        other = stage.order("far", group=Group("ec2", "", "us-east-1", "web"))
        assert await stage.outcome(failed) == dict.fromkeys(("bad", "worse"), "UnexpectedError")
        assert await stage.outcome(other) == {"far": "pending"}
        stage.reply = lambda *_: None
        assert await stage.outcome(stage.order("bad")) == {"bad": "pending"}

    with capture_logs() as logs:
        play(scenario)
    assert tracebacks(logs) == [("batch", KeyError)]


def test_an_exception_in_the_validity_check_fails_only_its_order() -> None:
    async def scenario(stage: Stage) -> None:
        def stands() -> bool:
            raise ValueError("a bug")

        odd, good = stage.order("odd", stands=stands), stage.order("good")
        assert await stage.outcome(good) == {"good": "pending"}
        assert outcome(odd) == {"odd": "UnexpectedError"}
        assert [call.ids for call in stage.sent] == [("good",)]

    with capture_logs() as logs:
        play(scenario)
    assert tracebacks(logs) == [("queue", ValueError)]


class Pools(dict[str, str]):
    """A mapping that raises for one instance."""

    def get(self, id_: str, default: Any = None) -> Any:
        if id_ == "odd" and self:
            raise ValueError("a bug")
        return default


def test_an_exception_before_a_call_fails_its_order_and_the_queue_continues() -> None:
    async def scenario(stage: Stage) -> None:
        stage.pools = Pools()
        order = stage.order("odd")
        stage.pools["odd"] = "read right before the call is sent"
        assert await stage.outcome(order) == {"odd": "UnexpectedError"}
        assert await stage.outcome(stage.order("good")) == {"good": "pending"}

    with capture_logs() as logs:
        play(scenario)
    assert tracebacks(logs) == [("queue", ValueError)]


def test_an_exception_in_the_fair_queue_fails_waiting_orders_and_the_queue_continues() -> None:
    async def scenario(stage: Stage) -> None:
        ahead = stage.order("ahead", at=50)
        odd = stage.order("odd", tenant=cast("Any", ["not", "hashable"]))
        assert await stage.outcome(odd) == {"odd": "UnexpectedError"}
        assert outcome(ahead) == {"ahead": "UnexpectedError"}
        assert await stage.outcome(stage.order("good")) == {"good": "pending"}

    with capture_logs() as logs:
        play(scenario)
    assert tracebacks(logs) == [("queue", TypeError)]


def test_a_cancelled_call_is_no_failure() -> None:
    """A cancelled call is neither logged nor counted."""

    async def main() -> None:
        metrics, clock = Counted(), VirtualClock()

        async def call() -> None:
            with measured(metrics, clock, "ec2:StartInstances", HERE):
                await asyncio.sleep(3600)

        task = asyncio.create_task(call())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (metrics.parts, metrics.results) == ([], [])

    with capture_logs() as logs:
        run(main())
    assert logs == []


# Calls of AWS.


class Client:
    """A client of EC2 and RDS with answers that a test sets."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answer(**_: Any) -> Any:
            self.calls.append(name)
            return self.answers[name]

        return answer


class ClientSessions(AwsClients):
    """Sessions that return the client of the test."""

    def __init__(self, client: Client, metrics: Counted, clock: Clock | None = None) -> None:
        super().__init__(clock or VirtualClock(), Accounts(HERE.region), metrics=metrics)
        self._client_of_test = client

    async def ec2(self, _: Scope) -> Any:
        return self._client_of_test

    async def rds(self, _: Scope) -> Any:
        return self._client_of_test

    async def credentials(self, _: str) -> None:
        """Return immediately."""


def ec2_of(client: Client, metrics: Counted) -> Ec2Api:
    clock = VirtualClock()
    return Ec2Api(
        ClientSessions(client, metrics, clock), DescribeLimiter(published_limits, clock), metrics=metrics
    )


def rds_of(client: Client, metrics: Counted) -> RdsApi:
    clock = VirtualClock()
    sessions = ClientSessions(client, metrics, clock)
    return RdsApi(sessions, DescribeLimiter(published_limits, clock), clock, metrics=metrics)


def instance(id_: str | None, **more: Any) -> dict[str, Any]:
    row = {"State": {"Name": "running"}, "Tags": TAGS, **more}
    return row if id_ is None else {"InstanceId": id_, **row}


ODD_INSTANCES = [
    instance(None),
    {**instance(None), "InstanceId": None},
    instance("i-2", Tags=[None]),
    instance("i-3", State="running"),
    instance("i-4", Placement="eu-west-1a"),
    None,
]


@pytest.mark.parametrize("odd", ODD_INSTANCES, ids=str)
def test_a_malformed_instance_hides_no_other(odd: Any) -> None:
    async def main() -> None:
        metrics = Counted()
        rows = [instance("i-0"), odd, instance("i-9")]
        client = Client(describe_instances={"Reservations": [{"Instances": rows}]})
        api = ec2_of(client, metrics)
        for _ in range(3):
            assert [record.instance.id for record in await api.describe(HERE)] == ["i-0", "i-9"]
        assert metrics.parts == [FailedPart.RECORD] * 3
        del rows[1]
        await api.describe(HERE)

    with capture_logs() as logs:
        run(main())
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "records_skipped"),
        ("info", "records_recovered"),
    ]
    assert logs[0]["count"] == 1


def test_each_set_of_malformed_records_is_logged() -> None:
    async def main() -> None:
        rows = [instance("i-2", Tags=[None])]
        client = Client(describe_instances={"Reservations": [{"Instances": rows}]})
        api = ec2_of(client, Counted())
        await api.describe(HERE)
        rows.append(instance("i-3", Tags=[None]))
        await api.describe(HERE)
        await api.describe(Scope("acme", "eu-west-1"))

    with capture_logs() as logs:
        run(main())
    assert [(entry["account"], list(entry["errors"])) for entry in logs] == [
        ("", ["i-2"]),
        ("", ["i-2", "i-3"]),
        ("acme", ["i-2", "i-3"]),
    ]


def database(name: str | None, **more: Any) -> dict[str, Any]:
    row = {"DBInstanceStatus": "available", "TagList": TAGS, **more}
    return row if name is None else {"DBInstanceIdentifier": name, **row}


@pytest.mark.parametrize(
    ("odd_database", "odd_cluster"),
    [
        (database(None), {"Status": "available", "TagList": TAGS}),
        (database("d2", TagList=[None]), {"DBClusterIdentifier": "c2", "TagList": [None]}),
        (database("d2", DBInstanceStatus=None), {"DBClusterIdentifier": "c2", "Status": 7, "TagList": TAGS}),
        (None, None),
    ],
)
def test_a_malformed_database_hides_no_other(odd_database: Any, odd_cluster: Any) -> None:
    async def main() -> None:
        metrics = Counted()
        cluster = {"DBClusterIdentifier": "c1", "Status": "available", "TagList": TAGS}
        client = Client(
            describe_db_clusters={"DBClusters": [odd_cluster, cluster]},
            describe_db_instances={"DBInstances": [odd_database, database("d1")]},
        )
        api = rds_of(client, metrics)
        for _ in range(2):
            found = [record.instance.id for record in await api.describe(HERE)]
            assert found == ["cluster:c1", "db:d1"]
        assert metrics.parts == [FailedPart.RECORD] * 4

    with capture_logs() as logs:
        run(main())
    assert [entry["count"] for entry in logs if entry["event"] == "records_skipped"] == [2]


@pytest.mark.parametrize("answer", [{}, {"StartingInstances": None}])
def test_a_malformed_answer_is_a_failed_call(answer: Any) -> None:
    async def main() -> CloudError:
        metrics = Counted()
        api = ec2_of(Client(start_instances=answer), metrics)
        with pytest.raises(CloudError) as caught:
            await api.perform(HERE, START, ["i-1"])
        assert (metrics.parts, metrics.results) == ([FailedPart.CALL], ["lost"])
        return caught.value

    with capture_logs() as logs:
        error = run(main())
    assert (error.reason, error.kind) == ("UnexpectedError", FailureKind.LOST)
    assert str(error).startswith("StartInstances: unexpected ")
    assert len(tracebacks(logs)) == 1


def test_a_malformed_part_of_an_answer_hides_no_other() -> None:
    async def main() -> Mapping[str, Any]:
        states = {"CurrentState": {"Name": "pending"}, "PreviousState": {"Name": "stopped"}}
        changes = [states, {"InstanceId": "i-1", **states}]
        api = ec2_of(Client(start_instances={"StartingInstances": changes}), Counted())
        return await api.perform(HERE, Operation(Action.START), ["i-1", "i-2"])

    assert {id_: answer.now for id_, answer in run(main()).items()} == {"i-1": InstanceState.PENDING}


def test_a_malformed_answer_counts_as_lost() -> None:
    """The result is unknown, so the states are read before a retry, as after a lost reply."""

    async def scenario(stage: Stage) -> None:
        metrics = Counted()
        api = ec2_of(Client(start_instances={}), metrics)
        errors: list[CloudError] = []

        async def refused() -> None:
            try:
                await api.perform(HERE, START, ["a"])
            except CloudError as error:
                errors.append(error)

        await refused()
        stage.reply = batcher_stage.once(*errors)
        order: Order = stage.order("a", "b")
        await asyncio.sleep(LATER + 0.2)
        assert len(stage.looks) == 1
        assert order.pending_error is not None
        assert order.pending_error.reason == "UnexpectedError"
        assert await stage.outcome(order) == dict.fromkeys("ab", "pending")

    with capture_logs():
        play(scenario)


def test_an_exception_in_a_load_of_credentials_is_retried_with_back_off() -> None:
    async def main() -> None:
        async with TaskGroup() as tasks:
            world = RenewingWorld(tasks)
            first = await world.failure()
            assert first.reason == "UnexpectedError"
            assert str(first).startswith("Account 'acme': sts:AssumeRole: unexpected ZeroDivisionError")
            assert (await world.failure()).reason == "UnexpectedError"
            assert world.loads == 1
            await asyncio.sleep(2.1)
            world.works = True
            assert await world.key() == "key"

    with capture_logs() as logs:
        run(main())
    assert tracebacks(logs) == [("credentials", ZeroDivisionError)]


class RenewingWorld:
    """Credentials of an account whose load raises until a test sets `works`."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.loads, self.works = 0, False

        async def load() -> AioCredentials:
            self.loads += 1
            await asyncio.sleep(0.1)
            return AioCredentials("key" if self.works else f"{1 / 0}", "secret")

        self.credentials = RenewedCredentials("Account 'acme'", "sts:AssumeRole", load, VirtualClock(), tasks)

    async def key(self) -> str | None:
        return (await self.credentials.get_frozen_credentials()).access_key

    async def failure(self) -> CloudError:
        with pytest.raises(CloudError) as caught:
            await self.key()
        return caught.value
