"""A real kube-apiserver for the run, moto's server for each process, a namespace and group for each test."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from booking_operator.config import Settings
from booking_operator.devcluster.playground import OwnPlayground, Playground, joined_playground, playground
from booking_operator.devcluster.process import ChildProcess
from booking_operator.operator import run
from tests.support.audit import AuditLog
from tests.support.aws import AwsProxy
from tests.support.shared_control_plane import shared_control_plane

_numbers = count(1)

Operator = Callable[..., AbstractAsyncContextManager[None]]

BOOKINGS = "count/bookings.manager.kotaico.de"
"""The name of the number of bookings in a ResourceQuota."""


@pytest.fixture(scope="session")
def devcluster(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Playground]:
    base = tmp_path_factory.getbasetemp()
    directory = (base if worker_id == "master" else base.parent) / "control-plane"
    directory.mkdir(exist_ok=True)
    with shared_control_plane(directory) as kubeconfig, joined_playground(kubeconfig) as devcluster:
        yield devcluster


@pytest.fixture(scope="session")
def audit(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    return AuditLog(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="session")
def own_devcluster(audit: AuditLog) -> Iterator[OwnPlayground]:
    """A control plane that no other process uses. Tests that need it have the mark `dedicated`.

    As on OpenShift, a client that sets an ownerReference which blocks the deletion of the owner needs a
    permission on the owner.
    """
    admission = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
    with playground([*audit.flags, admission]) as devcluster:
        yield devcluster


@contextmanager
def apiserver_killed(devcluster: OwnPlayground) -> Iterator[None]:
    """Kill the API server, and start it again at the end of the block."""
    devcluster.control_plane.stop_apiserver(kill=True)
    try:
        yield
    finally:
        devcluster.control_plane.start_apiserver()


class Tenant:
    """One namespace, one group of instances, and the actions of a user with kubectl."""

    def __init__(self, devcluster: Playground, name: str) -> None:
        self.devcluster = devcluster
        self.namespace = name
        self.tag = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.devcluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    async def delete(self, kind: str, name: str, within: str = "20s") -> None:
        """Delete an object, and wait until it is gone.

        It runs in a thread, because the operator on this event loop may have to remove a finalizer.
        """
        await asyncio.to_thread(self.kubectl, "delete", kind, name, f"--timeout={within}")

    def apply(self, kind: str, name: str, **spec: Any) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest(kind, name, spec)))

    def resource(self, name: str = "res", **spec: Any) -> None:
        self.apply("Resource", name, **{"type": "ec2", "tag": self.tag, **spec})

    def booking(
        self, name: str, start: datetime, end: datetime, resource: str = "res", user: str = "ada"
    ) -> None:
        self.apply(
            "Booking",
            name,
            resource_name=resource,
            start_at=start.isoformat(),
            end_at=end.isoformat(),
            user_id=user,
        )

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def objects(self, plural: str) -> list[dict[str, Any]]:
        """All objects of a kind, by name."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", plural, "-o", "json"))["items"]
        return found

    def status(self, kind: str, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.get(kind, name).get("status", {})
        return status

    def condition(self, kind: str, name: str, type_: str) -> tuple[str, str]:
        """Status and reason of a condition; two empty strings if the object does not have it."""
        for condition in self.status(kind, name).get("conditions", []):
            if condition["type"] == type_:
                return condition["status"], condition["reason"]
        return "", ""

    def states(self) -> list[str]:
        return self.devcluster.instances.states(self.tag)

    def events(self, kind: str, name: str) -> set[str]:
        """The reasons of the Events of an object."""
        listed = json.loads(self.kubectl("get", "events", "-o", "json"))["items"]
        return {
            event["reason"]
            for event in listed
            if (event["involvedObject"]["kind"], event["involvedObject"]["name"]) == (kind, name)
        }


def manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "manager.kotaico.de/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def limit_bookings(devcluster: Playground, namespace: str, hard: int, used: int) -> None:
    """Set the ResourceQuota `bookings` and its used count.

    In a cluster, the controller manager counts the objects. There is none here, and a quota without a used
    count refuses nothing.
    """
    spec = {"hard": {BOOKINGS: str(hard)}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "bookings"}, "spec": spec}
    devcluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(quota))
    status = json.dumps({"status": spec | {"used": {BOOKINGS: str(used)}}})
    change = ("patch", "quota", "bookings", "--subresource=status", "--type=merge", "-p", status)
    devcluster.kubectl("-n", namespace, *change)


@pytest.fixture
def tenant(devcluster: Playground, worker_id: str) -> Tenant:
    """A namespace whose name is also the tag of a group of two stopped instances."""
    return new_tenant(devcluster, f"{worker_id}-t{next(_numbers)}")


def new_tenant(devcluster: Playground, name: str) -> Tenant:
    """Create a namespace, and a group of two stopped instances with the same name."""
    devcluster.kubectl("create", "namespace", name)
    devcluster.instances.create(name, 2)
    return Tenant(devcluster, name)


@pytest.fixture
def operator(devcluster: Playground, monkeypatch: pytest.MonkeyPatch, tenant: Tenant) -> Operator:
    """Runs the operator on the event loop of the test, by default for the tenant's namespace.

    At the end it is cancelled, or with `orderly=True` asked to stop as by SIGTERM.
    """
    for name, value in devcluster.environ.items():
        monkeypatch.setenv(name, value)

    @asynccontextmanager
    async def running(*, orderly: bool = False, **settings: Any) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:  # an error of the operator ends the test immediately
            work = run(Settings(**{"namespace": tenant.namespace, **settings}), stopping)
            task = tasks.create_task(work)
            try:
                yield
            finally:
                if orderly:
                    stopping.set()
                else:
                    task.cancel()

    return running


@pytest.fixture
async def aws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AwsProxy]:
    """AWS with faults and answers of a test. It comes after `operator`, whose environment it changes."""
    async with AwsProxy() as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy


def operator_process(devcluster: Playground, namespace: str, directory: Path, *flags: str) -> ChildProcess:
    """The operator as a separate process, which can be killed."""
    command = [sys.executable, "-m", "booking_operator", "run", "--log-format=json", "-n", namespace]
    command += ["--metrics-bind-address=0", "--health-probe-bind-address=0", *flags]
    return ChildProcess("operator", command, directory / "operator.log", devcluster.environ)


UNTIL_PAUSE_SECONDS = 0.2
"""Most checks run kubectl, which takes a tenth of a second of CPU time that the other tests need."""


async def until(check: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until `check`, called in a thread, returns a true value; fail with its last value.

    The default is long, because the start of a process takes many seconds beside other tests.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await asyncio.to_thread(check)
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"did not come true within {seconds} s; last: {found!r}")
        await asyncio.sleep(UNTIL_PAUSE_SECONDS)


async def at(instant: datetime) -> None:
    """Sleep until an instant of the wall clock."""
    await asyncio.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


def soon(seconds: float) -> datetime:
    """The instant that many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


IN_HALF_A_DAY = soon(12 * 3600)
"""A daily schedule at its hour has no occurrence that is in progress or begins while the tests run."""

Check = Callable[[], Awaitable[None]]
