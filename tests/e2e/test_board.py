"""The board in a real browser, against a real API server, as a user with the tenant roles.

Elements are found by their role and name only. The time is frozen at Tuesday 24 November 2026, 14:03 in
Berlin.
"""

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from booking_operator.devcluster.playground import Playground
from tests.e2e.conftest import Tenant
from tests.support.people import booking_body, condition, resource_body, usage_body
from tests.support.plugin import Person

pytestmark = pytest.mark.board

ANALYTICS = resource_body("analytics", "RUNNING", 2, 2)
AFTERNOON = booking_body("my-afternoon", "analytics", "ada", "13:00", "17:00")
TOMORROW = booking_body("office", "analytics", "grace", "25 09:00", "25 18:00")
FREE = "Free, Tue 24 Nov 17:00 to Wed 25 Nov 09:00, 16 hours"
BAR = "my-afternoon, ada, Tue 24 Nov 13:00 to 17:00, in progress, holds the lock"
HOSTILE = "<img src=x onerror=alert(1)>\u202e" + "x" * 227


@pytest.fixture
def ada(devcluster: Playground, tenant: Tenant, tmp_path: Path) -> Person:
    return Person(devcluster, tenant.namespace, "ada", tmp_path)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("install Debian's package chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


@contextmanager
def serving(person: Person, *arguments: str) -> Iterator[str]:
    """Run `kubectl booking board`, and yield the address that it prints. Ctrl-C ends it."""
    process = person.start("board", "--no-browser", *arguments)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("The board is at http://127.0.0.1:"), line
        yield line.split()[-1]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130


@asynccontextmanager
async def opened(browser: Browser, url: str, **context: Any) -> AsyncIterator[Page]:
    """Open a page. At its end, the console of the browser must have no message."""
    page = await (await browser.new_context(**context)).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(url)
    yield page
    await page.context.close()
    assert said == []


@pytest.fixture
def board(ada: Person, browser: Browser) -> Callable[..., Any]:
    @asynccontextmanager
    async def run(
        *bodies: dict[str, Any], arguments: tuple[str, ...] = (), **context: Any
    ) -> AsyncIterator[Page]:
        ada.apply(*bodies)
        with serving(ada, *arguments) as url:
            async with opened(browser, url, **context) as page:
                yield page

    return run


async def test_the_roles_and_names_are_those_of_the_contract(board: Callable[..., Any], ada: Person) -> None:
    async with board(ANALYTICS, AFTERNOON, TOMORROW) as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Bookings in {ada.namespace}")
        await expect(
            page.get_by_role("grid", name="Timeline, Tue 24 Nov 2026, Europe/Berlin")
        ).to_be_visible()
        header = page.get_by_role("rowheader", name="analytics, running, 2 of 2, ada until 17:00")
        await expect(header).to_be_visible()
        await expect(page.get_by_role("gridcell", name=BAR, exact=True)).to_be_visible()
        await expect(page.get_by_role("gridcell", name=FREE, exact=True)).to_be_visible()
        for name in ("Namespace", "Time zone"):
            await expect(page.get_by_role("combobox", name=name)).to_be_visible()
        await expect(page.get_by_role("searchbox", name="Filter resources")).to_be_visible()
        await expect(page.get_by_role("status", name="Updates")).to_be_attached()


async def test_a_machine_is_booked_with_the_keyboard_alone(board: Callable[..., Any], ada: Person) -> None:
    async with board(ANALYTICS, AFTERNOON, TOMORROW) as page:
        free = page.get_by_role("gridcell", name=FREE, exact=True)
        await expect(free).to_be_visible()
        header = page.get_by_role("rowheader", name="analytics")
        for _ in range(20):  # the grid is one tab stop
            await page.keyboard.press("Tab")
            if await header.evaluate("cell => cell === document.activeElement"):
                break
        await page.keyboard.press("ArrowRight")
        await expect(page.get_by_role("gridcell", name=BAR, exact=True)).to_be_focused()
        await page.keyboard.press("ArrowRight")
        await expect(free).to_be_focused()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Book analytics")
        await expect(dialog.get_by_role("textbox", name="To")).to_be_focused()
        await page.keyboard.type("18:30")
        await expect(
            dialog.get_by_text("Tue 24 Nov 17:00–18:30 CET (Europe/Berlin), 1h30m, in 2h57m")
        ).to_be_visible()
        await page.keyboard.press("Enter")
        await expect(dialog).to_be_hidden()
        made = page.get_by_role("gridcell", name="ada, Tue 24 Nov 17:00 to 18:30, scheduled")
        await expect(made).to_be_visible()
        await expect(page.get_by_role("status", name="Updates")).to_contain_text("is booked")
    listed = json.loads(ada.run("list", "-o", "json").stdout)
    assert [item["end_at"] for item in listed if item["name"].startswith("analytics-")] == [
        "2026-11-24T17:30:00Z"
    ]


async def test_arrows_and_letters_move_in_the_grid(board: Callable[..., Any]) -> None:
    web = resource_body("web", "STOPPED", 0, 1)
    async with board(ANALYTICS, web, AFTERNOON) as page:
        bar = page.get_by_role("gridcell", name=BAR, exact=True)
        await bar.focus()
        await expect(bar).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("gridcell", name="Free, from now on")).to_be_focused()
        await page.keyboard.press("ArrowUp")
        await expect(bar).to_be_focused()
        await page.keyboard.press("Home")
        await expect(page.get_by_role("rowheader", name="analytics")).to_be_focused()
        await page.keyboard.press("Control+End")
        await expect(page.get_by_role("gridcell", name="Free, from now on")).to_be_focused()
        await page.keyboard.press("n")
        await expect(page.get_by_role("grid", name="Timeline, Wed 25 Nov 2026")).to_be_visible()
        await page.get_by_role("rowheader", name="web").focus()
        await page.keyboard.press("t")
        await expect(page.get_by_role("grid", name="Timeline, Tue 24 Nov 2026")).to_be_visible()
        await page.get_by_role("rowheader", name="web").focus()
        await page.keyboard.press("/")
        search = page.get_by_role("searchbox", name="Filter resources")
        await expect(search).to_be_focused()
        await page.keyboard.type("web n")  # letters are only text here
        await expect(search).to_have_value("web n")
        await expect(page.get_by_text("No resource has this text")).to_be_visible()


