"""The board as a Deployment in the cluster: for many users, who come through a proxy or with a token."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from socket import socket
from typing import Any

import structlog

from booking_operator.api.kinds import BOOKING, CALENDAR_FEED, RESOURCE, Kind
from booking_operator.board.access import Authenticate, InClusterAccess
from booking_operator.board.authentication import ProxyHeaders, TokenReviewer, bearer_token
from booking_operator.board.authorization import AccessReviews, UserAccess
from booking_operator.board.board import Board, BoardUser
from booking_operator.board.feeds import Feeds, feed_store
from booking_operator.board.server import BoardServer
from booking_operator.client.cluster import Cluster, Impersonation, UserInfo
from booking_operator.client.live import LiveObjects, followed
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Store
from booking_operator.errors import UserError
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.observability.bind_address import BindAddress
from booking_operator.reconcilers.informers import Informers

USER_AGENT = "booking-operator-board"
ANONYMOUS = UserInfo("anonymous")


class BoardSettingsError(UserError):
    """The settings of the board are wrong. The message names the option, its value and the fix."""


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """The settings of a board in the cluster.

    Attributes:
        bind_address: where to serve the page, the calendar feeds and the probes.
        proxy_bind_address: where to serve the page to an authenticating proxy in the same pod; `0` for no
            proxy. It must be a loopback address, because the board believes the headers of requests there.
        proxy_headers: the headers in which the proxy names the user.
        tokens: whether users may come with a bearer token of the cluster.
        anonymous: whether everybody may see all bookings.
        namespace: the only namespace that the board shows; empty for all.
        external_url: the address at which people reach the board; empty if it is unknown.
        cluster_name: the name of the cluster in the header of the page.
        kubeconfig: the path of the kubeconfig; None for the ServiceAccount of the pod.
        context: the kubeconfig context; None for the present one.
    """

    bind_address: str = ":8080"
    proxy_bind_address: str = "0"
    proxy_headers: ProxyHeaders = field(default_factory=ProxyHeaders)
    tokens: bool = False
    anonymous: bool = False
    namespace: str = ""
    external_url: str = ""
    cluster_name: str = ""
    kubeconfig: str | None = None
    context: str | None = None

    def check(self) -> None:
        """Check the settings.

        Raises:
            BoardSettingsError: nobody could sign in, or a setting is wrong.
        """
        proxy = BindAddress.parse(self.proxy_bind_address)
        known = self.tokens or proxy is not None
        if not known and not self.anonymous:
            raise BoardSettingsError(
                "nobody could sign in; use --tokens, --proxy-bind-address, or --anonymous to show all "
                "bookings to everybody who reaches the board"
            )
        if known and self.anonymous:
            raise BoardSettingsError("--anonymous excludes --tokens and --proxy-bind-address; use only one")
        if proxy is not None and not _is_loopback(proxy.host):
            raise BoardSettingsError(
                f"--proxy-bind-address {self.proxy_bind_address} is not on loopback; use 127.0.0.1:8081, "
                "because the board believes the headers of requests there"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def run(settings: BoardSettings, clock: Clock, stopping: asyncio.Event) -> None:
    """Serve the board until `stopping` is set.

    Raises:
        UserError: a setting is wrong, an address is in use, or there is no usable kubeconfig.
    """
    settings.check()
    config = ClusterConfig(settings.kubeconfig, settings.context)
    async with (
        Cluster.connect(config, clock, Impersonation(), USER_AGENT) as cluster,
        serving(settings, cluster, clock),
    ):
        await stopping.wait()


@asynccontextmanager
async def serving(settings: BoardSettings, cluster: Cluster, clock: Clock) -> AsyncIterator[list[int]]:
    """Serve the board for the length of the context.

    Yields:
        The ports: that of `bind_address`, and with a proxy that of `proxy_bind_address`.

    Raises:
        BoardSettingsError: an address is in use.
    """
    informers, feeds = Informers(default_region=""), feed_store()
    stores: dict[Kind[Any], Store[Any]] = {
        RESOURCE: informers.resources,
        BOOKING: informers.bookings,
        CALENDAR_FEED: feeds,
    }
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(followed(cluster, settings.namespace, informers, stores))
        calendars = Feeds(cluster, feeds, clock, settings.external_url)
        server, boards = BoardServer(live, clock, calendars), _Boards(settings, cluster, live, clock)
        log, ports = structlog.get_logger(), []
        for option, address, authenticate in _doors(settings, TokenReviewer(cluster, clock)):
            listening = _listen(option, address)
            access = InClusterAccess(authenticate, boards.of)
            await stack.enter_async_context(server.serve(listening, access))
            host, port = listening.getsockname()[:2]
            log.info("board_started", address=str(BindAddress(host, port)), port=port)
            ports.append(port)
        if settings.anonymous:
            log.warning("board_is_anonymous", hint="everybody who reaches it sees all bookings")
        yield ports


def _listen(option: str, address: str) -> socket:
    bind = BindAddress.parse(address)
    if bind is None:
        raise BoardSettingsError(f"{option} 0: the board must listen; use an address like :8080")
    try:
        return bind.listen()
    except OSError as error:
        text = f"{option}: cannot listen on {address}: {error.strerror}; use another address"
        raise BoardSettingsError(text) from error


def _doors(settings: BoardSettings, reviewer: TokenReviewer) -> list[tuple[str, str, Authenticate]]:
    """Return the addresses to listen on: the option, the address, and how users are authenticated there."""

    async def by_token(headers: Mapping[str, str]) -> UserInfo | None:
        if settings.anonymous:
            return ANONYMOUS
        token = bearer_token(headers)
        return await reviewer.user_of(token) if token and settings.tokens else None

    async def by_proxy(headers: Mapping[str, str]) -> UserInfo | None:
        return settings.proxy_headers.user_of(headers)

    doors: list[tuple[str, str, Authenticate]] = [("--bind-address", settings.bind_address, by_token)]
    if BindAddress.parse(settings.proxy_bind_address) is not None:
        doors.append(("--proxy-bind-address", settings.proxy_bind_address, by_proxy))
    return doors


class _Boards:
    """Makes the board of each user."""

    def __init__(self, settings: BoardSettings, cluster: Cluster, live: LiveObjects, clock: Clock) -> None:
        self._settings = settings
        self._cluster = cluster
        self._live = live
        self._clock = clock
        self._reviews = AccessReviews(cluster, clock)

    def of(self, user: UserInfo) -> Board:
        """Return the board of a user."""
        shown = BoardUser(
            name=user.name,
            context=self._settings.cluster_name,
            namespace="",
            scope=self._settings.namespace,
            zone=None,
            read_only=True,
            permissions=None if self._settings.anonymous else UserAccess(self._reviews, user),
        )
        return Board(self._cluster, self._live, shown, self._clock)
