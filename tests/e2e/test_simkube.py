"""The simulated API server gives the same answers to the same requests as a real one."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from booking_operator.engine.clock import SystemClock
from booking_operator.kube.client import MERGE_PATCH, KubeClient
from booking_operator.kube.errors import ApiError
from booking_operator.kube.kubeconfig import ClusterConfig
from tests.e2e.conftest import Tenant
from tests.sim.kernel import Kernel
from tests.sim.kube import Request, SimKube

GROUP = "/apis/manager.kotaico.de/v1"
SPEC = {
    "resource_name": "res",
    "user_id": "ada",
    "start_at": "2031-01-01T09:00:00Z",
    "end_at": "2031-01-01T10:00:00Z",
}
Ask = Callable[..., Awaitable[Any]]


def simulated(kube: SimKube) -> Ask:
    async def ask(method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        return json.loads(kube.serve(Request("", method, path, query, body)))

    return ask


@asynccontextmanager
async def real(tenant: Tenant) -> AsyncIterator[Ask]:
    config = ClusterConfig(tenant.devcluster.environ["KUBECONFIG"], None)
    tenant.kubectl("get", "bookings")  # waits until the API server serves the kind
    async with KubeClient(config, SystemClock()) as client:

        async def ask(method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
            kind = MERGE_PATCH if method == "PATCH" else "application/json"
            answer = await client.request(
                method, path, query=list(query.items()), body=body, content_type=kind
            )
            return json.loads(answer)

        yield ask


async def answers(ask: Ask, namespace: str) -> list[Any]:
    """The answers of a server to all kinds of requests of the operator, without variable parts."""
    said: list[Any] = []
    many = f"{GROUP}/namespaces/{namespace}/bookings"
    one = f"{many}/one"

    async def say(method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        try:
            answer = await ask(method, path, body, **query)
        except ApiError as error:
            said.append((error.status, error.reason if error.conflict or error.not_found else ""))
            return {}
        said.append(_reduced(answer))
        return answer

    async def version() -> str:
        return str((await say("GET", one))["metadata"]["resourceVersion"])

    meta = {"apiVersion": "manager.kotaico.de/v1", "kind": "Booking"}
    await say("GET", one)
    await say("POST", many, meta | {"metadata": {"name": "one"}, "spec": SPEC})
    await say("POST", many, meta | {"metadata": {"name": "one"}, "spec": SPEC})
    first = await version()
    patch = {
        "metadata": {"resourceVersion": first},
        "status": {"status": "SCHEDULED", "notification_sent": False},
    }
    await say("PATCH", f"{one}/status", patch)
    await say("PATCH", f"{one}/status", patch)
    second = await version()
    await say("PATCH", f"{one}/status", patch | {"metadata": {"resourceVersion": second}})
    said.append(await version() == second)  # a no-op write keeps the resourceVersion
    await say("PATCH", one, {"spec": {"user_id": "bob"}, "status": {"status": "FINISHED"}})
    await say("PATCH", one, {"metadata": {"finalizers": ["example.com/held"]}})
    await say("DELETE", one, {"preconditions": {"resourceVersion": first}})
    await say("DELETE", one)
    await say("GET", one)
    await say("PATCH", one, {"metadata": {"finalizers": []}})
    await say("GET", one)
    for name in ("a", "b", "c"):
        await say("POST", many, meta | {"metadata": {"name": name}, "spec": SPEC})
    for name, labels in (("d", {"month": "x"}), ("e", {"month": "y"})):
        await say("POST", many, meta | {"metadata": {"name": name, "labels": labels}, "spec": SPEC})
    await say("GET", many, labelSelector="month,month notin (y, z)")
    page = await say("GET", many, limit="2")
    await say("GET", many, limit="2", **{"continue": page["metadata"]["continue"]})
    await say("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/nothings.manager.kotaico.de")
    return said


def _reduced(answer: dict[str, Any]) -> Any:
    if "items" in answer:
        names = sorted(item["metadata"]["name"] for item in answer["items"])
        return names, bool(answer["metadata"].get("continue"))
    meta = answer.get("metadata", {})
    if answer.get("kind") == "Status" or "spec" not in answer:
        return "done"
    dying = "deletionTimestamp" in meta
    return (
        meta["name"],
        meta["generation"],
        meta.get("finalizers", []),
        dying,
        answer["spec"],
        answer.get("status"),
    )


async def test_the_simulated_api_server_answers_as_a_real_one(tenant: Tenant) -> None:
    kube = SimKube(Kernel("test"), "test")
    kube._page = 500
    async with real(tenant) as ask:
        said = await answers(ask, tenant.namespace)
    assert await answers(simulated(kube), "team") == said


async def test_the_simulated_api_server_sends_the_same_watch_events(tenant: Tenant) -> None:
    """The events after a version, in order, from before and after the watch was opened."""
    async with real(tenant) as ask:
        many = f"{GROUP}/namespaces/{tenant.namespace}/bookings"
        listed = await ask("GET", many)
        await answers(ask, tenant.namespace)
        config = ClusterConfig(tenant.devcluster.environ["KUBECONFIG"], None)
        async with KubeClient(config, SystemClock()) as client:
            query = [("watch", "true"), ("resourceVersion", listed["metadata"]["resourceVersion"])]
            real_events = []
            async with client.stream(many, query) as lines, asyncio.timeout(20):
                async for line in lines:
                    real_events.append(_event(json.loads(line)))
                    if real_events[-1] == ("ADDED", "e"):
                        break
    kube, events = SimKube(Kernel("test"), "test"), []
    since = kube.storage.version
    await answers(simulated(kube), "team")

    class Stream:
        closed = False

        def send(self, line: bytes) -> None:
            events.append(_event(json.loads(line)))

    stream: Any = Stream()
    kube.storage.watch(stream, "bookings", "", since, 300)
    assert events == real_events


def _event(event: dict[str, Any]) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"]["name"]
