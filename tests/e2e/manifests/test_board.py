"""The component `board` on a real API server: who sees what, with which permissions, and calendar feeds."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from icalendar import Calendar

from booking_operator.board.in_cluster import USER_AGENT, BoardSettings, serving
from booking_operator.client.cluster import Cluster, Impersonation
from booking_operator.devcluster.playground import OwnPlayground
from booking_operator.engine.clock import SystemClock
from booking_operator.kube.kubeconfig import ClusterConfig
from tests.e2e.conftest import Tenant, apiserver_killed, manifest, soon, until
from tests.e2e.manifests.conftest import Overlay, read, token_kubeconfig
from tests.support.audit import AuditLog, expanded
from tests.support.kustomize import SYSTEM
from tests.support.plugin import Person
from tests.support.replicas import comes_true

ACCOUNT = "booking-operator-board"
AS_ADA = ("--as=ada", "--as-group=system:authenticated", "--as-group=team")


@dataclass
class Client:
    """Requests to a board in the cluster."""

    http: aiohttp.ClientSession
    ports: list[int]
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    async def get(self, path: str, *, proxy: bool = False, method: str = "GET", **headers: str) -> Any:
        """Send a request to the address of the proxy, or to the one for machines, feeds and probes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.ports[int(proxy)]}{path}"
        async with self.http.request(method, url, headers=sent) as answer:
            self.status, self.headers = answer.status, answer.headers
            return await answer.json() if answer.content_type == "application/json" else await answer.text()

    async def as_ada(self, path: str) -> Any:
        """Send a read as the proxy does for ada."""
        return await self.get(path, proxy=True, X_Forwarded_Email="ada")


Running = Callable[[], AbstractAsyncContextManager[Client]]


@pytest.fixture
def installed(devcluster: OwnPlayground, overlay: Overlay, tmp_path: Path) -> str:
    """Installs the component; returns a kubeconfig with the token of its ServiceAccount."""
    directory = overlay("board", "tenant-roles", base=False)
    devcluster.kubectl("apply", "--validate=strict", "-k", str(directory))
    return token_kubeconfig(devcluster, tmp_path, account=ACCOUNT)


@pytest.fixture
def running(installed: str) -> Running:
    """Serves boards with the ServiceAccount of the component."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Client]:
        settings = BoardSettings(
            bind_address="127.0.0.1:0",
            proxy_bind_address="127.0.0.1:0",
            tokens=True,
            external_url="https://bookings.example.com",
            kubeconfig=installed,
        )
        settings.check()
        clock = SystemClock()
        async with (
            Cluster.connect(ClusterConfig(installed), clock, Impersonation(), USER_AGENT) as cluster,
            serving(settings, cluster, clock) as ports,
            aiohttp.ClientSession() as http,
        ):
            client = Client(http, ports)
            await answered(client, "/readyz", 200)
            yield client

    return run


async def answered(client: Client, path: str, status: int) -> str:
    """Send a read again until its answer has a status, because the board follows the cluster by watches."""

    async def attempt() -> list[str]:
        text = str(await client.get(path))
        return [text] if client.status == status else []

    [text] = await comes_true(attempt, 60)
    return text


@pytest.fixture
def ada(devcluster: OwnPlayground, tenant: Tenant, tmp_path: Path, installed: str) -> Person:  # noqa: ARG001
    """A user of the tenant's namespace."""
    return Person(devcluster, tenant.namespace, "ada", tmp_path)


def book(tenant: Tenant) -> None:
    tenant.resource("analytics")
    tenant.booking("my-afternoon", soon(-60), soon(3600), resource="analytics")


