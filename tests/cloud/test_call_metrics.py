"""Metrics of calls: each call and each page, by class of failure, and the number of instances."""

import asyncio
from asyncio import TaskGroup
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from booking_operator.cloud.aws.accounts import Accounts
from booking_operator.cloud.aws.clients import AwsClients
from booking_operator.cloud.aws.credential_renewal import RenewedCredentials
from booking_operator.cloud.aws.describe_limiter import DescribeLimiter
from booking_operator.cloud.aws.rds import RdsApi
from booking_operator.cloud.batching.token_bucket import published_limits
from booking_operator.cloud.driver import Action, CloudError, FailureKind, Operation, Order
from booking_operator.cloud.instrumentation import measured
from booking_operator.domain.group import Group, Scope
from booking_operator.metrics import FailedPart
from tests.support.batcher_stage import Stage
from tests.support.virtual import EPOCH, VirtualClock, play, run

REGION = "eu-west-1"
HERE = Scope("", REGION)


class Seen:
    """Records all metrics."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, float]] = []
        self.scopes: set[Scope] = set()
        self.batches: list[tuple[str, int]] = []
        self.surprises: list[FailedPart] = []

    def called(
        self, service: str, action: str, account: str, region: str, result: str, seconds: float
    ) -> None:
        self.scopes.add(Scope(account, region))
        self.calls.append((service, action, result, round(seconds, 3)))

    def batched(self, action: str, instances: int) -> None:
        self.batches.append((action, instances))

    def aws_skewed(self, _: timedelta) -> None:
        raise AssertionError("no clock is read here")

    def unexpected(self, part: FailedPart, times: int = 1) -> None:
        self.surprises += [part] * times


def refusal(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "StartInstances")


class SignedSessions(AwsClients):
    """Sessions that already have credentials."""

    async def credentials(self, _: str) -> None:
        """Return immediately."""


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (refusal("RequestLimitExceeded"), FailureKind.THROTTLED),
        (refusal("InternalError", 500), FailureKind.TRANSIENT),
        (EndpointConnectionError(endpoint_url="x"), FailureKind.TRANSIENT),
        (ReadTimeoutError(endpoint_url="x"), FailureKind.LOST),
        (refusal("InvalidInstanceID.NotFound"), FailureKind.REFUSED),
        (refusal("InsufficientInstanceCapacity"), FailureKind.CAPACITY),
        (refusal("UnauthorizedOperation"), FailureKind.DENIED),
        (refusal("AuthFailure"), FailureKind.ACCOUNT),
        (CloudError("NoCredentials", "none"), FailureKind.UNSENT),
    ],
)
def test_a_call_is_reported_by_the_class_of_its_failure(error: Exception, result: FailureKind) -> None:
    async def main() -> None:
        seen, clock = Seen(), VirtualClock()
        sessions = SignedSessions(clock, Accounts(REGION), metrics=seen)

        async def call() -> None:
            async with sessions.call("ec2:StartInstances", HERE):
                await clock.sleep(0.25)
                raise error

        with pytest.raises(CloudError):
            await call()
        assert seen.calls == [("ec2", "StartInstances", result.value, 0.25)]
        assert seen.scopes == {HERE}

    run(main())


def test_a_successful_call_is_counted_and_an_interrupted_one_is_not() -> None:
    async def main() -> None:
        seen = Seen()
        sessions = SignedSessions(VirtualClock(), Accounts(REGION), metrics=seen)
        async with sessions.call("ec2:StopInstances", HERE):
            pass
        with pytest.raises(KeyboardInterrupt):
            async with sessions.call("ec2:StopInstances", HERE):
                raise KeyboardInterrupt
        assert seen.calls == [("ec2", "StopInstances", "ok", 0.0)]

    run(main())


def test_each_page_of_rds_is_a_call() -> None:
    async def main() -> None:
        seen, clock = Seen(), VirtualClock()
        sessions = SignedSessions(clock, Accounts(REGION), metrics=seen)
        rds = RdsApi(sessions, DescribeLimiter(published_limits, clock), clock)
        queries: list[dict[str, Any]] = []

        async def describe(**query: Any) -> dict[str, Any]:
            queries.append(query)
            more = {"Marker": f"m{len(queries)}"} if len(queries) < 3 else {}
            return {"Rows": [len(queries)], **more}

        pages = rds._pages(HERE, "rds:DescribeDBInstances", describe, next_field="Marker")
        assert [page["Rows"] async for page in pages] == [[1], [2], [3]]
        assert [query.get("Marker") for query in queries] == [None, "m1", "m2"]
        assert seen.calls == [("rds", "DescribeDBInstances", "ok", 0.0)] * 3

    run(main())


def test_batch_sizes_and_accepted_instances_are_reported() -> None:
    seen, accepted = Seen(), list[int]()

    async def scenario(stage: Stage) -> None:
        stage.silent_on = frozenset({"i-2"})
        group, deadline = Group("ec2", "", REGION, "web"), EPOCH + timedelta(seconds=5)
        order = Order.of(group, ["i-0", "i-1", "i-2"], deadline, on_accepted=accepted.append)
        stage.batcher.submit(order, Operation(Action.START), list(order.futures))
        await VirtualClock().sleep(6)
        assert seen.batches == [("StartInstances", 3)]
        assert accepted == [2]
        assert isinstance(order.futures["i-2"].exception(), CloudError)

    play(partial(Stage, metrics=seen), scenario)


def test_assumed_roles_are_counted_as_calls() -> None:
    seen = Seen()

    async def load() -> NoReturn:
        await asyncio.sleep(0.5)
        raise refusal("ExpiredToken")

    def make(tasks: TaskGroup) -> RenewedCredentials:
        clock = VirtualClock()
        observed = partial(measured, seen, clock, "sts:AssumeRole", Scope("acme", REGION))
        return RenewedCredentials("acme", "sts:AssumeRole", load, clock, tasks, observed=observed)

    async def scenario(credentials: RenewedCredentials) -> None:
        with pytest.raises(CloudError):
            await credentials.get_frozen_credentials()
        assert seen.calls == [("sts", "AssumeRole", "account", 0.5)]
        assert seen.scopes == {Scope("acme", REGION)}

    play(make, scenario)
