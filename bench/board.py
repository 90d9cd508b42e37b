"""Measure how fast the board shows 500 Resources with 5,000 bookings, in a real browser.

python -m bench.board
"""

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from bench.plugin import BOOKINGS, RESOURCES
from bench.population import NAMESPACE, fill, objects, stored
from bench.report import Board
from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.playground import control_plane

RUNS = 7
_LAST_ROW = f"[role=rowheader] >> nth={RESOURCES - 1}"


def measure() -> Board | None:
    """Measure the page of the installed script; None without a Chromium on this machine."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("bench: no chromium, so the board is not measured", file=sys.stderr)
        return None
    with control_plane() as plane:
        now = datetime.now(UTC)
        made = objects(BOOKINGS, RESOURCES, now)
        asyncio.run(
            fill(plane, ((kind, stored(kind, name, spec, now, settled=True)) for kind, name, spec in made))
        )
        with _served(plane) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            views = [_first_view(browser, address) for _ in range(RUNS + 1)]
            updates = _updates(browser, address, plane)
            browser.close()
    # The first run fills the caches of the browser and of Python.
    return Board(statistics.median(views[1:]), statistics.median(updates[1:]))


@contextmanager
def _served(plane: ControlPlane) -> Iterator[str]:
    """Run the board, and yield its address."""
    script = Path(sys.executable).with_name("kubectl-booking")
    environ = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
    command = [str(script), "board", "--no-browser", "-n", NAMESPACE]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield line.split()[-1]
        finally:
            process.send_signal(signal.SIGINT)


def _opened(browser: Browser, address: str) -> tuple[Page, float]:
    """Open the page; return it and the seconds until all Resources are drawn."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    began = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(_LAST_ROW, state="attached")
    return page, time.perf_counter() - began


def _first_view(browser: Browser, address: str) -> float:
    page, seconds = _opened(browser, address)
    page.close()
    return seconds


def _updates(browser: Browser, address: str, plane: ControlPlane) -> Sequence[float]:
    """Return for each of some new bookings the seconds from the answer of the API server to the page."""
    page, _ = _opened(browser, address)
    times = []
    for number in range(RUNS + 1):
        group, name = f"group-{number:05}", f"fresh-{number}"
        _book(plane, group, name)
        began = time.perf_counter()
        page.wait_for_selector(f'[data-key="{group}/{name}"]', state="attached")
        times.append(time.perf_counter() - began)
    page.close()
    return times


def _book(plane: ControlPlane, group: str, name: str) -> None:
    now = datetime.now(UTC)
    times = {"start_at": now.isoformat(), "end_at": (now + timedelta(minutes=30)).isoformat()}
    spec = {"resource_name": group, "user_id": "bench"} | times
    body = {
        "apiVersion": "manager.kotaico.de/v1",
        "kind": "Booking",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
    command = [str(find_kubectl(print)), "--kubeconfig", str(plane.kubeconfig), "create", "-f", "-"]
    subprocess.run(command, input=json.dumps(body), text=True, check=True, capture_output=True)


def main() -> None:
    found = measure()
    if found is not None:
        print(f"first view            {found.view_seconds * 1000:.0f} ms")
        print(f"update                {found.update_seconds * 1000:.0f} ms")


if __name__ == "__main__":
    main()