async def address_of(ada: Person, *arguments: str) -> str:
    """Make a calendar feed as a user does, and return the path of its address."""
    done = await asyncio.to_thread(ada.run, "feed", *arguments, now="")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def test_granted_permissions_are_exactly_those_used(
    devcluster: OwnPlayground, tenant: Tenant, ada: Person, running: Running, audit: AuditLog
) -> None:
    book(tenant)
    path = await address_of(ada, "--mine")
    async with running() as client:
        await client.as_ada(f"/api/usage?ns={tenant.namespace}")
        assert client.status == 200
        await client.get("/api/session", Authorization="Bearer unknown")
        assert client.status == 401
        await answered(client, path, 200)
    user = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
    granted = expanded(read(devcluster, "clusterrole", ACCOUNT)["rules"])
    assert audit.refused(user) == []
    assert audit.used(user, granted) == granted


@pytest.mark.usefixtures("ada")
async def test_a_user_sees_the_namespaces_of_the_own_roles(
    devcluster: OwnPlayground, tenant: Tenant, running: Running
) -> None:
    book(tenant)
    other = f"{tenant.namespace}-other"
    devcluster.kubectl("create", "namespace", other)
    book(Tenant(devcluster, other))
    async with running() as client:
        session = await client.as_ada("/api/session")
        assert (session["user"], session["read_only"]) == ("ada", True)
        assert session["namespaces"] == [session["namespace"]] == [tenant.namespace]
        found = await client.as_ada(f"/api/timeline?ns={tenant.namespace}")
        assert [row["resource"] for row in found["rows"]] == ["analytics"]
        why = f"namespace={tenant.namespace}&booking=my-afternoon"
        assert (await client.as_ada(f"/api/explain?{why}"))["subject"] == "booking my-afternoon"
        for path in ("timeline?ns=", "agenda?ns=", "usage?ns=", "events?ns=", "explain?namespace="):
            refused = await client.as_ada(f"/api/{path}{other}")
            assert client.status == 403, path
            assert refused["error"] == f"you may not list resources in namespace {other}"
            assert "role booking-operator-view" in refused["hint"]
        refused = await client.as_ada("/api/timeline")
        assert refused["error"] == "you may not list bookings in any namespace"


async def test_a_user_of_all_namespaces_sees_all(
    devcluster: OwnPlayground, tenant: Tenant, tmp_path: Path, running: Running
) -> None:
    book(tenant)
    Person(devcluster, tenant.namespace, "grace", tmp_path, roles=["view"]).see_all_namespaces()
    async with running() as client:
        session = await client.get("/api/session", proxy=True, X_Forwarded_Email="grace")
        assert tenant.namespace in session["namespaces"]


async def test_machines_come_with_a_token(tenant: Tenant, running: Running) -> None:
    book(tenant)
    tenant.kubectl("create", "serviceaccount", "dashboard")
    account = f"--serviceaccount={tenant.namespace}:dashboard"
    tenant.kubectl("create", "rolebinding", "dashboard", "--clusterrole=booking-operator-view", account)
    token = tenant.kubectl("create", "token", "dashboard").strip()
    async with running() as client:
        found = await client.get("/api/session", Authorization=f"Bearer {token}")
        assert found["user"] == f"system:serviceaccount:{tenant.namespace}:dashboard"
        assert found["namespaces"] == [tenant.namespace]


async def test_who_does_not_sign_in_sees_nothing(tenant: Tenant, running: Running) -> None:
    book(tenant)
    async with running() as client:
        await client.get("/api/session")
        assert client.status == 401
        await client.get("/api/session", Authorization="Bearer wrong")
        assert client.status == 401
        await client.get("/api/session", X_Forwarded_Email="ada")  # not from the proxy
        assert client.status == 401
        await client.get("/api/session", proxy=True)
        assert client.status == 401
        shell = await client.get("/")
        assert "<h1" in shell
        await client.get("/api/book", method="POST", proxy=True, X_Forwarded_Email="ada")
        assert client.status == 405
        assert await client.get("/healthz") == "ok"


def event_of(calendar: str) -> Any:
    [event] = Calendar.from_ical(calendar).walk("VEVENT")
    return event


