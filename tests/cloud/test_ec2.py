"""The driver before moto, through a proxy that adds delays, faults and lost replies."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator

import pytest

from booking_operator.cloud import ec2
from booking_operator.cloud.driver import Accepted, CloudError, Group
from booking_operator.cloud.ec2 import Ec2Driver, open_driver
from booking_operator.domain.instance import Observation, State
from booking_operator.engine.clock import SystemClock
from tests.support.aws import AwsProxy
from tests.support.moto_server import REGION, run_moto

WEB = Group("ec2", "", REGION, "web")
CLOCK = SystemClock()
SECONDS = 20  # for anything that should come about


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with run_moto() as url:
        yield url


@pytest.fixture
async def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsProxy]:
    async with AwsProxy(moto_url) as proxy:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy


async def observe(driver: Ec2Driver, group: Group = WEB) -> Observation:
    return await driver.observe(group, CLOCK.now())


async def outcomes(accepted: Accepted) -> dict[str, State | str]:
    """Each instance's state, or the reason of the error."""
    await asyncio.wait(accepted.values(), timeout=SECONDS)
    return {id_: _outcome(future) for id_, future in accepted.items()}


def _outcome(future: asyncio.Future[State]) -> State | str:
    error = future.exception()
    return error.reason if isinstance(error, CloudError) else future.result()


async def start(driver: Ec2Driver, ids: Collection[str]) -> dict[str, State | str]:
    return await outcomes(driver.start(WEB, ids, deadline=CLOCK.now()))


async def stop(driver: Ec2Driver, ids: Collection[str], *, hibernate: bool = False) -> dict[str, State | str]:
    return await outcomes(driver.stop(WEB, ids, deadline=CLOCK.now(), hibernate=hibernate))


async def failure_of(driver: Ec2Driver, group: Group = WEB) -> CloudError:
    with pytest.raises(CloudError) as caught:
        await observe(driver, group)
    return caught.value


# --- as it should be


async def test_instances_are_found_by_their_tag(aws: AwsProxy) -> None:
    web = await aws.create_instances("web", 2)
    await aws.create_instances("db", 1, state="running")
    await aws.create_instances(None, 1)
    async with open_driver(CLOCK) as driver:
        assert (await observe(driver)).ids(State.STOPPED) == tuple(web)
        assert (
            len((await driver.observe(Group("ec2", "", REGION, "db"), CLOCK.now())).ids(State.RUNNING)) == 1
        )


async def test_terminated_instances_do_not_count(aws: AwsProxy) -> None:
    kept, gone = await aws.create_instances("web", 2)
    await aws.moto.change("TerminateInstances", [gone])
    async with open_driver(CLOCK) as driver:
        assert [instance.id for instance in (await observe(driver)).instances] == [kept]


async def test_all_pages_are_read(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2, "PAGE", 1)  # moto counts reservations
    ids = sorted([id_ for _ in range(3) for id_ in await aws.create_instances("web", 2)])
    async with open_driver(CLOCK) as driver:
        assert (await observe(driver)).ids(State.STOPPED) == tuple(ids)
    assert len(aws.calls_of("DescribeInstances")) == 3


async def test_describe_asks_for_large_pages_of_tagged_instances_that_exist(aws: AwsProxy) -> None:
    async with open_driver(CLOCK) as driver:
        await observe(driver)
    (call,) = aws.calls_of("DescribeInstances")
    assert call.region == REGION
    assert call.params["MaxResults"] == "1000"
    assert call.params["Filter.1.Name"] == "tag-key"
    assert call.params["Filter.1.Value.1"] == "resource-booking-application"
    states = {value for name, value in call.params.items() if name.startswith("Filter.2.Value.")}
    assert states == {"pending", "running", "stopping", "stopped"}
    assert "booking-operator" in call.headers["User-Agent"]


