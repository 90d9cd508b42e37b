"""The commands and files of docs/install.md, docs/operations.md and docs/teams.md."""

import asyncio
import shlex
from pathlib import Path

import pytest
import yaml

from booking_operator.cloud.aws.tags import LOCK_TAGS
from booking_operator.config import Settings, load_config
from booking_operator.devcluster.playground import Playground, list_all_kinds, playground
from booking_operator.operator import run
from tests.e2e.conftest import Operator, Tenant, soon, until
from tests.e2e.manifests.conftest import read, rendered
from tests.support.code_blocks import ROOT, blocks, commands
from tests.support.kustomize import SYSTEM

INSTALL, OPERATIONS, TEAMS = (f"docs/{page}.md" for page in ("install", "operations", "teams"))
MIGRATING = "docs/migrating.md"


def shown(kind: str) -> list[str]:
    """The blocks of the three pages that begin with `kind`."""
    pages = (INSTALL, OPERATIONS, TEAMS)
    return [block for page in pages for block in blocks(page) if block.startswith(kind)]


OVERLAYS = {yaml.safe_load(block)["namespace"]: block for block in shown("apiVersion: kustomize")}
PATCHES = shown("patches:")
LIMITS = shown("limits:")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory with a checkout, and the two overlays of the pages."""
    (tmp_path / "booking-operator").symlink_to(ROOT)
    for name, namespace in (("my-cluster", "booking-operator-system"), ("team-a", "team-a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(OVERLAYS[namespace])
    (tmp_path / "team-a" / "config.yaml").write_text(LIMITS[0])
    return tmp_path


def test_the_pages_have_the_blocks_for_these_tests() -> None:
    assert len(OVERLAYS) == 2
    assert len(PATCHES) == 4
    assert len(LIMITS) == 1


def test_the_overlay_of_the_installation_is_accepted(devcluster: Playground, desk: Path) -> None:
    devcluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(desk / "my-cluster"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: str(shlex.quote(patch.split("\n")[1])))
def test_each_patch_takes_effect_and_is_accepted(devcluster: Playground, desk: Path, patch: str) -> None:
    before = rendered(devcluster, desk / "my-cluster")
    with (desk / "my-cluster" / "kustomization.yaml").open("a") as file:
        file.write(patch)
    assert rendered(devcluster, desk / "my-cluster") != before
    devcluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(desk / "my-cluster"))


def test_each_manifest_is_accepted(devcluster: Playground) -> None:
    manifests = shown("apiVersion: networking")
    assert manifests
    for manifest in manifests:
        devcluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=manifest)


def test_one_operator_per_namespace(devcluster: Playground, desk: Path) -> None:
    *installation, impersonate = commands(TEAMS, "One operator per namespace")
    for command in installation:
        follow(devcluster, desk, command)
    follow(devcluster, desk, f"{impersonate} --dry-run=server")
    assert devcluster.kubectl("get", "deployments", "-n", "team-a", "-o", "name") == (
        "deployment.apps/booking-operator\n"
    )
    devcluster.kubectl("delete", "namespace", "team-a", "--wait=false")


def test_the_limits_of_the_documentation_are_half_of_what_aws_publishes(desk: Path) -> None:
    assert set(load_config(desk / "team-a" / "config.yaml").limits) == {
        "StartInstances",
        "StopInstances",
        "CreateTags",
        "DeleteTags",
        "DescribeInstances",
    }


def test_the_binding_for_impersonators_names_an_existing_role(devcluster: Playground, desk: Path) -> None:
    [command] = commands(TEAMS, "Tenants")
    follow(devcluster, desk, f"{command} --dry-run=server")
    assert "booking-operator-impersonator" in command


def follow(devcluster: Playground, desk: Path, command: str) -> str:
    """Run one of the pages' commands. The paths in it refer to the desk."""
    program, *arguments = shlex.split(command)
    assert program == "kubectl"
    for place in ("my-cluster", "team-a", "booking-operator/manifests/crds"):
        arguments = [
            str(desk / place) if word == place and before == "-k" else word
            for before, word in zip(["", *arguments], arguments, strict=False)
        ]
    return devcluster.kubectl(*arguments)


def test_from_two_replicas_to_one_by_scaling_to_zero(devcluster: Playground, desk: Path) -> None:
    scale, wait, apply, _ = commands(OPERATIONS, "One replica or two")

    def replicas() -> int:
        found: int = read(devcluster, "deployment", "booking-operator", "-n", SYSTEM)["spec"]["replicas"]
        return found

    assert replicas() == 2
    follow(devcluster, desk, scale)
    assert replicas() == 0
    follow(devcluster, desk, wait)
    follow(devcluster, desk, apply)
    assert replicas() == 2


def locks(tenant: Tenant) -> set[str]:
    return {key for tags in tenant.devcluster.instances.tags(tenant.tag) for key in tags} & set(LOCK_TAGS)


async def locked(tenant: Tenant) -> None:
    """Book a group, and wait until it has lock tags and runs."""
    tenant.resource()
    tenant.booking("bk", soon(-60), soon(600))
    await in_use(tenant)


