"""Several accounts: each has its own role and regions, and none delays another."""

import asyncio
import re

import pytest

from booking_operator.cloud.aws.accounts import Account, Accounts, OwnRoleError, own_role
from booking_operator.cloud.driver import CloudError
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import InstanceState
from tests.support.aws import AwsProxy, Call
from tests.support.driver_calls import CLOCK, SECONDS, failure_of, observe, open_driver, open_drivers, start
from tests.support.moto_server import REGION

ACME, OTHER, OWN = (f"arn:aws:iam::{digit * 12}:role/booking-operator" for digit in "234")
ACCOUNTS = Accounts(
    REGION,
    named={"acme": Account(role_arn=ACME, external_id="from-acme"), "other": Account(role_arn=OTHER)},
)
IN_ACME, IN_OTHER, OURS = (Group("ec2", account, REGION, "web") for account in ("acme", "other", ""))


def role(call: Call) -> str:
    return call.params["RoleArn"]


def test_the_operators_own_account_has_every_region() -> None:
    Accounts().check_scope(Scope("", "eu-west-1"))


def test_an_account_has_only_its_configured_regions() -> None:
    accounts = Accounts(named={"acme": Account(role_arn=ACME, regions=("eu-west-1", "eu-west-2"))})
    accounts.check_scope(Scope("acme", "eu-west-2"))
    with pytest.raises(CloudError) as caught:
        accounts.check_scope(Scope("acme", "us-east-1"))
    assert (caught.value.reason, caught.value.retryable) == ("RegionNotAllowed", False)
    assert str(caught.value) == (
        "The account 'acme' is not configured for the region 'us-east-1', only for eu-west-1, eu-west-2; "
        "correct spec.region, or add the region to accounts.acme.regions in the operator's configuration."
    )


def test_an_account_without_regions_has_every_region() -> None:
    Accounts(named={"acme": Account(role_arn=ACME)}).check_scope(Scope("acme", "us-east-1"))


@pytest.mark.parametrize("account", ["", "acme"])
def test_a_region_that_does_not_exist_is_reported_for_any_account(account: str) -> None:
    accounts = Accounts(named={"acme": Account(role_arn=ACME)})
    with pytest.raises(CloudError) as caught:
        accounts.check_scope(Scope(account, "eu-west-11"))
    assert (caught.value.reason, caught.value.retryable) == ("InvalidRegion", False)
    assert str(caught.value) == (
        "spec.region: 'eu-west-11' is not a known AWS region; did you mean eu-west-1?"
    )


def test_an_account_that_is_not_configured_is_reported() -> None:
    with pytest.raises(CloudError, match=r"'acme' .* correct spec\.account, or add the account") as caught:
        Accounts().check_scope(Scope("acme", "eu-west-1"))
    assert caught.value.reason == "UnknownAccount"


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_variable_names_no_role(text: str) -> None:
    assert own_role({"AWS_ASSUME_ROLE_ARN": text}) == own_role({}) == ""


def test_the_own_role_comes_from_the_variable() -> None:
    assert own_role({"AWS_ASSUME_ROLE_ARN": f"{OWN}\n"}) == OWN


def test_an_invalid_own_role_is_reported() -> None:
    with pytest.raises(OwnRoleError, match=r"AWS_ASSUME_ROLE_ARN: 'operator' is not the ARN of a role; use"):
        own_role({"AWS_ASSUME_ROLE_ARN": "operator"})


async def test_groups_with_the_same_tag_in_several_accounts_are_separate(aws: AwsProxy) -> None:
    acme, other = aws.moto.of("2" * 12), aws.moto.of("3" * 12)
    in_acme, in_other = await acme.create_instances("web", 2), await other.create_instances("web", 1)
    ours = await aws.create_instances("web", 1)
    async with open_drivers(CLOCK, ACCOUNTS) as drivers:
        driver = drivers["ec2"]
        for group, ids in ((IN_ACME, in_acme), (IN_OTHER, in_other), (OURS, ours)):
            assert [instance.id for instance in (await observe(driver, group)).instances] == ids
        assert await start(driver, in_acme, IN_ACME) == dict.fromkeys(in_acme, InstanceState.PENDING)
        assert await start(driver, in_acme, IN_OTHER) == dict.fromkeys(in_acme, "InvalidInstanceIDNotFound")
        await drivers["rds"].inventory.refresh(IN_ACME.scope, CLOCK.now())
    assert set((await acme.states()).values()) == {"running"}
    assert set((await other.states()).values()) == set((await aws.moto.states()).values()) == {"stopped"}
    first, second = aws.calls_of("AssumeRole")  # both services and all calls share the credentials
    assert first.params["RoleArn"] == ACME
    assert first.params["RoleSessionName"] == "booking-operator"
    assert first.params["ExternalId"] == "from-acme"
    assert first.region == REGION
    assert second.params["RoleArn"] == OTHER
    assert "ExternalId" not in second.params