async def test_start_and_stop_reach_the_instances(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        assert await start(driver, ids) == dict.fromkeys(ids, State.PENDING)
        assert set((await aws.moto.states()).values()) == {"running"}
        assert await stop(driver, ids) == dict.fromkeys(ids, State.STOPPING)
        assert set((await aws.moto.states()).values()) == {"stopped"}
    assert [call.action for call in aws.calls] == ["StartInstances", "StopInstances"]
    assert aws.calls[0].instance_ids == tuple(ids)


async def test_an_accepted_start_shows_until_describe_has_caught_up(aws: AwsProxy) -> None:
    aws.stale_seconds = aws.transition_seconds = 3600
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        await start(driver, ids[:1])
        last = driver.last(WEB)
        assert last is not None
        assert (last.ids(State.PENDING), last.ids(State.STOPPED)) == ((ids[0],), (ids[1],))
        assert (await observe(driver)).ids(State.PENDING) == (ids[0],)
        aws.stale_seconds = 0
        assert (await observe(driver)).ids(State.PENDING) == (ids[0],)
        aws.transition_seconds = 0
        assert (await observe(driver)).ids(State.RUNNING) == (ids[0],)


async def test_tracked_groups_are_told_of_a_change_by_others(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    told: asyncio.Queue[Group] = asyncio.Queue()
    async with open_driver(CLOCK) as driver, asyncio.timeout(SECONDS):
        driver.track(lambda: [WEB, Group("rds", "", "us-west-2", "web")], told.put_nowait)
        assert await told.get() == WEB
        await aws.moto.change("StartInstances", ids)
        await observe(driver)
        assert await told.get() == WEB
    assert {call.region for call in aws.calls} == {REGION}


async def test_what_can_hibernate_does_and_the_rest_stops(aws: AwsProxy) -> None:
    plain = await aws.create_instances("web", 1, state="running")
    able = await aws.create_instances("web", 1, state="running", hibernate=True)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        assert await stop(driver, plain + able, hibernate=True) == dict.fromkeys(plain + able, State.STOPPING)
    hibernated = {call.instance_ids: call.params["Hibernate"] for call in aws.calls_of("StopInstances")}
    assert hibernated == {tuple(plain): "false", tuple(able): "true"}


async def test_hibernation_that_ec2_refuses_becomes_a_plain_stop(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1, state="running", hibernate=True)
    message = (
        f"The instance can't be hibernated because it was not configured at launch for hibernation: {ids[0]}"
    )
    aws.fail("StopInstances", code="UnsupportedHibernationConfiguration", message=message)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        assert await stop(driver, ids, hibernate=True) == {ids[0]: State.STOPPING}
    assert [call.params["Hibernate"] for call in aws.calls_of("StopInstances")] == ["true", "false"]


# --- failures of a call


async def test_one_id_that_does_not_exist_fails_alone(aws: AwsProxy) -> None:
    ids, bad = await aws.create_instances("web", 2), "i-0123456789abcdef0"
    async with open_driver(CLOCK) as driver:
        assert await start(driver, [ids[0], bad, ids[1]]) == {
            ids[0]: State.PENDING,
            bad: "InvalidInstanceIDNotFound",
            ids[1]: State.PENDING,
        }
    assert [call.instance_ids for call in aws.calls] == [(ids[0], bad, ids[1]), tuple(ids)]


async def test_one_instance_in_the_wrong_state_fails_alone(aws: AwsProxy) -> None:
    aws.transition_seconds = 3600
    stopping, stopped = await aws.create_instances("web", 2, state="running")
    await aws.moto.change("StopInstances", [stopped])
    async with open_driver(CLOCK) as driver:
        await stop(driver, [stopping])
        assert await start(driver, [stopping, stopped]) == {
            stopping: "IncorrectInstanceState",
            stopped: State.PENDING,
        }


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("RequestLimitExceeded", 503, "RequestLimitExceeded"),
        ("InternalError", 500, "InternalError"),
        ("InsufficientInstanceCapacity", 500, "InsufficientInstanceCapacity"),
        ("UnauthorizedOperation", 403, "UnauthorizedOperation"),
        ("AuthFailure", 401, "AuthFailure"),
        ("RequestExpired", 400, "ExpiredCredentials"),
    ],
)
async def test_refusals_fail_all_instances_and_are_not_repeated(
    aws: AwsProxy, code: str, status: int, reason: str
) -> None:
    ids = await aws.create_instances("web", 2)
    async with open_driver(CLOCK) as driver:
        aws.fail("StartInstances", code=code, status=status)
        assert await start(driver, ids) == dict.fromkeys(ids, reason)
        assert len(aws.calls_of("StartInstances")) == 1
        assert await start(driver, ids) == dict.fromkeys(ids, State.PENDING)


