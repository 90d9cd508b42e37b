"""The board: answers what the page asks for, from objects that are kept up to date.

Each method corresponds to one request. Reads come from the caches. Changes go to the API server with the
permissions of the user, and the page shows them when the watch has reported them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from booking_operator.api.kinds import USAGE
from booking_operator.api.usage import Usage, month_selector
from booking_operator.board.requests import (
    Place,
    RequestError,
    WantedBooking,
    needed,
    new_end,
    text_of,
    window_of,
)
from booking_operator.board.view.agenda import agenda
from booking_operator.board.view.timeline import timeline
from booking_operator.board.view.usage import usage_table
from booking_operator.board.view.window import TimeWindow
from booking_operator.client import bookings, changes
from booking_operator.client.cluster import Cluster
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.live import LiveObjects
from booking_operator.client.remedies import checked_remedies
from booking_operator.client.usage_report import GroupBy, report
from booking_operator.client.view import ResourceView, View, Viewer
from booking_operator.client.why import Explanation, explain_booking, explain_resource
from booking_operator.domain.booking import BookingInterval
from booking_operator.engine.clock import Clock
from booking_operator.engine.store import Key

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
        zone: the time zone, unless the page names another one.
        access: the flags with which commands in hints reach the cluster.
        read_only: whether the board changes nothing.
    """

    name: str
    context: str
    namespace: str
    scope: str
    zone: ZoneInfo
    access: tuple[str, ...] = ()
    read_only: bool = False


