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
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from booking_operator.devcluster.playground import OwnPlayground, Playground
from tests.e2e.conftest import Tenant, apiserver_killed
from tests.support.people import accepted, booking_body, condition, resource_body, usage_body
from tests.support.plugin import ROOT, Person

pytestmark = pytest.mark.board
expect.set_options(timeout=20_000)  # milliseconds; the browser shares the CPU with other tests

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


async def accessible(page: Page, part: str = "") -> None:
    """Check a page by the rules of axe-core, which include WCAG 2.2."""
    found = await Axe().run(page)
    problems = [
        (problem["id"], node["html"], node["failureSummary"])
        for problem in found.response["violations"]
        for node in problem["nodes"]
    ]
    assert problems == [], part


@asynccontextmanager
async def opened_with_errors(browser: Browser, url: str) -> AsyncIterator[Page]:
    """Open a page whose requests may fail, which a browser writes to its console."""
    page = await browser.new_page()
    await page.goto(url)
    yield page
    await page.close()


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


async def test_a_conflict_is_shown_on_its_bar_and_before_it_is_made(ada: Person, browser: Browser) -> None:
    exclusive = resource_body("analytics", "RUNNING", 2, 2, spec={"sharing": "Exclusive"})
    times = accepted("analytics", "09:00", "18:00")
    office = booking_body("office", "analytics", "grace", "09:00", "18:00", **times)
    refused = condition("Accepted", "False", "Conflict", "grace has analytics until 18:00 (office).")
    waiting = booking_body("mine", "analytics", "ada", "15:00", "17:00", [refused], status="CONFLICT")
    ada.apply(exclusive, office, waiting)
    with serving(ada) as url:
        async with opened_with_errors(browser, url) as page:
            bar = page.get_by_role("gridcell", name="mine, ada, Tue 24 Nov 15:00 to 17:00, conflict")
            await expect(bar).to_contain_text("conflict")
            await page.get_by_role("gridcell", name="Free, from Tue 24 Nov 18:00").click()
            dialog = page.get_by_role("dialog", name="Book analytics")
            await dialog.get_by_role("textbox", name="From").fill("16:00")
            await dialog.get_by_role("textbox", name="To").fill("19:00")
            text = "conflict: grace has analytics 09:00–18:00 (office); 3h are next free today 18:00"
            await expect(dialog.get_by_text(text)).to_be_visible()
            await dialog.get_by_role("button", name="Book").click()
            await expect(dialog.get_by_role("alert")).to_contain_text(text)
            await accessible(page)


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
        await expect(page.get_by_role("alert")).to_contain_text("The token is missing or wrong")
        await page.close()


async def test_an_agenda_a_report_and_an_empty_namespace(board: Callable[..., Any]) -> None:
    async with board() as page:
        await expect(page.get_by_text("A ResourceMonitor makes a Resource")).to_be_visible()
    charged = {("ada", "t3.large"): 200, ("grace", "t3.large"): 115}
    usage = usage_body("analytics", {"t3.large": (1130, 319, 312, 4, 0, 2)}, charged)
    failed = condition("Ready", "False", "InsufficientInstanceCapacity", "None.")
    late = booking_body("b", "analytics", "ada", "13:00", "17:00", [failed])
    async with board(ANALYTICS, late, usage) as page:
        await page.get_by_role("button", name="Agenda").click()
        state = page.get_by_role("cell", name="in progress, holds the lock, failed", exact=True)
        await expect(state).to_be_visible()
        await page.get_by_role("button", name="Usage").click()
        await expect(page.get_by_role("cell", name="809h (72%)").first).to_be_visible()
        await expect(page.get_by_role("heading", name="November 2026", exact=True)).to_be_visible()
        await expect(page.get_by_role("button", name="Next")).to_be_disabled()
        await page.get_by_role("group", name="Rows").get_by_role("button", name="By user").click()
        row = page.get_by_role("row", name="grace 115h")
        await expect(row).to_be_visible()
        await page.get_by_role("button", name="Previous").click()
        await expect(page.get_by_text("No usage is recorded for October 2026.")).to_be_visible()
        assert "view=usage" in page.url
        assert "by=who&month=2026-10" in page.url
        await page.go_back()
        await expect(row).to_be_visible()
        await page.get_by_role("button", name="Previous").click()
        await page.get_by_role("button", name="This month").click()
        await expect(row).to_be_visible()


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_views_and_dialogs_have_no_accessibility_violation(
    board: Callable[..., Any], scheme: str
) -> None:
    failed = condition("Ready", "False", "InsufficientInstanceCapacity", "None.")
    late = booking_body("b", "analytics", "grace", "13:30", "18:00", [failed])
    usage = usage_body("analytics", {"t3.large": (1130, 319, 312, 4, 0, 2)}, {})
    silent = resource_body("web", "STOPPED", 0, 1, next_change_at="2026-11-24T12:00:00Z")
    over = booking_body("over", "analytics", "grace", "08:00", "12:00")
    objects = (ANALYTICS, AFTERNOON, late, TOMORROW, over, usage, silent)
    async with board(*objects, color_scheme=scheme) as page:
        await expect(page.get_by_role("alert")).to_contain_text("The operator is silent")
        await accessible(page, "timeline")
        await page.get_by_role("gridcell", name=FREE.replace("17:00", "18:00").replace("16", "15")).click()
        dialog = page.get_by_role("dialog", name="Book analytics")
        await dialog.get_by_role("textbox", name="To").fill("17.00")
        await expect(dialog.get_by_text("Hint: write 17:00")).to_be_visible()
        await accessible(page, "dialog Book")
        await dialog.get_by_role("button", name="Cancel").click()
        await page.get_by_role("gridcell", name=BAR, exact=True).click()
        await expect(page.get_by_text("booking my-afternoon: active since 13:00")).to_be_visible()
        await accessible(page, "details of a booking")
        await page.keyboard.press("Escape")
        await page.get_by_role("rowheader", name="analytics").click()
        await expect(page.get_by_role("dialog").get_by_text("because").first).to_be_visible()
        await accessible(page, "a resource")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Month").click()
        await expect(page.get_by_role("grid", name="Timeline, Sun 1 Nov to Mon 30 Nov 2026")).to_be_visible()
        await accessible(page, "month")
        await page.get_by_role("button", name="Agenda").click()
        await expect(page.get_by_role("table").first).to_be_visible()
        await accessible(page, "agenda")
        await page.get_by_role("button", name="Usage").click()
        await expect(page.get_by_role("cell", name="809h (72%)").first).to_be_visible()
        await accessible(page, "usage")


