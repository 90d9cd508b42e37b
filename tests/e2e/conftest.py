"""A real kube-apiserver and moto's server, once per run. Each test gets its own namespace and group."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from booking_operator.devcluster.playground import Playground, playground
from booking_operator.devcluster.process import ChildProcess
from booking_operator.operator import run
from booking_operator.settings import Settings

_numbers = count(1)

Operator = Callable[..., AbstractAsyncContextManager[None]]

BOOKINGS = "count/bookings.manager.kotaico.de"
"""The name of the number of bookings in a ResourceQuota."""


@pytest.fixture(scope="session")
def devcluster() -> Iterator[Playground]:
    with playground() as stands:
        yield stands


class Tenant:
    """One namespace, one group of instances, and the actions of a user with kubectl."""

    def __init__(self, devcluster: Playground, name: str) -> None:
        self.devcluster = devcluster
        self.namespace = name
        self.tag = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.devcluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object, and wait until it is gone.

        It runs in a thread, because the operator on this event loop may have to remove a finalizer.
        """
        await asyncio.to_thread(self.kubectl, "delete", kind, name, "--timeout=20s")

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
def tenant(devcluster: Playground) -> Tenant:
    """A namespace whose name is also the tag of a group of two stopped instances."""
    name = f"t{next(_numbers)}"
    devcluster.kubectl("create", "namespace", name)
    devcluster.instances.create(name, 2)
    return Tenant(devcluster, name)


@pytest.fixture
def operator(devcluster: Playground, monkeypatch: pytest.MonkeyPatch, tenant: Tenant) -> Operator:
    """Runs the operator on the event loop of the test, by default for the tenant's namespace."""
    for name, value in devcluster.environ.items():
        monkeypatch.setenv(name, value)

    @asynccontextmanager
    async def running(**settings: Any) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:  # an error of the operator ends the test immediately
            task = tasks.create_task(run(Settings(**{"namespace": tenant.namespace, **settings})))
            try:
                yield
            finally:
                task.cancel()

    return running


def operator_process(devcluster: Playground, namespace: str, directory: Path, *flags: str) -> ChildProcess:
    """The operator as a separate process, which can be killed."""
    command = [sys.executable, "-m", "booking_operator", "run", "--log-format=json", "-n", namespace]
    command += ["--metrics-bind-address=0", "--health-probe-bind-address=0", *flags]
    return ChildProcess("operator", command, directory / "operator.log", devcluster.environ)


async def until(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until `check`, called in a thread, returns a true value; fail with its last value."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await asyncio.to_thread(check)
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"did not come true within {seconds} s; last: {found!r}")
        await asyncio.sleep(0.05)


async def at(instant: datetime) -> None:
    """Sleep until an instant of the wall clock."""
    await asyncio.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()))


def soon(seconds: float) -> datetime:
    """The instant that many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


Check = Callable[[], Awaitable[None]]