async def test_the_own_role_is_assumed_first_and_assumes_the_others(aws: AwsProxy) -> None:
    ids = await aws.moto.of("4" * 12).create_instances("web", 1)
    async with open_driver(CLOCK, accounts=Accounts(REGION, OWN, ACCOUNTS.named)) as driver:
        assert [instance.id for instance in (await observe(driver, OURS)).instances] == ids
        await observe(driver, IN_ACME)
    own, acme = aws.calls_of("AssumeRole")
    assert (role(own), role(acme)) == (OWN, ACME)
    keys = [re.findall("Credential=([^/]+)/", call.headers["Authorization"])[0] for call in aws.calls]
    assert [call.action for call in aws.calls] == ["AssumeRole", "DescribeInstances"] * 2
    assert keys[0] == "AKIAIOSFODNN7EXAMPLE"
    assert keys[1] == keys[2] != keys[3]


async def test_an_account_whose_sts_hangs_delays_no_other(aws: AwsProxy) -> None:
    ids = await aws.moto.of("3" * 12).create_instances("web", 1)
    async with open_driver(CLOCK, accounts=ACCOUNTS) as driver, asyncio.TaskGroup() as tasks:
        await observe(driver, IN_OTHER)
        gate = aws.hold("AssumeRole")
        hanging = tasks.create_task(observe(driver, IN_ACME))
        async with asyncio.timeout(SECONDS):
            await aws.arrived("AssumeRole", 2)
        assert await start(driver, ids, IN_OTHER) == {ids[0]: InstanceState.PENDING}
        await observe(driver, OURS)
        assert not hanging.done()
        gate.set()


async def test_a_refused_role_delays_no_other_account_and_is_requested_once(aws: AwsProxy) -> None:
    message = f"User: arn:aws:iam::1:user/op is not authorized to perform: sts:AssumeRole on resource: {ACME}"
    aws.fail("AssumeRole", code="AccessDenied", message=message, status=403)
    async with open_driver(CLOCK, accounts=ACCOUNTS) as driver:
        there = Group("ec2", "acme", "us-east-1", "web")
        errors = await asyncio.gather(failure_of(driver, IN_ACME), failure_of(driver, there))
        await observe(driver, IN_OTHER)
    assert [role(call) for call in aws.calls_of("AssumeRole")] == [ACME, OTHER]
    for error in errors:
        assert (error.reason, error.retryable) == ("NoCredentials", False)
        assert str(error).startswith(
            "Account 'acme': AWS refused AssumeRole; check the role's trust policy, the external_id, and "
            "sts:AssumeRole in the IAM policy of the operator's role; with EKS pod identity sts:TagSession "
            "too, in both policies. User: "
        )
        assert ACME in str(error)


async def test_an_internal_error_of_sts_is_retryable(aws: AwsProxy) -> None:
    aws.fail("AssumeRole", code="InternalError", message="try later")
    async with open_driver(CLOCK, accounts=ACCOUNTS) as driver:
        error = await failure_of(driver, IN_ACME)
    assert (error.reason, error.retryable) == ("InternalError", True)
    assert str(error) == "Account 'acme': AssumeRole: try later"


async def test_keys_that_sts_does_not_accept_are_reported(aws: AwsProxy) -> None:
    aws.fail("AssumeRole", code="InvalidClientTokenId", message="The security token is invalid", status=403)
    async with open_driver(CLOCK, accounts=ACCOUNTS) as driver:
        error = await failure_of(driver, IN_ACME)
    assert error.reason == "InvalidClientTokenId"
    assert "AWS rejected the credentials" in str(error)


async def test_missing_own_credentials_are_reported_for_an_account(
    aws: AwsProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with open_driver(CLOCK, accounts=ACCOUNTS) as driver:
        error = await failure_of(driver, IN_ACME)
    assert error.reason == "NoCredentials"
    assert str(error).startswith("Account 'acme': The operator's own credentials: No usable")
    assert aws.calls == []