async def test_an_empty_page_has_no_accessibility_violation(board: Callable[..., Any]) -> None:
    async with board() as page:
        await expect(page.get_by_text("A ResourceMonitor makes a Resource")).to_be_visible()
        await accessible(page)


async def test_a_slow_answer_is_announced(ada: Person, browser: Browser) -> None:
    ada.apply(ANALYTICS)
    held, asked = list[Route](), asyncio.Event()

    async def hold(route: Route) -> None:
        held.append(route)
        asked.set()

    with serving(ada) as url:
        page = await browser.new_page()
        await page.clock.install()
        await page.route("**/api/timeline*", hold)
        await page.goto(url)
        await asyncio.wait_for(asked.wait(), 20)
        await page.clock.run_for(400)
        await expect(page.get_by_text("Loading")).to_be_visible()
        await accessible(page)
        await page.clock.run_for(10_000)
        await expect(page.get_by_role("alert")).to_contain_text("The answer takes long")
        await held[0].continue_()
        await expect(page.get_by_role("grid")).to_be_visible()
        await expect(page.get_by_role("alert")).to_be_hidden()
        await expect(page.get_by_text("Loading")).to_be_hidden()
        await page.close()


async def test_a_missing_permission_is_named_in_the_dialog(
    devcluster: Playground, tenant: Tenant, tmp_path: Path, browser: Browser
) -> None:
    reader = Person(devcluster, tenant.namespace, "reader", tmp_path, roles=["view"])
    reader.apply(ANALYTICS)
    with serving(reader) as url:
        async with opened_with_errors(browser, url) as page:
            await page.get_by_role("gridcell", name="Free").click()
            dialog = page.get_by_role("dialog", name="Book analytics")
            await dialog.get_by_role("button", name="Book").click()
            said = dialog.get_by_text(f"you may not create bookings in namespace {tenant.namespace}")
            await expect(said).to_be_visible()
            await expect(dialog.get_by_text("role booking-operator-edit")).to_be_visible()


