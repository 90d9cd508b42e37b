"""The command `booking-operator board --in-cluster` behind the real oauth2-proxy, in a real browser.

The arguments are those of docs/board.md. In place of an identity provider, a file has the users, whom
oauth2-proxy names in X-Forwarded-User instead of X-Forwarded-Email.
"""

import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from booking_operator.devcluster.playground import Playground
from booking_operator.devcluster.process import ChildProcess
from tests.e2e.conftest import Tenant, until
from tests.e2e.test_board import browser  # noqa: F401 - a fixture
from tests.support import oauth2_proxy
from tests.support.people import resource_body
from tests.support.plugin import Person

pytestmark = [pytest.mark.board, pytest.mark.timeout(1500)]

PASSWORDS = {"hedy": "lamarr", "grete": "hermann"}
"""Each user has one test, which counts the namespaces of the user."""
NAMESPACE_OF_OTHERS = "default"
GROUP = "readers-of-default"
"""A group that may see the bookings of the namespace of others."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def addresses(devcluster: Playground, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Run the board and oauth2-proxy; yield the addresses of oauth2-proxy and of the board behind it."""
    machines, behind, front = free_port(), free_port(), free_port()
    arguments, _ = oauth2_proxy.documented()
    own = {
        "--proxy-bind-address": f"127.0.0.1:{behind}",
        "--user-header": "X-Forwarded-User",
        "--bind-address": f"127.0.0.1:{machines}",
    }
    given = {name: value for name, _, value in (argument.partition("=") for argument in arguments)} | own
    command = [sys.executable, "-m", "booking_operator"]
    command += [f"{name}={value}" if value else name for name, value in given.items()]
    passwords = tmp_path / "htpasswd"
    oauth2_proxy.write_passwords(passwords, **PASSWORDS)
    address, upstream = f"127.0.0.1:{front}", f"http://127.0.0.1:{behind}"
    signing_in = [str(oauth2_proxy.program()), *oauth2_proxy.arguments(address, upstream, passwords)]
    kubeconfig = {"KUBECONFIG": str(devcluster.kubeconfig)}
    board_log, proxy_log = tmp_path / "board.log", tmp_path / "oauth2-proxy.log"
    with (
        ChildProcess("the board", command, board_log, kubeconfig) as board,
        ChildProcess("oauth2-proxy", signing_in, proxy_log, oauth2_proxy.ENVIRON) as signs_in,
    ):
        board.wait_until(lambda: status(f"http://127.0.0.1:{machines}/readyz") == 200, 30)
        signs_in.wait_until(lambda: status(f"http://{address}/ping") == 200, 30)
        yield f"http://{address}", upstream
    assert "/feeds/secret" not in board_log.read_text() + proxy_log.read_text()


@pytest.fixture
def proxy(addresses: tuple[str, str]) -> str:
    """The address of oauth2-proxy."""
    return addresses[0]


def status(url: str, **headers: str) -> int:
    """Send a GET, and return the status of the answer; 0 if there is none."""
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


async def test_a_person_signs_in_and_sees_the_own_namespace(
    devcluster: Playground,
    tenant: Tenant,
    tmp_path: Path,
    proxy: str,
    browser: Browser,  # noqa: F811 - the fixture
) -> None:
    hedy = Person(devcluster, tenant.namespace, "hedy", tmp_path, roles=["view"])  # with no other namespace
    hedy.apply(resource_body("analytics", "RUNNING", 2, 2))
    page = await signed_in(await browser.new_context(), proxy, "hedy")
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Bookings in {tenant.namespace}")
    await expect(page.get_by_role("rowheader", name="analytics, running, 2 of 2")).to_be_visible()
    await expect(page.get_by_role("combobox", name="Namespace").get_by_role("option")).to_have_count(1)
    await page.get_by_role("gridcell", name="Free").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()  # the board in the cluster only reads
    await page.goto(f"{proxy}/?ns={NAMESPACE_OF_OTHERS}")
    said = page.get_by_text(f"You may not list resources in namespace {NAMESPACE_OF_OTHERS}")
    await expect(said).to_be_visible()
    await page.context.close()


async def test_a_person_cannot_add_groups(
    devcluster: Playground,
    tenant: Tenant,
    tmp_path: Path,
    addresses: tuple[str, str],
    browser: Browser,  # noqa: F811 - the fixture
) -> None:
    proxy, board = addresses
    grete = Person(devcluster, tenant.namespace, "grete", tmp_path, roles=["view"])
    grete.apply(resource_body("analytics", "RUNNING", 2, 2))  # the board offers namespaces with Resources
    binding = {
        "metadata": {"name": GROUP},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": GROUP}],
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "booking-operator-view",
        },
    }
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE_OF_OTHERS}/rolebindings"
    grete.administrator.create(path, binding)
    view = f"/api/timeline?ns={NAMESPACE_OF_OTHERS}"
    # The board believes the headers of the proxy, so it is the proxy that must drop those of people.
    # Roles apply soon after they are granted, and the board remembers a refusal for some seconds.
    await until(lambda: status(f"{board}{view}", X_Forwarded_User="grete", X_Forwarded_Groups=GROUP) == 200)
    assert status(f"{board}{view}", X_Forwarded_User="grete") == 403
    context = await browser.new_context(extra_http_headers={"X-Forwarded-Groups": GROUP})
    page = await signed_in(context, proxy, "grete")
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Bookings in {tenant.namespace}")
    assert (await page.request.get(f"{proxy}{view}")).status == 403
    await context.close()


async def signed_in(context: BrowserContext, proxy: str, user: str) -> Page:
    """Sign in, and return the page that oauth2-proxy then shows."""
    page = await context.new_page()
    await page.goto(proxy)
    await page.get_by_label("Username").fill(user)
    await page.get_by_label("Password").fill(PASSWORDS[user])
    await page.get_by_role("button", name="Sign in", exact=True).click()
    return page


def test_nobody_gets_past_the_proxy(proxy: str) -> None:
    assert status(f"{proxy}/api/session") == 401
    forged = {"X_Forwarded_User": "ada", "X_Forwarded_Email": "ada", "X_Forwarded_Groups": "system:masters"}
    assert status(f"{proxy}/api/session", **forged) == 401
    assert status(f"{proxy}/") == 403  # the page to sign in
    # Calendar programs cannot sign in. The board itself answers that this address is unknown.
    assert status(f"{proxy}/feeds/secret.ics") == 404
