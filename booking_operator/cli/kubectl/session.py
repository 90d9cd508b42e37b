"""What the commands of the plugin share while they run: the cluster, the clock, the viewer, the console."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.api.resource import Resource
from booking_operator.cli.kubectl.console import Console
from booking_operator.cli.kubectl.options import Options, frozen_now, time_zone
from booking_operator.client.cluster import Cluster, Impersonation
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.live import LiveObjects, live_objects, together
from booking_operator.client.object_names import NamedObject
from booking_operator.client.view import ResourceView, View, Viewer
from booking_operator.engine.clock import Clock, SystemClock
from booking_operator.engine.store import Key
from booking_operator.kube.kubeconfig import ClusterConfig

_MAX_SUGGESTIONS = 3


class FrozenClock(SystemClock):
    """A clock whose wall-clock time stands still, for BOOKING_NOW."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """The frozen instant, aware UTC."""
        return self._now


def command_clock(console: Console) -> Clock:
    """Return the clock of a command: that of the machine, or the frozen one of BOOKING_NOW."""
    frozen = frozen_now()
    if frozen is None:
        return SystemClock()
    console.note(f"warning: BOOKING_NOW is set, so the time is {frozen.isoformat()}")
    return FrozenClock(frozen)


@dataclass
class Session:
    """One command that uses the cluster.

    Attributes:
        options: the shared options.
        console: the terminal.
        clock: the clock.
        zone: the time zone of the user.
        cluster: the API server.
        context: the name of the kubeconfig context; empty in a pod.
        default_namespace: the namespace of the context.
    """

    options: Options
    console: Console
    clock: Clock
    zone: ZoneInfo
    cluster: Cluster
    context: str
    default_namespace: str
    _user: str = field(default="", init=False)

    @property
    def namespace(self) -> str:
        """The namespace of the command; empty for all namespaces."""
        return "" if self.options.all_namespaces else self.options.namespace or self.default_namespace

    async def user(self) -> str:
        """Return the name of the user, as the API server knows it."""
        if not self._user:
            self._user = (await self.cluster.user()).name
        return self._user

    async def viewer(self) -> Viewer:
        """Return the user as the viewer, at the present instant."""
        return self.viewer_named(await self.user())

    def viewer_named(self, user: str) -> Viewer:
        """Return a viewer at the present instant. An empty name is for texts that address nobody."""
        access = self.options.access
        return Viewer(user, self.clock.now(), self.zone, self.default_namespace, access)

    async def view(self, region: str = "") -> View:
        """Return all Resources and Bookings of the namespace. `region` is that of Resources without one."""
        resources, bookings = await together(
            self.cluster.list_objects(RESOURCE, self.namespace),
            self.cluster.list_objects(BOOKING, self.namespace),
        )
        return View.of(resources, bookings, self.clock.now(), region)

    async def view_of(self, resource: str) -> tuple[View, ResourceView]:
        """Return one Resource with its Bookings.

        Raises:
            CommandError: the Resource does not exist. The hint has the closest names.
        """
        found, bookings = await together(
            self.cluster.get(RESOURCE, self.namespace, resource), self._bookings_of(resource)
        )
        view = View.of([] if found is None else [found], bookings, self.clock.now())
        shown = view.resource(Key(self.namespace, resource))
        if shown is None:
            raise await self.unknown(RESOURCE, resource)
        return view, shown

    async def resources(self, resource: str) -> list[ResourceView]:
        """Return all Resources; only those with a name if `resource` is not empty.

        Raises:
            CommandError: no Resource has the name. The hint has the closest names.
        """
        if resource and self.namespace:
            return [(await self.view_of(resource))[1]]
        found = (await self.view()).resources()
        if not resource:
            return found
        named = [view for view in found if view.name == resource]
        if not named:
            raise self.unknown_among(RESOURCE, resource, [view.name for view in found])
        return named

    def live(self, *kinds: Kind[Any]) -> AbstractAsyncContextManager[LiveObjects]:
        """Keep some kinds of the namespace up to date."""
        return live_objects(self.cluster, self.namespace, *kinds)

    async def _bookings_of(self, resource: str) -> list[Booking]:
        selector = (("fieldSelector", f"spec.resource_name={resource}"),)
        return await self.cluster.list_objects(BOOKING, self.namespace, selector)

    def resolve(self, view: View, target: NamedObject) -> tuple[ResourceView | None, Booking | None]:
        """Return the Resource or the Booking that a target names. One of them is None.

        Raises:
            CommandError: there is neither, or there are both.
        """
        key = Key(self.namespace, target.name)
        resource = view.resource(key) if target.kind is not BOOKING else None
        booking = view.booking(key) if target.kind is not RESOURCE else None
        if resource is not None and booking is not None:
            text, hint = f'"{target.name}" is a resource and a booking', f"write resource/{target.name}"
            hint = f"{hint} or booking/{target.name}"
            raise CommandError(text, hint=hint, code=ExitCode.USAGE)
        if resource is None and booking is None:
            resources = [item.name for item in view.resources()] if target.kind is not BOOKING else []
            bookings = [item.metadata.name for item in view.bookings()] if target.kind is not RESOURCE else []
            word = target.kind.name.lower() if target.kind else "resource and no booking"
            raise self.unknown_among(target.kind or RESOURCE, target.name, [*resources, *bookings], word)
        return resource, booking

    async def unknown(self, kind: Kind[Any], name: str) -> CommandError:
        """Return the error for an object that does not exist, with the closest names."""
        objects: Sequence[Resource | Booking] = await self.cluster.list_objects(kind, self.namespace)
        return self.unknown_among(kind, name, [item.metadata.name for item in objects])

    def unknown_among(self, kind: Kind[Any], name: str, names: Sequence[str], word: str = "") -> CommandError:
        """Return the error for a name that no object has. `word` replaces the name of the kind."""
        place = f"namespace {self.namespace}" if self.namespace else "all namespaces"
        text = f"there is no {word or kind.name.lower()} {name} in {place}"
        close = get_close_matches(name, names, n=_MAX_SUGGESTIONS)
        more = len(names) - _MAX_SUGGESTIONS
        if close:
            hint = f"did you mean {' or '.join(close)}?"
        elif names:
            hint = f"there are {', '.join(names[:_MAX_SUGGESTIONS])}" + (
                f" and {more} more" if more > 0 else ""
            )
        else:
            hint = f"the namespace has no {kind.plural}; name another one with -n"
        return CommandError(text, hint=hint, code=ExitCode.NOT_FOUND)


@asynccontextmanager
async def open_session(options: Options, console: Console) -> AsyncIterator[Session]:
    """Connect to the cluster of the kubeconfig.

    Raises:
        ConfigError: there is no usable kubeconfig.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    config = ClusterConfig(options.kubeconfig, options.context)
    clock, impersonation = (
        command_clock(console),
        Impersonation(options.impersonate, options.impersonate_groups),
    )
    async with Cluster.connect(config, SystemClock(), impersonation) as cluster:
        yield Session(
            options,
            console,
            clock,
            time_zone(options.tz),
            cluster,
            config.context_name(),
            config.context_namespace(),
        )