async def test_print_shows_the_agenda(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        await expect(page.get_by_role("grid")).to_be_visible()
        await expect(page.get_by_role("table")).to_be_hidden()
        await expect(page.locator("#print").get_by_text("13:00–17:00")).to_be_attached()
        await page.emulate_media(media="print")
        await expect(page.get_by_role("cell", name="in progress, holds the lock", exact=True)).to_be_visible()
        await expect(page.get_by_role("grid")).to_be_hidden()
        await expect(page.get_by_role("button", name="Week")).to_be_hidden()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()


async def test_forced_colours_keep_the_bars_apart(board: Callable[..., Any]) -> None:
    other = booking_body("other", "analytics", "grace", "13:30", "18:00")
    async with board(ANALYTICS, AFTERNOON, other, forced_colors="active") as page:
        script = "bar => { const s = getComputedStyle(bar); return [s.backgroundColor, s.borderTopColor]; }"
        holder = await page.get_by_role("gridcell", name=BAR, exact=True).evaluate(script)
        second = await page.get_by_role("gridcell", name="other, grace").evaluate(script)
        assert holder[0] != second[0]
        assert second[1] != second[0]
        await accessible(page)


async def test_the_api_server_restarts_under_an_open_page(
    own_devcluster: OwnPlayground, tmp_path: Path, browser: Browser
) -> None:
    own_devcluster.kubectl("create", "namespace", "restarts")
    own_devcluster.kubectl("apply", "-k", str(ROOT / "manifests" / "crds"))
    ada = Person(own_devcluster, "restarts", "ada", tmp_path)
    ada.apply(ANALYTICS)
    with serving(ada) as url:
        async with opened_with_errors(browser, url) as page:
            free = page.get_by_role("gridcell", name="Free, from now on")
            lost = page.get_by_text("The API server does not answer; this is the last known state")
            await expect(free).to_be_visible()
            with apiserver_killed(own_devcluster):
                await expect(lost).to_be_visible(timeout=30_000)
                await free.click()
                dialog = page.get_by_role("dialog", name="Book analytics")
                await dialog.get_by_role("button", name="Book").click()
                await expect(dialog.get_by_text("Error:")).to_be_visible(timeout=30_000)
            await expect(lost).to_be_hidden(timeout=60_000)
            await dialog.get_by_role("button", name="Book").click()
            await expect(dialog).to_be_hidden(timeout=30_000)
            made = page.get_by_role("gridcell", name="ada, Tue 24 Nov 14:03 to 16:03")
            await expect(made).to_be_visible(timeout=30_000)


def test_a_board_without_the_permission_for_all_namespaces(ada: Person) -> None:
    ada.apply(ANALYTICS)
    process = ada.start("board", "--no-browser")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("The board is at ")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    note = f"you may not list resources in all namespaces, so the board shows namespace {ada.namespace} only"
    assert note in said
    assert "Traceback" not in said


async def test_going_back_shows_the_namespace_from_before(
    devcluster: Playground, tenant: Tenant, tmp_path: Path, browser: Browser
) -> None:
    one = Person(devcluster, tenant.namespace, "margaret", tmp_path)
    one.see_all_namespaces()
    second = f"{tenant.namespace}-second"
    devcluster.kubectl("create", "namespace", second)
    other = Person(devcluster, second, "margaret", tmp_path)
    one.apply(ANALYTICS)
    other.apply(resource_body("web", "STOPPED", 0, 1))
    with serving(one) as url:
        async with opened(browser, url) as page:
            await page.goto(f"{url.partition('#')[0]}?ns={tenant.namespace}")
            await page.get_by_role("combobox", name="Namespace").select_option(second)
            await expect(page.get_by_role("rowheader", name="web")).to_be_visible()
            await expect(page.get_by_role("heading", level=1)).to_have_text(f"Bookings in {second}")
            await page.go_back()
            await expect(page.get_by_role("rowheader", name="analytics")).to_be_visible()
            await expect(page.get_by_role("heading", level=1)).to_have_text(f"Bookings in {tenant.namespace}")
            chosen = page.get_by_role("combobox", name="Namespace")
            await expect(chosen).to_have_value(tenant.namespace)
            one.apply(AFTERNOON)  # the stream follows this namespace again
            await expect(page.get_by_role("gridcell", name=BAR, exact=True)).to_be_visible()


async def test_a_refused_namespace_is_not_a_lost_connection(ada: Person, browser: Browser) -> None:
    ada.apply(ANALYTICS)
    with serving(ada, "-n", ada.namespace) as url:
        page = await browser.new_page()
        await page.clock.install()
        await page.goto(f"{url.partition('#')[0]}?ns=elsewhere#{url.partition('#')[2]}")
        said = page.get_by_role("alert")
        await expect(said).to_contain_text(f"This board shows namespace {ada.namespace} only")
        await page.clock.run_for(40_000)
        await expect(said).to_contain_text(f"This board shows namespace {ada.namespace} only")
        await page.close()


async def test_the_focus_returns_to_a_cell_that_was_drawn_again(board: Callable[..., Any]) -> None:
    async with board(ANALYTICS, AFTERNOON) as page:
        await page.get_by_role("gridcell", name=BAR, exact=True).focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="my-afternoon")
        await dialog.get_by_role("button", name="+15 min").click()
        longer = page.get_by_role("gridcell", name="my-afternoon, ada, Tue 24 Nov 13:00 to 17:15")
        await expect(longer).to_be_focused()