async def in_use(tenant: Tenant) -> None:
    await until(lambda: locks(tenant) and set(tenant.states()) == {"running"})


def collect_garbage(devcluster: Playground) -> None:
    """Delete bookings of deleted schedulers, as the controller manager does, which does not run here."""
    [schedulers, bookings] = (
        read(devcluster, kind, "--all-namespaces")["items"] for kind in ("bookingschedulers", "bookings")
    )
    there = {scheduler["metadata"]["uid"] for scheduler in schedulers}
    for booking in bookings:
        owners = {owner["uid"] for owner in booking["metadata"].get("ownerReferences", ())}
        if owners and not owners & there:
            name, namespace = booking["metadata"]["name"], booking["metadata"]["namespace"]
            devcluster.kubectl("delete", "booking", name, "-n", namespace)


async def test_uninstalling_removes_everything(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a control plane of its own, which no other test can use afterwards."""
    with playground() as devcluster:
        for name, value in devcluster.environ.items():
            monkeypatch.setenv(name, value)
        devcluster.kubectl("create", "namespace", "team-a")
        devcluster.instances.create("team-a", 2)
        tenant = Tenant(devcluster, "team-a")
        follow(devcluster, desk, "kubectl apply -k my-cluster")
        [*deletes, uninstall, _] = commands(INSTALL, "Uninstall")
        async with asyncio.TaskGroup() as tasks:
            operator = tasks.create_task(run(Settings(), asyncio.Event()))
            tenant.apply("ResourceMonitor", "rm", type="ec2")
            # The warm-up starts the group now, and only a booking of the scheduler holds it. The test does
            # not have to wait for a full minute.
            tenant.resource(warm_up="10m")
            at = soon(120)
            template = {"resource_name": "res", "user_id": "ada"}
            daily = {"schedule": f"{at.minute} {at.hour} * * *", "duration": 60, "bookingTemplate": template}
            tenant.apply("BookingScheduler", "bs", **daily)
            await in_use(tenant)
            for command in deletes:
                await asyncio.to_thread(follow, devcluster, desk, f"{command} --timeout=30s")
                await asyncio.to_thread(collect_garbage, devcluster)
            for kind in ("bookings", "bookingschedulers", "resources", "resourcemonitors"):
                assert read(devcluster, kind, "--all-namespaces")["items"] == []
            assert locks(tenant) == set()
            assert set(tenant.states()) == {"running"}
            operator.cancel()
        list_all_kinds(devcluster.kubectl)
        # The controller manager deletes namespaces, and does not run here.
        follow(devcluster, desk, f"{uninstall} --wait=false")
        await until(lambda: not devcluster.kubectl("get", "crds", "-o", "name"))


async def test_finalizers_are_removed_by_hand_after_the_operator_is_gone(
    devcluster: Playground, tenant: Tenant, operator: Operator, desk: Path
) -> None:
    async with operator():
        await locked(tenant)
    tenant.kubectl("delete", "resource", "res", "--wait=false")
    [*_, last_resort] = commands(INSTALL, "Uninstall")
    follow(devcluster, desk, last_resort.replace(" analytics ", " res ").replace("team-a", tenant.namespace))
    assert tenant.kubectl("get", "resource", "res", "--ignore-not-found", "-o", "name") == ""


async def test_the_migration_commands_from_the_go_operator(
    devcluster: Playground, tenant: Tenant, operator: Operator, desk: Path
) -> None:
    scale, look, delete, *_ = commands(MIGRATING, "From the Go operator")
    old = "resource-booking-operator-system"
    devcluster.kubectl("create", "namespace", old)
    devcluster.kubectl(
        "-n", old, "create", "deployment", "resource-booking-operator-controller-manager", "--image=x"
    )
    follow(devcluster, desk, scale)
    assert [item["spec"]["replicas"] for item in read(devcluster, "deployments", "-n", old)["items"]] == [0]
    async with operator():
        tenant.resource()
        await until(lambda: tenant.condition("resource", "res", "Valid")[0] == "True")
    assert any(
        tenant.namespace in line and "The spec is valid" in line
        for line in follow(devcluster, desk, look).splitlines()
    )
    follow(devcluster, desk, f"{delete} --wait=false")


async def test_a_lock_of_the_go_operator_delays_the_stop(tenant: Tenant, operator: Operator) -> None:
    ids, ends = tenant.devcluster.instances.start(tenant.tag), soon(25)
    values = ("0b1e9c1e-4a3f-4b43-9d3c-0a4c1d0f8c55", ends.isoformat(timespec="seconds"))
    tenant.devcluster.instances.mark(ids, dict(zip(LOCK_TAGS, values, strict=True)))
    tenant.resource()
    async with operator():
        await until(lambda: tenant.condition("resource", "res", "Synced") == ("False", "LockedElsewhere"))
        assert set(tenant.states()) == {"running"}
        await until(lambda: set(tenant.states()) == {"stopped"})
    assert soon(0) >= ends.replace(microsecond=0)
