"""Instances that the operator does not stop, and what kubectl shows of them."""

from datetime import timedelta
from typing import Any

import boto3
import pytest

from booking_operator.cloud.aws.tags import APPLICATION_TAG
from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Operator, Tenant, soon, until


def client(devcluster: Playground, service: str) -> Any:
    """A client of the fake AWS."""
    found = devcluster.environ
    return boto3.client(
        service,
        endpoint_url=found["AWS_ENDPOINT_URL"],
        region_name=found["AWS_REGION"],
        aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
    )


def message(tenant: Tenant, type_: str) -> str:
    conditions = tenant.status("resource", "res").get("conditions", [])
    return next((item["message"] for item in conditions if item["type"] == type_), "")


async def test_an_ignored_instance_is_named_and_never_started(tenant: Tenant, operator: Operator) -> None:
    (ignored,) = tenant.devcluster.instances.create(tenant.tag, 1)
    tenant.devcluster.instances.mark([ignored], {"resource-booking-ignore": "True"})
    async with operator():
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        assert sorted(tenant.states()) == ["running", "running", "stopped"]
        status = tenant.status("resource", "res")
        assert (status["instances"], status["running"], status["status"]) == (2, 2, "RUNNING")
        described = tenant.kubectl("describe", "resource", "res")
        text = (
            f"The operator leaves some instances alone: {ignored} has the tag resource-booking-ignore=true."
        )
        assert text in " ".join(described.split())


async def test_instances_of_an_auto_scaling_group_are_not_stopped(tenant: Tenant, operator: Operator) -> None:
    scaling, name = client(tenant.devcluster, "autoscaling"), f"{tenant.tag}-asg"
    scaling.create_launch_configuration(
        LaunchConfigurationName=name, ImageId="ami-12c6146b", InstanceType="t3.micro"
    )
    tag = {"Key": APPLICATION_TAG, "Value": tenant.tag, "PropagateAtLaunch": True}
    zone = tenant.devcluster.environ["AWS_REGION"] + "a"
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchConfigurationName=name,
        MinSize=1,
        MaxSize=1,
        AvailabilityZones=[zone],
        Tags=[tag],
    )
    async with operator():
        tenant.resource()
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "Blocked"))
        assert f"belongs to the Auto Scaling group {name}" in message(tenant, "Ready")
        assert "give it the tag resource-booking-ignore=true" in message(tenant, "Ready")
        assert sorted(tenant.states()) == ["running", "stopped", "stopped"]
        await until(lambda: "Blocked" in tenant.events("Resource", "res"))


async def test_new_instances_are_not_stopped_within_their_launch_grace(
    tenant: Tenant, operator: Operator
) -> None:
    ids = sorted(tenant.devcluster.instances.start(tenant.tag))
    async with operator():
        tenant.resource(launch_grace="1h")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "LaunchGrace"))
        assert message(tenant, "Ready").startswith(
            f"Not booked, but launched less than spec.launch_grace (1h) ago: {ids[0]}, {ids[1]}. "
            "The first stop is at "
        )
        assert tenant.states() == ["running", "running"]
        tenant.resource(launch_grace="0s")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Stopped"))


async def test_a_replaced_booking_keeps_its_instances_running(tenant: Tenant, operator: Operator) -> None:
    async with operator(deletion_grace=timedelta(seconds=10)):
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        await tenant.delete("booking", "bk")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "DeletionGrace"))
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        assert "Stopped" not in tenant.events("Resource", "res")
        await tenant.delete("booking", "bk")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("True", "Stopped"))
        await until(lambda: "Stopped" in tenant.events("Resource", "res"))


async def test_bookings_that_vanish_with_their_namespace_stop_no_instance(
    tenant: Tenant, operator: Operator
) -> None:
    """There is no namespace controller here, so the test deletes the objects itself."""
    async with operator(deletion_grace=timedelta(0)):
        tenant.resource()
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        tenant.kubectl("delete", "namespace", tenant.namespace, "--wait=false")
        await tenant.delete("booking", "bk")
        await until(lambda: tenant.condition("resource", "res", "Ready") == ("False", "StopWithheld"))
        assert f"the namespace {tenant.namespace} is being deleted" in message(tenant, "Ready")
        await tenant.delete("resource", "res")
        assert tenant.states() == ["running", "running"]


@pytest.mark.slow
async def test_a_vanishing_namespace_stops_instances_under_deletion_policy_stop(
    tenant: Tenant, operator: Operator
) -> None:
    async with operator():
        tenant.resource(deletion_policy="Stop")
        tenant.booking("bk", soon(-60), soon(600))
        await until(lambda: tenant.condition("booking", "bk", "Ready") == ("True", "Running"))
        finalizers = tenant.get("resource", "res")["metadata"]["finalizers"]
        assert finalizers == ["manager.kotaico.de/cleanup"]
        tenant.kubectl("delete", "namespace", tenant.namespace, "--wait=false")
        await tenant.delete("resource", "res", "60s")
        assert tenant.states() == ["stopped", "stopped"]


async def test_a_tag_that_differs_only_by_case_is_suggested(tenant: Tenant, operator: Operator) -> None:
    async with operator():
        tenant.resource(tag=tenant.tag.upper())
        await until(lambda: tenant.condition("resource", "res", "Found") == ("False", "NoInstances"))
        described = " ".join(tenant.kubectl("describe", "resource", "res").split())
        upper = tenant.tag.upper()
        assert f"There are instances with the tag '{tenant.tag}'; did you mean '{upper}'?" in described
