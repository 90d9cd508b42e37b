"""The board: answers what the page asks for, from objects that are kept up to date.

Each method corresponds to one request. Reads come from the caches. Changes go to the API server with the
permissions of the user, and the page shows them when the watch has reported them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from booking_operator.api.kinds import USAGE, Kind
from booking_operator.api.usage import Usage, month_selector
from booking_operator.board.authorization import SHOWN, UserAccess
from booking_operator.board.requests import (
    Place,
    RequestError,
    WantedBooking,
    group_of,
    month_of,
    needed,
    new_end,
    text_of,
    window_of,
)
from booking_operator.board.view.agenda import Agenda, agenda
from booking_operator.board.view.timeline import Timeline, timeline
from booking_operator.board.view.usage import UsageTable, usage_table
from booking_operator.board.view.window import TimeWindow
from booking_operator.client import bookings, changes
from booking_operator.client.cluster import VIEW_ROLE, Cluster
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.live import LiveObjects
from booking_operator.client.remedies import checked_remedies
from booking_operator.client.usage_report import report
from booking_operator.client.view import ResourceView, View, Viewer
from booking_operator.client.why import Explanation, explain_booking, explain_resource
from booking_operator.domain.booking import BookingInterval
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Key

_UTC = ZoneInfo("UTC")
Query = Mapping[str, str]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BoardUser:
    """The user of a board, and the cluster as the user reaches it.

    Attributes:
        name: the name of the user, as the API server knows it.
        context: the kubeconfig context; empty in a pod.
        namespace: the namespace of the context.
        scope: the only namespace that the board shows; empty for all.
        zone: the time zone, unless the page names another one; None for that of the browser.
        access: the flags with which commands in hints reach the cluster.
        read_only: whether the board changes nothing.
        permissions: what the user may see; None if that is all that the board knows.
    """

    name: str
    context: str
    namespace: str
    scope: str
    zone: ZoneInfo | None
    access: tuple[str, ...] = ()
    read_only: bool = False
    permissions: UserAccess | None = None


class Board:
    """The board as one user sees it.

    Args:
        cluster: the API server.
        live: the Resources and Bookings.
        user: the user.
        clock: the clock.
    """

    def __init__(self, cluster: Cluster, live: LiveObjects, user: BoardUser, clock: Clock) -> None:
        self._cluster = cluster
        self._user = user
        self._clock = clock
        self._live = live

    async def namespace(self, query: Query) -> str:
        """Return the namespace of a query.

        Raises:
            CommandError: the user may not see its bookings.
        """
        place, viewer = self._place(query)
        await self._view(viewer, place.namespace)
        return place.namespace

    async def session(self, _: Query) -> Answer:
        """Return who looks at what."""
        user, namespaces = self._user, await self._namespaces()
        first = namespaces[0] if namespaces else ""
        return {
            "user": user.name,
            "context": user.context,
            "namespace": user.scope or user.namespace or first,
            "namespaces": namespaces,
            "zone": user.zone.key if user.zone else "",
            "zones": sorted(available_timezones()),
            "read_only": user.read_only,
        }

    async def _namespaces(self) -> list[str]:
        """Return the namespaces that the user may choose from."""
        user = self._user
        found = {item.metadata.namespace for item in self._live.informers.resources.objects()}
        found = {user.scope} if user.scope else found | ({user.namespace} - {""})
        return sorted(found) if user.permissions is None else await user.permissions.visible(found)

    async def timeline(self, query: Query) -> Answer:
        """Return the view Timeline."""
        place, viewer = self._place(query)
        window = window_of(query, viewer.zone, viewer.now)
        view = await self._view(viewer, place.namespace)
        found = timeline(view, window, viewer, namespace=place.namespace, words=place.words)
        return _fields_of(found) | _range(window) | self._status(view, place)

    async def agenda(self, query: Query) -> Answer:
        """Return the view Agenda."""
        place, viewer = self._place(query)
        window = window_of(query, viewer.zone, viewer.now)
        view = await self._view(viewer, place.namespace)
        found = agenda(view, window, viewer, namespace=place.namespace, words=place.words)
        return _fields_of(found) | _range(window) | self._status(view, place)

    async def explain(self, query: Query) -> Answer:
        """Explain a Booking or a Resource, as `kubectl booking why` does."""
        viewer, namespace = self._place(query)[1], needed(query, "namespace")
        explanation = _explanation(await self._view(viewer, namespace), namespace, query, viewer)
        explanation = await checked_remedies(self._user.permissions or self._cluster, explanation)
        return {
            "subject": explanation.subject,
            "state": explanation.state,
            "as_booked": explanation.as_booked,
            "because": list(explanation.because),
            "but": list(explanation.but),
            "next": explanation.next,
            "do": [remedy.text for remedy in explanation.do],
        }

    async def preview(self, query: Query) -> Answer:
        """Describe a booking before it is made, as `kubectl booking book` does.

        A field that is wrong is part of the answer, because people see it while they type.
        """
        try:
            _, viewer = self._place(query)
            wanted = WantedBooking.of(query, viewer.zone, viewer.now)
        except RequestError as error:
            return {"lines": [], "error": str(error), "hint": error.hint, "field": error.field}
        view = await self._resource(wanted, viewer)
        return {"lines": bookings.preview(view, _interval(wanted, viewer), viewer)}

    async def book(self, values: Mapping[str, Any]) -> Answer:
        """Make a booking."""
        viewer = self._writer(values)
        wanted = WantedBooking.of(values, viewer.zone, viewer.now)
        view = await self._resource(wanted, viewer)
        interval, _ = await changes.make_booking(self._cluster, view, _interval(wanted, viewer), viewer)
        return {"booking": interval.name, "text": f"{interval.name} created"}

    async def extend(self, values: Mapping[str, Any]) -> Answer:
        """Set a later end of a booking."""
        viewer = self._writer(values)
        found = await self._target(values, viewer)
        end = new_end(values, found.interval.end_at, viewer.zone, viewer.now)
        return _done(await changes.extend_booking(self._cluster, found, end, viewer))

    async def release(self, values: Mapping[str, Any]) -> Answer:
        """End a booking now, or delete it if it has not begun."""
        viewer = self._writer(values)
        found = await self._target(values, viewer)
        return _done(await changes.release_booking(self._cluster, found, viewer))

    async def usage(self, query: Query) -> Answer:
        """Return the view Usage: the report of a month."""
        place, viewer = self._place(query)
        month, group_by = month_of(query, viewer.now), group_of(query)
        view = await self._view(viewer, place.namespace, USAGE)
        objects: Sequence[Usage] = await self._cluster.list_objects(
            USAGE, place.namespace, month_selector(month)
        )
        found = usage_table(report(objects, group_by), month, viewer)
        return _fields_of(found) | self._status(view, place)

    def _place(self, query: Query) -> tuple[Place, Viewer]:
        user = self._user
        place = Place.of(query, user.scope or user.namespace, user.zone or _UTC)
        if user.scope and place.namespace != user.scope:
            text = f"this board shows namespace {user.scope} only"
            raise CommandError(text, hint=f"choose namespace {user.scope}", code=ExitCode.FORBIDDEN)
        return place, Viewer(user.name, self._clock.now(), place.zone, user.namespace, user.access)

    def _writer(self, values: Mapping[str, Any]) -> Viewer:
        return self._place({"tz": text_of(values, "tz")})[1]

    async def _view(self, viewer: Viewer, namespace: str, *more: Kind[Any]) -> View:
        """Return the objects, of which the caller shows only those of a namespace.

        Raises:
            CommandError: the user may not list the bookings of the namespace, or `more` kinds of objects.
        """
        if self._user.permissions is not None:
            if not namespace:
                text = "you may not list bookings in any namespace"
                hint = f"ask an administrator for the role {VIEW_ROLE} in your namespace"
                raise CommandError(text, hint=hint, code=ExitCode.FORBIDDEN)
            await self._user.permissions.require(namespace, *SHOWN, *more)
        return View(self._live.informers, viewer.now)

    def _status(self, view: View, place: Place) -> Answer:
        """Return what each view has: its version, and whether the API server answers."""
        return {
            "version": self._live.changes.number(place.namespace),
            "disconnected": self._live.disconnected,
            "silent": [
                item.name
                for item in view.resources()
                if item.namespace == place.namespace and item.silent_since is not None
            ],
        }

    async def _resource(self, wanted: WantedBooking, viewer: Viewer) -> ResourceView:
        return _resource(await self._view(viewer, wanted.namespace), wanted.namespace, wanted.resource)

    async def _target(self, values: Mapping[str, Any], viewer: Viewer) -> bookings.BookingTarget:
        key = Key(needed(values, "namespace"), needed(values, "booking"))
        view = await self._view(viewer, key.namespace)
        booking = view.booking(key)
        if booking is None:
            text = f"there is no booking {key.name} in {key.namespace}"
            raise CommandError(text, hint="somebody may have deleted it", code=ExitCode.NOT_FOUND)
        return changes.target_of(booking, view.resource(Key(key.namespace, booking.resource_name)), viewer)


def seconds_to_boundary(live: LiveObjects, now: datetime, namespace: str) -> float:
    """Return the time until a booking of a namespace next begins or ends, warm-up included; at most a minute.

    The view then changes without a change of an object.
    """
    views = (item for item in View(live.informers, now).resources() if item.namespace == namespace)
    states = (item.state.next_at for item in views)
    return min([60.0, *((at - now).total_seconds() for at in states if at is not None and at > now)])


def _resource(view: View, namespace: str, name: str) -> ResourceView:
    found = view.resource(Key(namespace, name))
    if found is None:
        raise CommandError(f"there is no resource {name} in {namespace}", code=ExitCode.NOT_FOUND)
    return found


def _explanation(view: View, namespace: str, query: Query, viewer: Viewer) -> Explanation:
    if name := query.get("resource", ""):
        return explain_resource(_resource(view, namespace, name), viewer)
    key = Key(namespace, needed(query, "booking"))
    booking = view.booking(key)
    if booking is None:
        raise CommandError(f"there is no booking {key.name} in {namespace}", code=ExitCode.NOT_FOUND)
    resource = view.resource(Key(namespace, booking.resource_name))
    names = [item.name for item in view.resources() if item.namespace == namespace]
    return explain_booking(booking, resource, viewer, names)


def _fields_of(view: Timeline | Agenda | UsageTable) -> Answer:
    """Return the fields of a view. The server writes the objects in them as JSON."""
    return {field.name: getattr(view, field.name) for field in fields(view)}


def _interval(wanted: WantedBooking, viewer: Viewer) -> BookingInterval:
    start, end = bookings.whole_second(wanted.start), bookings.whole_second(wanted.end)
    return BookingInterval("", wanted.user or viewer.user, start, end, viewer.now)


def _range(window: TimeWindow) -> Answer:
    """Return the time range in words, and the first days of those beside it."""
    return {"range": window.title, "previous": str(window.previous), "next": str(window.end_day)}


def _done(change: changes.BookingChange) -> Answer:
    return {"text": change.text, "warning": change.warning}
