"""The server of the board: a real HTTP server on loopback, with objects in memory in place of a cluster."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import pytest

from booking_operator.board.access import LocalAccess
from booking_operator.board.board import Board, BoardUser
from booking_operator.board.security import HEADERS, AccessRules
from booking_operator.board.server import BoardServer
from booking_operator.cli.kubectl.session import FrozenClock
from booking_operator.client.cluster import Cluster, Permission
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.live import LiveObjects
from booking_operator.observability.bind_address import BindAddress
from tests.support.people import BERLIN, NOW, booking_body, resource_body, usage_body, view_of

TOKEN = "t" * 43
ANALYTICS = resource_body("analytics", "RUNNING", 2, 2)
AFTERNOON = booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00")
HOSTILE = "<script>alert(1)</script>\u202e" + "x" * 228


class Requests:
    """The requests of a board to the API server, in place of `Cluster`."""

    def __init__(self) -> None:
        self.created: list[Mapping[str, Any]] = []
        self.patched: list[Any] = []
        self.error: CommandError | None = None

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    async def create(self, _: Any, __: str, body: Mapping[str, Any], **___: Any) -> Any:
        self._raise()
        self.created.append(body)
        return {
            **body,
            "metadata": {**body["metadata"], "namespace": "team-a", "uid": "u", "resourceVersion": "1"},
        }

    async def patch(self, _: Any, __: str, name: str, operations: Any, **___: Any) -> Any:
        self._raise()
        self.patched.append((name, operations))
        return {"metadata": {"name": name}}

    async def delete(self, _: Any, object_: Any, **__: Any) -> None:
        self._raise()
        self.patched.append((object_.metadata.name, "deleted"))

    async def allowed(self, permissions: Any) -> dict[Permission, bool]:
        return dict.fromkeys(permissions, True)

    async def list_objects(self, kind: Any, _: str, selector: Any = ()) -> Any:
        self._raise()
        if selector != (("labelSelector", "manager.kotaico.de/month=2026-11"),):
            return []
        body = usage_body("analytics", {"t3.large": (1130, 319, 312, 4, 0, 2)}, {("ada", "t3.large"): 200})
        return [kind.adapter.validate_python(body)]


@dataclass
class Page:
    """What a page in a browser does."""

    http: aiohttp.ClientSession
    rules: AccessRules
    server: BoardServer
    requests: Requests
    live: LiveObjects
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **query: str) -> Any:
        async with self.http.get(
            f"http://{self.rules.host}{path}", params=query, headers=self.headers
        ) as answer:
            self.status = answer.status
            assert all(answer.headers[name] == value for name, value in HEADERS.items())
            return await answer.json() if answer.content_type == "application/json" else await answer.text()

    async def post(self, path: str, body: Any, **headers: str) -> Any:
        url = f"http://{self.rules.host}{path}"
        sent = body if isinstance(body, str) else json.dumps(body)
        async with self.http.post(url, data=sent, headers=self.headers | WRITE | headers) as answer:
            self.status = answer.status
            return await answer.json()


WRITE = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}


@asynccontextmanager
async def board(
    *bodies: dict[str, Any], read_only: bool = False, scope: str = "team-a"
) -> AsyncIterator[Page]:
    clock, requests = FrozenClock(NOW), Requests()
    live = LiveObjects(view_of(*bodies).informers, [])
    user = BoardUser("ada", "prod-eu", "team-a", scope, BERLIN, read_only=read_only)
    server, listening = BoardServer(live, clock), BindAddress("127.0.0.1", 0).listen()
    rules = AccessRules(f"127.0.0.1:{listening.getsockname()[1]}", TOKEN, read_only)
    access = LocalAccess(rules, Board(cast("Cluster", requests), live, user, clock))
    async with server.serve(listening, access), aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {TOKEN}", "Origin": f"http://{rules.host}"}
        yield Page(http, rules, server, requests, live, headers)


async def test_the_page_and_its_files_are_served_without_a_secret() -> None:
    async with board() as page:
        page.headers = {}
        shell = await page.get("/")
        assert "<h1" in shell
        assert TOKEN not in shell
        assert page.rules.address.endswith(f"/#{TOKEN}")
        for name in ("main.js", "timeline.js", "board.css", "icon.svg"):
            await page.get(f"/static/{name}")
            assert page.status == 200
        await page.get("/static/../board.py")
        assert page.status == 404


async def test_the_views_have_the_texts_of_python() -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        found = await page.get("/api/timeline", **{"from": "2026-11-24"})
        assert (found["name"], found["range"]) == (
            "Timeline, Tue 24 Nov 2026, Europe/Berlin",
            "Tue 24 Nov 2026",
        )
        assert (found["previous"], found["next"]) == ("2026-11-23", "2026-11-25")
        assert found["rows"][0]["name"] == "analytics, running, 2 of 2, ada until 17:00"
        agenda = await page.get("/api/agenda", tz="UTC")
        assert agenda["days"][0]["entries"][0]["times"] == "12:00–16:00"


async def test_a_month_of_usage_by_resource_and_by_user() -> None:
    async with board() as page:
        found = await page.get("/api/usage")
        assert found["rows"][0]["cells"][-1] == "809h (72%)"
        text = "November 2026 until 24 Nov 14:03 CET (months are UTC). Baseline: always on."
        assert (found["name"], found["range"], found["columns"][0]) == (text, "November 2026", "Resource")
        assert (found["previous"], found["next"]) == ("2026-10", "")
        found = await page.get("/api/usage", by="who", month="2025-12")
        assert (found["name"], found["rows"]) == ("No usage is recorded for December 2025", [])
        assert (found["previous"], found["next"]) == ("2025-11", "2026-01")
        found = await page.get("/api/usage", by="who")
        assert found["columns"] == ["User", "Running"]
        assert [(row["name"], *row["cells"]) for row in found["rows"]] == [
            ("(unbooked)", "4h"),
            ("ada", "200h"),
            ("TOTAL", "204h"),
        ]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"month": "november"}, 'month "november" is not a month'),
        ({"month": "2026-12"}, 'month "2026-12" has not begun'),
        ({"by": "namespace"}, '"namespace" is not what a row can be'),
    ],
)
async def test_a_wrong_month_or_row_names_the_field(query: dict[str, str], error: str) -> None:
    async with board() as page:
        found = await page.get("/api/usage", **query)
        assert (page.status, found["error"]) == (400, error)
        assert found["field"] == next(iter(query))


async def test_the_session_names_the_user_and_the_context() -> None:
    async with board(ANALYTICS) as page:
        found = await page.get("/api/session")
        assert (found["user"], found["context"], found["namespace"]) == ("ada", "prod-eu", "team-a")
        assert (found["namespaces"], found["zone"], found["read_only"]) == (
            ["team-a"],
            "Europe/Berlin",
            False,
        )
        assert "Pacific/Apia" in found["zones"]


async def test_another_namespace_is_shown_on_request() -> None:
    elsewhere = ANALYTICS | {"metadata": ANALYTICS["metadata"] | {"namespace": "team-b", "name": "web"}}
    async with board(ANALYTICS, elsewhere, scope="") as page:
        found = await page.get("/api/timeline")
        assert [row["resource"] for row in found["rows"]] == ["analytics"]
        found = await page.get("/api/timeline", ns="team-b")
        assert [row["resource"] for row in found["rows"]] == ["web"]


@pytest.mark.parametrize("name", ["timeline", "agenda", "usage", "events"])
async def test_a_board_of_one_namespace_shows_no_other(name: str) -> None:
    async with board(ANALYTICS) as page:
        found = await page.get(f"/api/{name}", ns="team-b")
        assert (page.status, found["error"]) == (403, "this board shows namespace team-a only")


@pytest.mark.parametrize("name", ["../../x", "Team", "a/b", "x" * 64])
async def test_a_text_that_names_no_namespace(name: str) -> None:
    async with board(ANALYTICS, scope="") as page:
        found = await page.get("/api/usage", ns=name)
        assert (page.status, found["field"]) == (400, "ns")


async def test_a_token_that_is_no_text() -> None:
    async with board(ANALYTICS) as page:
        page.headers["Authorization"] = "Bearer \udcff"
        await page.get("/api/session")
        assert page.status == 401


async def test_only_a_get_opens_a_stream() -> None:
    async with board(ANALYTICS) as page:
        url = f"http://{page.rules.host}/api/events"
        async with page.http.head(url, headers=page.headers) as answer:
            assert answer.status == 404


async def test_a_silent_operator_is_reported() -> None:
    silent = resource_body("web", "STOPPED", 0, 1, next_change_at="2026-11-24T12:00:00Z")
    async with board(ANALYTICS, silent) as page:
        assert (await page.get("/api/timeline"))["silent"] == ["web"]


async def test_a_booking_is_previewed_and_made() -> None:
    wanted = {"namespace": "team-a", "resource": "analytics", "from": "wed 9:00", "to": "13:00", "user": ""}
    async with board(ANALYTICS) as page:
        found = await page.get("/api/preview", **wanted)
        assert found["lines"] == ["Wed 25 Nov 09:00–13:00 CET (Europe/Berlin), 4h, in 18h57m"]
        made = await page.post("/api/book", wanted)
        assert made["booking"].startswith("analytics-202611250800-")
        [created] = page.requests.created
        assert created["spec"] == {
            "resource_name": "analytics",
            "user_id": "ada",
            "start_at": "2026-11-25T09:00:00+01:00",
            "end_at": "2026-11-25T13:00:00+01:00",
        }


async def test_a_preview_of_wrong_times_names_the_field() -> None:
    wanted = {"namespace": "team-a", "resource": "analytics", "from": "now", "to": "17.00"}
    async with board(ANALYTICS) as page:
        found = await page.get("/api/preview", **wanted)
        assert (page.status, found["lines"], found["field"]) == (200, [], "to")
        assert found["error"] == '"17.00" is not a time'
        assert found["hint"].startswith("write 17:00")


async def test_a_booking_is_extended_and_released() -> None:
    target = {"namespace": "team-a", "booking": "my-afternoon"}
    async with board(ANALYTICS, AFTERNOON) as page:
        found = await page.post("/api/extend", target | {"by": "15m"})
        assert found["text"] == "my-afternoon extended: ends 17:15 instead of 17:00 CET (in 3h12m)"
        found = await page.post("/api/extend", target | {"until": "18:00"})
        assert "ends 18:00" in found["text"]
        found = await page.post("/api/release", target)
        assert found["text"].startswith("my-afternoon released at 14:03 instead of 17:00 CET")
        tests = [operations[0] for _, operations in page.requests.patched]
        assert {(test["op"], test["path"]) for test in tests} == {("test", "/spec/end_at")}


@pytest.mark.parametrize(
    ("path", "body", "status", "error", "field"),
    [
        ("book", {"to": "17.00"}, 400, '"17.00" is not a time', "to"),
        ("book", {"from": "noon", "to": "11:00 "}, 200, "", ""),
        ("book", {"from": "+2h", "to": "now"}, 400, "To is not after From", "to"),
        ("book", {"to": ""}, 400, "a time is missing", "to"),
        ("book", {"to": 5}, 400, "to must be a text", "to"),
        ("book", {"to": "17:00", "tz": "Mars"}, 400, '"Mars" is not a time zone', "tz"),
        ("book", {"to": "17:00", "user": "x" * 257}, 400, "a user has at most 256 characters", "user"),
        ("book", {"to": "17:00", "resource": "web"}, 404, "there is no resource web in team-a", ""),
        ("extend", {"booking": "gone", "by": "1h"}, 404, "there is no booking gone in team-a", ""),
        ("extend", {"booking": "my-afternoon", "by": "1x"}, 400, '"1x" is not a duration', "by"),
        ("extend", {"booking": "my-afternoon", "until": "now"}, 400, "the new end is not after", ""),
        ("release", {}, 400, "booking is missing", "booking"),
        ("destroy", {}, 404, "there is no POST /api/destroy", ""),
    ],
)
async def test_wrong_input_names_the_field(
    path: str, body: dict[str, Any], status: int, error: str, field: str
) -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        found = await page.post(f"/api/{path}", {"namespace": "team-a", "resource": "analytics"} | body)
        assert page.status == status, found
        assert found.get("error", "").startswith(error)
        assert found.get("field", "") == field


@pytest.mark.parametrize("body", ["", "[]", "null", "{", '"x"'])
async def test_a_body_that_is_no_object(body: str) -> None:
    async with board(ANALYTICS) as page:
        assert "body" in (await page.post("/api/book", body))["error"]
        assert page.status == 400


async def test_a_body_that_is_too_large() -> None:
    async with board(ANALYTICS) as page:
        await page.post("/api/book", {"user": "x" * 20_000})
        assert page.status == 413


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ExitCode.FORBIDDEN, 403),
        (ExitCode.CHANGED, 409),
        (ExitCode.IMPOSSIBLE, 422),
        (ExitCode.FAILED, 502),
    ],
)
async def test_an_error_of_the_api_server_has_its_hint(code: ExitCode, status: int) -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        page.requests.error = CommandError("refused", hint="ask somebody", code=code)
        found = await page.post("/api/release", {"namespace": "team-a", "booking": "my-afternoon"})
        assert (page.status, found) == (status, {"error": "refused", "hint": "ask somebody"})


async def test_a_read_only_board_changes_nothing() -> None:
    async with board(ANALYTICS, AFTERNOON, read_only=True) as page:
        await page.post("/api/release", {"namespace": "team-a", "booking": "my-afternoon"})
        assert (page.status, page.requests.patched) == (403, [])


async def test_requests_of_other_pages_are_refused() -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        target = {"namespace": "team-a", "booking": "my-afternoon"}
        await page.post("/api/release", target, Host="evil.example")
        assert page.status == 421
        await page.post("/api/release", target, Origin="http://evil.example")
        assert page.status == 403
        await page.post("/api/release", target, Authorization="Bearer wrong")
        assert page.status == 401
        assert page.requests.patched == []


async def test_a_hostile_user_is_only_text() -> None:
    async with board(ANALYTICS, booking_body("b", "analytics", HOSTILE, "13:00", "17:00")) as page:
        found = await page.get("/api/timeline")
        assert found["rows"][0]["lanes"][0][0]["user"] == HOSTILE


async def test_a_stream_reports_each_change() -> None:
    async with board(ANALYTICS) as page:
        url = f"http://{page.rules.host}/api/events"
        async with page.http.get(url, headers=page.headers) as stream, asyncio.timeout(10):
            assert stream.content_type == "text/event-stream"
            assert (await stream.content.readuntil(b"\n\n")).decode() == "event: known\ndata: 0\n\n"
            page.live.changes.notify("team-a")
            assert (await stream.content.readuntil(b"\n\n")).decode() == "event: changed\ndata: 1\n\n"


async def test_a_stream_reports_the_begin_and_the_end_of_an_outage() -> None:
    """Also a page that reads its view in a short outage hears of the end: its version is no longer known."""
    async with board(ANALYTICS) as page:
        url = f"http://{page.rules.host}/api/events"
        async with page.http.get(url, headers=page.headers) as stream, asyncio.timeout(10):
            await stream.content.readuntil(b"\n\n")
            page.live.note_answer("bookings", answered=False)
            shown = await page.get("/api/timeline")
            page.live.note_answer("bookings", answered=True)
            assert (await stream.content.readuntil(b"\n\n")).decode() == "event: changed\ndata: 2\n\n"
        assert (shown["version"], shown["disconnected"]) == (1, True)
        assert (await page.get("/api/timeline"))["disconnected"] is False


async def test_the_explanation_is_that_of_why() -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        found = await page.get("/api/explain", namespace="team-a", booking="my-afternoon")
        assert found["subject"] == "booking my-afternoon"
        found = await page.get("/api/explain", namespace="team-a", resource="analytics")
        assert found["state"] == "RUNNING 2 of 2, as booked"
        await page.get("/api/explain", namespace="team-a", resource="nothing")
        assert page.status == 404