async def test_a_free_span_is_found_in_the_accessibility_tree_alone(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS, AFTERNOON, TOMORROW) as page:
        await expect(page.get_by_role("grid")).to_be_visible()
        tree = await page.locator("body").aria_snapshot()
        assert f'gridcell "{FREE}"' in tree


async def test_a_booking_is_extended_and_released(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        await page.get_by_role("gridcell", name=BAR, exact=True).click()
        dialog = page.get_by_role("dialog", name="my-afternoon")
        await expect(dialog.get_by_text("booking my-afternoon: active since 13:00")).to_be_visible()
        await dialog.get_by_role("button", name="+15 min").click()
        await expect(page.get_by_role("status", name="Updates")).to_contain_text(
            "ends 17:15 instead of 17:00"
        )
        longer = page.get_by_role("gridcell", name="my-afternoon, ada, Tue 24 Nov 13:00 to 17:15")
        await longer.click()
        await dialog.get_by_role("button", name="Release").click()
        await expect(page.get_by_role("gridcell", name="13:00 to 14:03, finished")).to_be_visible()


async def test_two_pages_see_each_others_changes(ada: Person, browser: Browser) -> None:
    ada.apply(ANALYTICS)
    with serving(ada) as url:
        async with opened(browser, url) as one, opened(browser, url) as two:
            await one.get_by_role("rowheader", name="analytics").click()
            await one.get_by_role("dialog", name="analytics").get_by_role("button", name="Book").click()
            await one.get_by_role("dialog", name="Book analytics").get_by_role("button", name="Book").click()
            await expect(two.get_by_role("gridcell", name="ada, Tue 24 Nov 14:03 to 16:03")).to_be_visible()


async def test_wrong_times_get_a_hint_in_the_dialog(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS) as page:
        await page.get_by_role("gridcell", name="Free").click()
        dialog = page.get_by_role("dialog", name="Book analytics")
        await dialog.get_by_role("textbox", name="To").fill("17.00")
        await expect(dialog.get_by_text('Error: "17.00" is not a time')).to_be_visible()
        await expect(dialog.get_by_text('Hint: write 17:00, "fri 17:00"')).to_be_visible()


async def test_a_hostile_user_is_only_text(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS, booking_body("b", "analytics", HOSTILE, "13:00", "17:00")) as page:
        await expect(page.get_by_role("gridcell", name="<img src=x onerror=alert(1)>")).to_be_visible()
        assert await page.locator("main img").count() == 0


async def test_the_address_has_no_secret_after_the_page_has_loaded(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS) as page:
        await expect(page.get_by_role("grid")).to_be_visible()
        await page.get_by_role("button", name="Week").click()
        await expect(page.get_by_role("grid", name="Timeline, Mon 23 Nov to Sun 29 Nov 2026")).to_be_visible()
        assert "#" not in page.url
        assert "span=1w" in page.url


async def test_a_wrong_token_says_what_to_do(ada: Person, browser: Browser) -> None:
    ada.apply(ANALYTICS)
    with serving(ada) as url:
        page = await browser.new_page()
        await page.goto(f"{url.partition('#')[0]}#wrong")
        await expect(page.get_by_role("alert")).to_contain_text("the token is missing or wrong")
        await page.close()


async def test_an_agenda_a_report_and_an_empty_namespace(board: Callable[..., Any]) -> None:
    async with board() as page:
        await expect(page.get_by_text("A ResourceMonitor makes a Resource")).to_be_visible()
    usage = usage_body("analytics", {"t3.large": (1130, 319, 312, 4, 0, 2)}, {})
    failed = condition("Ready", "False", "InsufficientInstanceCapacity", "None.")
    late = booking_body("b", "analytics", "ada", "13:00", "17:00", [failed])
    async with board(ANALYTICS, late, usage) as page:
        await page.get_by_role("button", name="Agenda").click()
        state = page.get_by_role("cell", name="in progress, holds the lock, failed", exact=True)
        await expect(state).to_be_visible()
        await page.get_by_role("button", name="Usage").click()
        await expect(page.get_by_role("cell", name="809h (72%)").first).to_be_visible()


async def test_phones_begin_with_the_agenda(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS, AFTERNOON, viewport={"width": 390, "height": 800}) as page:
        await expect(page.get_by_role("heading", name="Tue 24 Nov 2026, today")).to_be_visible()
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390


async def test_a_read_only_board_books_nothing(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS, AFTERNOON, arguments=("--read-only",)) as page:
        await page.get_by_role("gridcell", name=BAR, exact=True).click()
        dialog = page.get_by_role("dialog", name="my-afternoon")
        await expect(dialog.get_by_role("button")).to_have_text(["Close"])


async def test_a_stopped_board_is_reported(ada: Person, browser: Browser) -> None:
    ada.apply(ANALYTICS)
    page = await browser.new_page()
    with serving(ada) as url:
        await page.clock.install()
        await page.goto(url)
        await expect(page.get_by_role("grid")).to_be_visible()
    await asyncio.sleep(0.5)
    await page.clock.run_for(40_000)
    await expect(page.get_by_role("alert")).to_contain_text("this is the state of then")
    await page.close()