async def test_a_lost_reply_is_told_though_the_start_was_carried_out(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    async with open_driver(CLOCK) as driver:
        await observe(driver)
        aws.lose_reply("StartInstances")
        assert await start(driver, ids) == {ids[0]: "CloudUnreachable"}
        assert (await observe(driver)).ids(State.RUNNING) == tuple(ids)


async def test_a_dropped_connection_is_told(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    async with open_driver(CLOCK) as driver:
        aws.drop("StartInstances")
        assert await start(driver, ids) == {ids[0]: "CloudUnreachable"}
    assert set((await aws.moto.states()).values()) == {"stopped"}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (502, "<html><body>Bad Gateway</body></html>", "HTTP502"),
        (503, "", "HTTP503"),
        (200, "<html><body>Log in", "InvalidResponse"),
    ],
)
async def test_a_reply_that_is_not_from_ec2_is_told(
    aws: AwsProxy, status: int, body: str, reason: str
) -> None:
    async with open_driver(CLOCK) as driver:
        aws.fail_raw("DescribeInstances", status=status, body=body)
        assert (await failure_of(driver)).reason == reason
        assert driver.failure(WEB) is not None
        await observe(driver)
        assert driver.failure(WEB) is None


async def test_a_call_that_never_ends_is_given_up(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2, "CALL_SECONDS", 0.2)
    aws.hold("DescribeInstances")
    async with open_driver(CLOCK) as driver:
        error = await failure_of(driver)
    assert (error.reason, str(error)) == (
        "CloudUnreachable",
        "DescribeInstances: there was no reply in time.",
    )


async def test_pending_futures_are_cancelled_when_the_driver_closes(aws: AwsProxy) -> None:
    ids = await aws.create_instances("web", 1)
    aws.hold("StartInstances")
    async with open_driver(CLOCK) as driver:
        accepted = driver.start(WEB, ids, deadline=CLOCK.now())
        async with asyncio.timeout(SECONDS):
            await aws.arrived("StartInstances")
    assert accepted[ids[0]].cancelled()


# --- failures before a call


async def test_no_credentials_says_so_until_there_are_some(
    aws: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await aws.create_instances("web", 1)
    async with open_driver(CLOCK) as driver:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        assert (await failure_of(driver)).reason == "NoCredentials"
        assert await start(driver, ids) == {ids[0]: "NoCredentials"}
        assert aws.calls == []
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        assert await start(driver, ids) == {ids[0]: State.PENDING}


async def test_half_the_credentials_are_none(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with open_driver(CLOCK) as driver:
        error = await failure_of(driver)
    assert error.reason == "NoCredentials"
    assert "AWS_SECRET_ACCESS_KEY" in str(error)
    assert aws.calls == []


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        (Group("ec2", "", "", "web"), "NoRegion"),
        (Group("ec2", "", "not a region", "web"), "InvalidRegion"),
        (Group("ec2", "other", REGION, "web"), "UnknownAccount"),
    ],
)
async def test_a_place_that_cannot_be_reached_is_told(aws: AwsProxy, group: Group, reason: str) -> None:
    async with open_driver(CLOCK) as driver:
        error = await failure_of(driver, group)
    assert (error.reason, error.retryable) == (reason, False)
    assert aws.calls == []


async def test_nobody_listens(aws: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with open_driver(CLOCK) as driver:
        assert (await failure_of(driver)).reason == "CloudUnreachable"
    assert aws.calls == []
