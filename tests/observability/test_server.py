"""The metrics and health servers: encodings, IPv4 and IPv6, and shutdown."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp
import pytest
from structlog.testing import capture_logs

from booking_operator.engine.clock import SystemClock
from booking_operator.observability import catalogue
from booking_operator.observability.prometheus import Metrics
from booking_operator.observability.server import BindError, open_servers
from booking_operator.observability.sources import Sources

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@asynccontextmanager
async def serving(
    metrics_address: str = "127.0.0.1:0", health_address: str = "0"
) -> AsyncIterator[list[int]]:
    """Start the servers; yield their ports."""
    with capture_logs() as logs:
        async with open_servers(metrics_address, health_address, Metrics(), Sources(), SystemClock()):
            yield [entry["port"] for entry in logs if entry["event"].endswith("_server_started")]


async def test_formats_and_compression_follow_the_accept_headers() -> None:
    async with serving() as [port], aiohttp.ClientSession(auto_decompress=False) as http:
        for accept, end in (("text/plain", False), (OPENMETRICS, True)):
            plain = {"Accept": accept, "Accept-Encoding": "identity"}
            async with http.get(f"http://127.0.0.1:{port}/metrics", headers=plain) as answer:
                body = await answer.read()
                assert "Content-Encoding" not in answer.headers
            assert body.endswith(b"# EOF\n") is end
            assert body.count(b"# EOF\n") == int(end)
            zipped = plain | {"Accept-Encoding": "gzip, deflate"}
            async with http.get(f"http://127.0.0.1:{port}/metrics", headers=zipped) as answer:
                assert answer.headers["Content-Encoding"] == "gzip"
                packed = await answer.read()
            assert b"# TYPE booking_operator_leader gauge" in gzip.decompress(packed)
            assert len(packed) < len(body) / 4


async def test_an_empty_host_listens_on_ipv4_and_ipv6() -> None:
    async with serving(":0") as [port], aiohttp.ClientSession() as http:
        for host in ("127.0.0.1", *(("[::1]",) if socket.has_dualstack_ipv6() else ())):
            async with http.get(f"http://{host}:{port}/metrics") as answer:
                assert answer.status == 200


async def test_the_number_of_tasks_is_current() -> None:
    async def task_count(port: int) -> float:
        async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        (found,) = (line for line in lines if line.startswith(f"{catalogue.TASKS.name} "))
        return float(found.split()[1])

    async with serving() as [port], aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        await task_count(port)
        before = await task_count(port)
        more = [tasks.create_task(asyncio.sleep(60)) for _ in range(7)]
        assert await task_count(port) == before + 7
        for task in more:
            task.cancel()
        await asyncio.wait(more)
        assert await task_count(port) == before


async def test_zero_starts_no_server() -> None:
    async with serving("0", "0") as ports:
        assert ports == []


async def test_metrics_and_probes_have_ports_of_their_own() -> None:
    async with serving("127.0.0.1:0", "127.0.0.1:0") as ports, aiohttp.ClientSession() as http:
        assert len(set(ports)) == 2
        async with http.get(f"http://127.0.0.1:{ports[1]}/readyz") as answer:
            assert answer.status == 500
            assert await answer.text() == (
                "[-]started failed: the operator is starting\nreadyz check failed\n"
            )


async def test_an_address_in_use_is_reported() -> None:
    async with serving("127.0.0.1:0") as [port]:
        with pytest.raises(
            BindError, match=r"--metrics-bind-address: cannot listen on .*Address already in use"
        ):
            async with serving(f"127.0.0.1:{port}"):
                pass


async def test_an_address_of_another_machine_is_reported() -> None:
    with pytest.raises(BindError, match=r"cannot listen on 192.0.2.1:8080: .*; use another address, or 0"):
        async with serving("192.0.2.1:8080"):
            pass


async def test_shutdown_does_not_wait_for_idle_connections() -> None:
    running = asyncio.Event()

    async def serve(found: list[int]) -> None:
        async with serving() as ports:
            found += ports
            running.set()
            await asyncio.Event().wait()

    found: list[int] = []
    task = asyncio.ensure_future(serve(found))
    await running.wait()
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{found[0]}/metrics") as answer:
            await answer.read()
        _, idle = await asyncio.open_connection("127.0.0.1", found[0])
        began = monotonic()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert monotonic() - began < 5
        idle.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await http.get(f"http://127.0.0.1:{found[0]}/metrics")