async def test_a_calendar_is_subscribed_changed_and_revoked(
    tenant: Tenant, ada: Person, running: Running
) -> None:
    book(tenant)
    path = await address_of(ada, "analytics")
    async with running() as client:
        first = await answered(client, path, 200)
        tag = client.headers["ETag"]
        await client.get(path, If_None_Match=tag)
        assert (client.status, client.headers["ETag"]) == (304, tag)
        await client.get(path, If_None_Match=f"W/{tag}")
        assert client.status == 304
        before = event_of(first)
        assert str(before["SUMMARY"]) == "analytics: ada"
        assert client.headers["Content-Type"] == "text/calendar; charset=utf-8"
        assert f"SOURCE;VALUE=URI:https://bookings.example.com{path}" in first.replace("\r\n ", "")
        later = {"spec": {"end_at": soon(7200).isoformat()}}
        tenant.kubectl("patch", "booking", "my-afternoon", "--type=merge", "-p", json.dumps(later))
        second = str(await client.get(path, If_None_Match=tag))
        after = event_of(second)
        assert (after["UID"], after["SEQUENCE"]) == (before["UID"], before["SEQUENCE"] + 1)
        assert after["DTEND"].dt > before["DTEND"].dt
        assert after["LAST-MODIFIED"].dt >= before["LAST-MODIFIED"].dt
    async with running() as client:  # after a restart of the board
        assert await answered(client, path, 200) == second
        tenant.kubectl("delete", "calendarfeeds", "--all")
        revoked = await client.get(path)
        assert client.status == 404
        assert revoked == await client.get("/feeds/unknown.ics")
        assert client.status == 404


async def test_a_calendar_ends_with_the_access_of_its_owner(
    tenant: Tenant, ada: Person, running: Running
) -> None:
    book(tenant)
    path = await address_of(ada, "--mine", "--busy")
    async with running() as client:
        assert "SUMMARY:Booked" in await answered(client, path, 200)
        tenant.kubectl("delete", "rolebindings", "ada-view", "ada-edit")

        await answered(client, path, 404)


@pytest.mark.usefixtures("ada")
async def test_feeds_belong_to_those_who_make_them(tenant: Tenant) -> None:
    def said(**spec: Any) -> str:
        whole = {"user_id": "ada", "owner": "ada", "token_sha256": "0" * 64} | spec
        body = json.dumps(manifest("CalendarFeed", "feed", whole))
        command = ("-n", tenant.namespace, "apply", "--dry-run=server", "-f", "-", *AS_ADA)
        return tenant.devcluster.kubectl.attempt(*command, stdin=body).stderr

    await until(lambda: "spec.owner is 'grace', but you are 'ada'" in said(owner="grace"))
    assert "has a group that is not yours" in said(owner_groups=["system:masters"])
    assert "set either resource_name or user_id" in said(resource_name="analytics")
    assert said(owner_groups=["team", "system:authenticated"]) == ""


async def test_an_api_server_that_does_not_answer(
    devcluster: OwnPlayground, tenant: Tenant, ada: Person, running: Running
) -> None:
    book(tenant)
    path = await address_of(ada, "analytics")
    async with running() as client:
        await answered(client, path, 200)
        with apiserver_killed(devcluster):
            await client.get(path)
            assert client.status == 502  # a calendar program keeps what it has
            await client.as_ada(f"/api/agenda?ns={tenant.namespace}")
            assert client.status == 502
            assert await client.get("/healthz") == "ok"
        await answered(client, path, 200)


def test_the_pods_of_the_board_are_not_those_of_the_operator(
    devcluster: OwnPlayground, overlay: Overlay
) -> None:
    rendered = list(yaml.safe_load_all(devcluster.kubectl("kustomize", str(overlay("board")))))
    [board] = [
        item for item in rendered if item["kind"] == "Deployment" and item["metadata"]["name"] == ACCOUNT
    ]
    labels = board["spec"]["template"]["metadata"]["labels"]
    for item in rendered:
        spec = item.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector", {}))
        matched = selector.get("matchLabels", selector) if isinstance(selector, dict) else {}
        if matched and matched.items() <= labels.items():
            assert item["metadata"]["name"] == ACCOUNT