class Board:
    """One board for one user.

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
        self.live = live

    def seconds_to_boundary(self) -> float:
        """Return the time until a booking next begins or ends, warm-up included; at most a minute.

        The view then changes without a change of an object.
        """
        now = self._clock.now()
        states = (item.state.next_at for item in View(self.live.informers, now).resources())
        return min([60.0, *((at - now).total_seconds() for at in states if at is not None and at > now)])

    def session(self) -> Answer:
        """Return who looks at what."""
        user = self._user
        found = {item.metadata.namespace for item in self.live.informers.resources.objects()}
        return {
            "user": user.name,
            "context": user.context,
            "namespace": user.scope or user.namespace,
            "namespaces": [user.scope] if user.scope else sorted(found | {user.namespace}),
            "zone": user.zone.key,
            "zones": sorted(available_timezones()),
            "read_only": user.read_only,
        }

    def timeline(self, query: Query) -> Answer:
        """Return the view Timeline."""
        place, viewer = self._place(query)
        window = window_of(query, viewer.zone, viewer.now)
        found = timeline(self._view(viewer), window, viewer, namespace=place.namespace, words=place.words)
        return asdict(found) | _range(window) | self._status(place, viewer)

    def agenda(self, query: Query) -> Answer:
        """Return the view Agenda."""
        place, viewer = self._place(query)
        window = window_of(query, viewer.zone, viewer.now)
        found = agenda(self._view(viewer), window, viewer, namespace=place.namespace, words=place.words)
        return asdict(found) | _range(window) | self._status(place, viewer)

    async def explain(self, query: Query) -> Answer:
        """Explain a Booking or a Resource, as `kubectl booking why` does."""
        _, viewer = self._place(query)
        explanation = await checked_remedies(self._cluster, self._explanation(query, viewer))
        return {
            "subject": explanation.subject,
            "state": explanation.state,
            "as_booked": explanation.as_booked,
            "because": list(explanation.because),
            "but": list(explanation.but),
            "next": explanation.next,
            "do": [remedy.text for remedy in explanation.do],
        }

    def preview(self, query: Query) -> Answer:
        """Describe a booking before it is made, as `kubectl booking book` does.

        A field that is wrong is part of the answer, because people see it while they type.
        """
        try:
            _, viewer = self._place(query)
            wanted = WantedBooking.of(query, viewer.zone, viewer.now)
        except RequestError as error:
            return {"lines": [], "error": str(error), "hint": error.hint, "field": error.field}
        view = self._resource(self._view(viewer), wanted.namespace, wanted.resource)
        interval = _interval(wanted, viewer)
        return {"lines": bookings.preview(view, interval, viewer)}

    async def book(self, values: Mapping[str, Any]) -> Answer:
        """Make a booking."""
        viewer = self._writer(values)
        wanted = WantedBooking.of(values, viewer.zone, viewer.now)
        view = self._resource(self._view(viewer), wanted.namespace, wanted.resource)
        interval, _ = await changes.make_booking(self._cluster, view, _interval(wanted, viewer), viewer)
        return {"booking": interval.name, "text": f"{interval.name} created"}

    async def extend(self, values: Mapping[str, Any]) -> Answer:
        """Set a later end of a booking."""
        viewer = self._writer(values)
        found = self._target(values, viewer)
        end = new_end(values, found.interval.end_at, viewer.zone, viewer.now)
        return _done(await changes.extend_booking(self._cluster, found, end, viewer))

    async def release(self, values: Mapping[str, Any]) -> Answer:
        """End a booking now, or delete it if it has not begun."""
        viewer = self._writer(values)
        return _done(await changes.release_booking(self._cluster, self._target(values, viewer), viewer))

    async def usage(self, query: Query) -> Answer:
        """Return the view Usage: the report of a month."""
        place, viewer = self._place(query)
        month = f"{viewer.now:%Y-%m}"
        objects: Sequence[Usage] = await self._cluster.list_objects(
            USAGE, place.namespace, month_selector(month)
        )
        found = usage_table(report(objects, GroupBy.RESOURCE), month)
        return asdict(found) | self._status(place, viewer)

    def _place(self, query: Query) -> tuple[Place, Viewer]:
        place, user = Place.of(query, self._user.scope or self._user.namespace, self._user.zone), self._user
        return place, Viewer(user.name, self._clock.now(), place.zone, user.namespace, user.access)

    def _writer(self, values: Mapping[str, Any]) -> Viewer:
        return self._place({"tz": text_of(values, "tz")})[1]

    def _view(self, viewer: Viewer) -> View:
        return View(self.live.informers, viewer.now)

    def _status(self, place: Place, viewer: Viewer) -> Answer:
        """Return what each view has: its version, and whether the API server answers."""
        return {
            "version": self.live.changes.number,
            "disconnected": self.live.disconnected,
            "silent": [
                item.name
                for item in self._view(viewer).resources()
                if item.namespace == place.namespace and item.silent_since is not None
            ],
        }

    @staticmethod
    def _resource(view: View, namespace: str, name: str) -> ResourceView:
        found = view.resource(Key(namespace, name))
        if found is None:
            raise CommandError(f"there is no resource {name} in {namespace}", code=ExitCode.NOT_FOUND)
        return found

    def _target(self, values: Mapping[str, Any], viewer: Viewer) -> bookings.BookingTarget:
        view, key = self._view(viewer), Key(needed(values, "namespace"), needed(values, "booking"))
        booking = view.booking(key)
        if booking is None:
            text = f"there is no booking {key.name} in {key.namespace}"
            raise CommandError(text, hint="somebody may have deleted it", code=ExitCode.NOT_FOUND)
        return changes.target_of(booking, view.resource(Key(key.namespace, booking.resource_name)), viewer)

    def _explanation(self, query: Query, viewer: Viewer) -> Explanation:
        view, namespace = self._view(viewer), needed(query, "namespace")
        if name := query.get("resource", ""):
            return explain_resource(self._resource(view, namespace, name), viewer)
        key = Key(namespace, needed(query, "booking"))
        booking = view.booking(key)
        if booking is None:
            raise CommandError(f"there is no booking {key.name} in {namespace}", code=ExitCode.NOT_FOUND)
        resource = view.resource(Key(namespace, booking.resource_name))
        names = [item.name for item in view.resources() if item.namespace == namespace]
        return explain_booking(booking, resource, viewer, names)


def _interval(wanted: WantedBooking, viewer: Viewer) -> BookingInterval:
    start, end = bookings.whole_second(wanted.start), bookings.whole_second(wanted.end)
    return BookingInterval("", wanted.user or viewer.user, start, end, viewer.now)


def _range(window: TimeWindow) -> Answer:
    """Return the time range in words, and the first days of those beside it."""
    return {"range": window.title, "previous": str(window.previous), "next": str(window.end_day)}


def _done(change: changes.BookingChange) -> Answer:
    return {"text": change.text, "warning": change.warning}
