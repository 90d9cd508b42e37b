"""Takes the screenshots of the board and of the terminal in docs/images, with Debian's Chromium.

python -m tests.screenshots [DIRECTORY]
"""

import io
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from booking_operator.devcluster.playground import OwnPlayground, playground
from tests.support.people import accepted, booking_body, condition, resource_body, usage_body
from tests.support.plugin import ROOT, Person

SIZE = {"width": 1280, "height": 720}
COLUMNS = 120
NO_ROOM = condition("Ready", "False", "InsufficientInstanceCapacity", "AWS has no room for db.r6g.large.")
TAKEN = condition("Accepted", "False", "Conflict", "ada has load-test until 2026-11-24T21:00:00Z (peak).")
WAITS = condition(
    "Ready",
    "False",
    "WaitingForRequired",
    "The start of 3 instances waits for staging-db, of which 0 of 1 instances are ready. "
    "It is sent at 2026-11-24T13:10:00Z at the latest.",
)
STARTS = condition("Ready", "False", "Starting", "0 of 1 instances are running.")
OBJECTS: tuple[dict[str, Any], ...] = (
    resource_body("analytics", "RUNNING", 2, 2, spec={"warm_up": "30m"}),
    resource_body("build-farm", "RUNNING", 12, 12),
    resource_body("load-test", "STOPPED", 0, 8, spec={"sharing": "Exclusive"}),
    resource_body("ml-training", "STOPPED", 0, 4, spec={"suspend_until": "2026-11-24T20:00:00Z"}),
    resource_body("rds.reporting", "STOPPED", 0, 1, [NO_ROOM]),
    resource_body("staging", "STOPPED", 0, 3, [WAITS], spec={"requires": ["staging-db"], "warm_up": "15m"}),
    resource_body("staging-db", "PENDING", 0, 1, [STARTS]),
    resource_body(
        "windows-desktops",
        "RUNNING",
        5,
        5,
        spec={"unbooked": "Leave", "stop_at": ["0 20 * * *"], "time_zone": "Europe/Berlin"},
        unbooked=[{"id": "i-1", "since": "2026-11-24T11:00:00Z"}],
    ),
    booking_body("office", "analytics", "grace", "09:00", "12:00"),
    booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00"),
    booking_body("review", "analytics", "grace", "14:00", "18:30"),
    booking_body("tomorrow", "analytics", "grace", "25 09:00", "25 18:00"),
    booking_body("nightly", "build-farm", "ci-bot", "00:00", "06:00"),
    booking_body("release", "build-farm", "linus", "10:00", "20:00"),
    booking_body("peak", "load-test", "ada", "19:00", "22:00", **accepted("load-test", "19:00", "22:00")),
    booking_body("soak", "load-test", "linus", "17:00", "21:00", [TAKEN], status="CONFLICT"),
    booking_body("epochs", "ml-training", "yann", "18:00", "25 08:00"),
    booking_body("quarter", "rds.reporting", "grace", "10:00", "16:00", [NO_ROOM]),
    booking_body("qa", "staging", "margaret", "14:00", "18:00"),
    *(booking_body(f"demo-{n}", "staging", f"guest-{n}", f"{14 + n}:00", f"{16 + n}:00") for n in range(6)),
    booking_body("desktops", "windows-desktops", "support", "08:00", "12:00"),
    usage_body("analytics", {"t3.large": (1130, 319, 312, 4, 0, 2)}, {("ada", "t3.large"): 200}),
    usage_body("build-farm", {"c7g.4xlarge": (6780, 2310, 2290, 12, 1, 0)}, {}),
    usage_body("rds.reporting", {"db.r6g.large": (565, 191, 180, 11, 3, 2)}, {}),
)


@contextmanager
def _served(person: Person) -> Iterator[str]:
    process = person.start("board", "--no-browser")
    try:
        yield process.stdout.readline().split()[-1] if process.stdout else ""
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def _person(ground: OwnPlayground, namespace: str, directory: Path) -> Person:
    ground.kubectl("create", "namespace", namespace)
    return Person(ground, namespace, "ada", directory)


@contextmanager
def _page(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    page = browser.new_context(**{"viewport": SIZE} | context).new_page()
    page.goto(url)
    page.wait_for_selector("#range-title, .empty", state="attached")
    page.wait_for_timeout(700)
    yield page
    page.context.close()


def take(ground: OwnPlayground, browser: Browser, directory: Path) -> None:
    """Write all screenshots into a directory."""

    def shoot(page: Page, name: str) -> None:
        page.wait_for_timeout(700)
        page.screenshot(path=str(directory / f"board-{name}.png"))

    with tempfile.TemporaryDirectory() as temporary:
        ada = _person(ground, "team-a", Path(temporary))
        ada.apply(*OBJECTS)
        take_terminal(ada, browser, directory)
        with _served(ada) as url:
            with _page(browser, url) as page:
                shoot(page, "day")
                page.get_by_role("gridcell", name="Free, Tue 24 Nov 18:30").click()
                shoot(page, "dialog")
                page.keyboard.press("Escape")
                page.get_by_role("gridcell", name="quarter").click()
                shoot(page, "details")
                page.keyboard.press("Escape")
                for view in ("Week", "Agenda", "Usage"):
                    page.get_by_role("button", name=view).click()
                    shoot(page, view.lower())
            with _page(browser, url, color_scheme="dark") as page:
                shoot(page, "dark")
            with _page(browser, url, viewport={"width": 390, "height": 800}) as page:
                shoot(page, "phone")
            with _page(browser, url.partition("#")[0] + "#wrong") as page:
                shoot(page, "error")
        empty = _person(ground, "team-b", Path(temporary))
        with _served(empty) as url, _page(browser, url) as page:
            shoot(page, "empty")
        many = _person(ground, "team-c", Path(temporary))
        for number in range(500):
            name = f"machine-{number:03}"
            many.apply(
                resource_body(name, "RUNNING", 1, 1), booking_body(name, name, "ada", "09:00", "17:00")
            )
        with _served(many) as url, _page(browser, url) as page:
            shoot(page, "500")


def take_terminal(ada: Person, browser: Browser, directory: Path) -> None:
    """Write a screenshot of a terminal in which ada runs a few commands."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for arguments in (("status",), ("timeline", "--from", "today 6:00"), ("why", "rds.reporting")):
        console.print(Text(f"$ kubectl booking {shlex.join(arguments)}", "bold"))
        done = ada.run(*arguments, "--color", "always", COLUMNS=str(COLUMNS))
        console.print(Text.from_ansi(done.stdout.rstrip()), soft_wrap=True)
        console.print()
    page = browser.new_page(viewport={"width": 1180, "height": 900})
    # The font of the picture would come from a server.
    image = console.export_svg(title="kubectl booking").replace("https://", "about:")
    page.set_content(f"<style>body {{ margin: 0 }}</style>{image}")
    page.locator("svg").screenshot(path=str(directory / "terminal.png"))
    page.close()


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    directory.mkdir(parents=True, exist_ok=True)
    with playground() as ground, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        take(ground, browser, directory)
        browser.close()


if __name__ == "__main__":
    main()
