"""The board in the cluster: its settings, and the namespaces of its users.

tests/e2e/manifests/test_board.py runs it on a real API server.
"""

import asyncio
from typing import cast

import pytest
from click.testing import CliRunner

from booking_operator.api.kinds import BOOKING, RESOURCE, USAGE
from booking_operator.board.authorization import MAX_REVIEWS, AccessReviews, UserAccess
from booking_operator.board.in_cluster import BoardSettings, BoardSettingsError, serving
from booking_operator.cli.commands import main
from booking_operator.client.cluster import Cluster, UserInfo
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.engine.clock import SystemClock
from booking_operator.observability.bind_address import BindAddress
from tests.support.reviews import Grant, ReviewingCluster
from tests.support.virtual import VirtualClock, run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BoardSettings(), "nobody could sign in; use --tokens, --proxy-bind-address, or --anonymous"),
        (BoardSettings(tokens=True, anonymous=True), "--anonymous excludes --tokens"),
        (BoardSettings(proxy_bind_address=":8081"), "--proxy-bind-address :8081 is not on loopback"),
        (BoardSettings(proxy_bind_address="10.0.0.1:8081"), "use 127.0.0.1:8081"),
        (BoardSettings(proxy_bind_address="proxy:8081"), "is not on loopback"),
    ],
)
def test_unsafe_settings_are_refused(settings: BoardSettings, message: str) -> None:
    with pytest.raises(BoardSettingsError, match=message):
        settings.check()


@pytest.mark.parametrize(
    "settings",
    [
        BoardSettings(tokens=True),
        BoardSettings(anonymous=True),
        BoardSettings(proxy_bind_address="127.0.0.1:8081"),
        BoardSettings(proxy_bind_address="[::1]:8081", tokens=True),
    ],
)
def test_safe_settings_are_accepted(settings: BoardSettings) -> None:
    settings.check()


def test_the_command_needs_its_place() -> None:
    result = CliRunner().invoke(main, ["board"])
    assert result.exit_code == 2
    assert "--in-cluster" in result.output


@pytest.mark.parametrize(("address", "message"), [("0", "must listen"), ("taken", "cannot listen on")])
async def test_an_address_that_cannot_be_used(address: str, message: str) -> None:
    class Silent:
        def list_watch(self, *_: object) -> object:
            return self

        async def list(self, _: str = "") -> object:
            return await asyncio.Event().wait()

    with BindAddress("127.0.0.1", 0).listen() as listening:
        taken = f"127.0.0.1:{listening.getsockname()[1]}"
        settings = BoardSettings(bind_address=taken if address == "taken" else address, anonymous=True)
        with pytest.raises(BoardSettingsError, match=message):
            async with serving(settings, cast("Cluster", Silent()), SystemClock()):
                pass


def access(*grants: Grant) -> tuple[ReviewingCluster, UserAccess]:
    cluster = ReviewingCluster(*grants)
    reviews = AccessReviews(cast("Cluster", cluster), VirtualClock())
    return cluster, UserAccess(reviews, UserInfo("ada", ("team",)))


@pytest.mark.parametrize(
    ("grants", "visible"),
    [
        ([], []),
        ([("ada", "*", "a")], ["a"]),
        ([("team", "*", "b"), ("ada", "bookings", "a")], ["b"]),  # bookings alone are not enough
        ([("ada", "*", "*")], ["a", "b"]),
    ],
)
def test_the_namespaces_that_a_user_sees(grants: list[Grant], visible: list[str]) -> None:
    assert run(access(*grants)[1].visible({"b", "a"})) == visible


def test_a_missing_permission_is_named() -> None:
    async def main() -> None:
        _, user = access(("ada", "resources", "a"), ("ada", "bookings", "a"))
        await user.require("a", RESOURCE, BOOKING)
        with pytest.raises(CommandError, match="you may not list usages in namespace a") as caught:
            await user.require("a", RESOURCE, BOOKING, USAGE)
        assert caught.value.code is ExitCode.FORBIDDEN
        assert caught.value.hint == "ask an administrator for the role booking-operator-view there"

    run(main())


def test_many_namespaces_are_reviewed_a_few_at_a_time() -> None:
    names = {f"team-{number}" for number in range(200)}

    async def main() -> ReviewingCluster:
        cluster, user = access(("ada", "*", "team-7"))
        assert await asyncio.gather(*(user.visible(names) for _ in range(3))) == [["team-7"]] * 3
        return cluster

    cluster = run(main())
    assert cluster.at_once == MAX_REVIEWS
    assert cluster.reviews == 2 * (200 + 1)  # three callers at the same time wait for the same answers


def test_an_answer_is_used_for_ten_seconds() -> None:
    async def main() -> list[int]:
        cluster, user = access(("ada", "*", "a"))
        counts = []
        for seconds in (0, 9, 1):
            await asyncio.sleep(seconds)
            await user.require("a", RESOURCE, BOOKING)
            counts.append(cluster.reviews)
        return counts

    assert run(main()) == [2, 2, 4]
