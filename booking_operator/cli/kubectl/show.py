"""The commands that show something: `status`, `list` and `why`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, NoReturn

from booking_operator.api.booking import Booking, BookingSpec
from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.cli.kubectl.console import Console, Styled, Text
from booking_operator.cli.kubectl.options import ListRequest, Options
from booking_operator.cli.kubectl.output import Table, emit, full_name, print_document
from booking_operator.cli.kubectl.session import Session, open_session
from booking_operator.client.errors import ExitCode
from booking_operator.client.live import together
from booking_operator.client.object_names import NamedObject, parse_object_name
from booking_operator.client.remedies import checked_remedies
from booking_operator.client.view import ResourceView, View, Viewer, booking_problem, is_finished, phase_of
from booking_operator.client.why import Explanation, explain_booking, explain_resource
from booking_operator.domain.booking import Phase
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.local_time import format_relative, utc_offset, zone_abbreviation
from booking_operator.engine.store import Key, key_of

_POWER_STYLES = {"RUNNING": "green", "STOPPED": "dim", "PENDING": "yellow"}
_PHASE_STYLES = {Phase.CONFLICT: "red", Phase.IN_PROGRESS: "green", Phase.FINISHED: "dim", "INVALID": "red"}


def resource_name(text: str) -> str:
    """Return the name of a Resource that a user typed; empty if it is left out."""
    return parse_object_name(text, RESOURCE).name if text else ""


# status


async def status(options: Options, console: Console, *, resource: str) -> int:
    """Show the Resources."""
    name = resource_name(resource)
    async with open_session(options, console) as session:
        shown, viewer = await session.resources(name), session.viewer_named("")
        if not shown and options.output in {"table", "wide"}:
            console.note(nothing_here(session, RESOURCE))
            return ExitCode.DONE
        table = Table(
            RESOURCE,
            ("NAMESPACE", "RESOURCE", "STATE", "BOOKED BY", "UNTIL", "NEXT CHANGE", "NOTE", "TYPE", "TAG"),
            [_status_row(item, viewer) for item in shown],
            _STATUS_FIELDS,
            [_status_record(item) for item in shown],
            wide=2,
            namespaced=options.all_namespaces,
        )
        emit(console, options.output, table)
        if options.output in {"table", "wide"}:
            console.note(footer(session))
    return ExitCode.DONE


def nothing_here(session: Session, kind: Kind[Any]) -> str:
    """Return the note for an empty namespace."""
    if not session.namespace:
        return f"No {kind.plural} found."
    return f"No {kind.plural} found in namespace {session.namespace}. Use -A to see all namespaces."


def footer(session: Session) -> str:
    """Return the note below a table: the time zone, the namespace and the context."""
    local = session.clock.now().astimezone(session.zone)
    name, offset = zone_abbreviation(local), utc_offset(local)
    zone = f"{session.zone.key} ({name}, {offset})" if name != offset else f"{session.zone.key} ({offset})"
    place = f"namespace {session.namespace}" if session.namespace else "all namespaces"
    context = f", context {session.context}" if session.context else ""
    return f"Times in {zone}; {place}{context}"


def _status_row(view: ResourceView, viewer: Viewer) -> list[Text]:
    holder, note = view.state.holder, view.note
    others = f" (+{len(view.active) - 1})" if len(view.active) > 1 else ""
    spec = view.spec
    return [
        view.resource.metadata.namespace,
        view.name,
        Styled(f"{view.power} {view.counts}", _POWER_STYLES.get(view.power, "")),
        f"{holder.user_id}{others}" if holder else "-",
        format_relative(holder.end_at, viewer.now, viewer.zone) if holder else "-",
        next_change(view, viewer),
        Styled(note, "red"),
        spec.type if spec else "",
        spec.tag if spec else "",
    ]


def next_change(view: ResourceView, viewer: Viewer) -> str:
    """Return what happens to the instances next, and when; `-` for nothing."""
    change, wanted = view.next_change, view.state.running_wanted
    # What does not run although it is booked does not stop at the end either.
    if (
        change is None
        or view.suspended
        or (wanted and view.failure is not None and not view.resource.status.running)
    ):
        return "-"
    at, starts = change
    return f"{'starts' if starts else 'stops'} {format_relative(at, viewer.now, viewer.zone)}"


_STATUS_FIELDS = (
    "namespace",
    "name",
    "type",
    "tag",
    "state",
    "running",
    "instances",
    "booked_by",
    "booking",
    "other_bookings",
    "booked_until",
    "next_change",
    "next_change_at",
    "as_booked",
    "note",
)


def _status_record(view: ResourceView) -> dict[str, Any]:
    holder, reported, change = view.state.holder, view.resource.status, view.next_change
    spec = view.spec
    return {
        "namespace": view.resource.metadata.namespace,
        "name": view.name,
        "type": spec.type if spec else None,
        "tag": spec.tag if spec else None,
        "state": view.power,
        "running": reported.running,
        "instances": reported.instances,
        "booked_by": holder.user_id if holder else None,
        "booking": (holder.name or None) if holder else None,
        "other_bookings": max(0, len(view.active) - 1),
        "booked_until": format_utc(holder.end_at) if holder else None,
        "next_change": ("start" if change[1] else "stop") if change else None,
        "next_change_at": format_utc(change[0]) if change else None,
        "as_booked": view.as_booked,
        "note": view.note or None,
    }


# list


async def list_bookings(options: Options, console: Console, *, request: ListRequest) -> int:
    """List the Bookings that the options select."""
    name = resource_name(request.resource)
    async with open_session(options, console) as session:
        user = await session.user() if request.mine else ""
        selection = Selection(replace(request, resource=name), user)
        if request.watch:
            await _watch(session, selection)
        view = await session.view()
        shown = selection.of(view)
        if name and not shown and all(item.name != name for item in view.resources()):
            raise session.unknown_among(RESOURCE, name, [item.name for item in view.resources()])
        if not shown and options.output in {"table", "wide"}:
            console.note(nothing_here(session, BOOKING))
            return ExitCode.DONE
        emit(console, options.output, _bookings_table(session, shown))
        if options.output in {"table", "wide"}:
            console.note(footer(session))
    return ExitCode.DONE


async def _watch(session: Session, selection: "Selection") -> NoReturn:
    """Print the selected Bookings, and then each change of one, until the user interrupts it."""
    output, printed, widths = session.options.output, dict[Key, Sequence[Text]](), list[int]()
    async with session.live(BOOKING) as live:
        while True:
            known, now = live.changes.number(), session.clock.now()
            view = View(live.informers, now)
            table = _bookings_table(
                session,
                [
                    item
                    for item in view.bookings()
                    if selection.includes(item, now) or key_of(item) in printed
                ],
            )
            current = {key_of(item): row for item, row in zip(table.objects, table.rows, strict=True)}
            gone = {key: _deleted(row) for key, row in printed.items() if key not in current}
            news = {key: row for key, row in {**current, **gone}.items() if printed.get(key) != row}
            printed = current
            shown = table.shown(output)
            if output == "name":
                for key in news:
                    session.console.out(full_name(BOOKING, key.name))
            elif not widths:
                widths = session.console.table(table.head[shown], [row[shown] for row in news.values()])
            else:
                session.console.rows(widths, [row[shown] for row in news.values()])
            await live.changes.wait(known, _until_next_boundary(view, now))


def _deleted(row: Sequence[Text]) -> list[Text]:
    return [*row[:_STATE_COLUMN], Styled("DELETED", "dim"), *row[_STATE_COLUMN + 1 :]]


def _until_next_boundary(view: View, now: datetime) -> float:
    """Return the time in seconds until a Booking next begins or ends, at most a minute."""
    intervals = [interval for item in view.bookings() if (interval := item.interval()) is not None]
    instants = [at for item in intervals for at in (item.start_at, item.end_at) if at > now]
    return min([60.0, *((at - now).total_seconds() for at in instants)])


@dataclass(frozen=True, slots=True)
class Selection:
    """Which Bookings to list: those of a request, and of one user if `user` is not empty."""

    request: ListRequest
    user: str

    def of(self, view: View) -> list[Booking]:
        """Return the selected Bookings of a view, by their start."""
        return [booking for booking in view.bookings() if self.includes(booking, view.now)]

    def includes(self, booking: Booking, now: datetime) -> bool:
        """Whether a Booking is selected at `now` (aware UTC)."""
        if self.request.resource and booking.resource_name != self.request.resource:
            return False
        if self.user and (not isinstance(booking.spec, BookingSpec) or booking.spec.user_id != self.user):
            return False
        interval = booking.interval()
        if interval is None:
            return True
        if self.request.begin is not None and interval.end_at <= self.request.begin:
            return False
        if self.request.end is not None and interval.start_at >= self.request.end:
            return False
        return self.request.finished or self.request.begin is not None or not is_finished(booking, now)


_STATE_COLUMN = 6


def _bookings_table(session: Session, shown: Sequence[Booking]) -> Table:
    """Return the table of some Bookings."""
    viewer = session.viewer_named("")
    return Table(
        BOOKING,
        ("NAMESPACE", "BOOKING", "RESOURCE", "USER", "FROM", "TO", "STATE", "NOTE"),
        [_booking_row(booking, viewer) for booking in shown],
        ("namespace", "name", "resource", "user", "start_at", "end_at", "state", "note"),
        [_booking_record(booking, viewer.now) for booking in shown],
        namespaced=session.options.all_namespaces,
        objects=shown,
    )


def _booking_row(booking: Booking, viewer: Viewer) -> list[Text]:
    interval, phase = booking.interval(), phase_of(booking, viewer.now)
    times = ("-", "-")
    if interval is not None:
        times = (
            format_relative(interval.start_at, viewer.now, viewer.zone),
            format_relative(interval.end_at, viewer.now, viewer.zone),
        )
    return [
        booking.metadata.namespace,
        booking.metadata.name,
        booking.resource_name or "-",
        interval.user_id if interval else "-",
        *times,
        Styled(phase, _PHASE_STYLES.get(phase, "")),
        Styled(booking_problem(booking, viewer.now), "red"),
    ]


def _booking_record(booking: Booking, now: datetime) -> dict[str, Any]:
    interval = booking.interval()
    return {
        "namespace": booking.metadata.namespace,
        "name": booking.metadata.name,
        "resource": booking.resource_name or None,
        "user": interval.user_id if interval else None,
        "start_at": format_utc(interval.start_at) if interval else None,
        "end_at": format_utc(interval.end_at) if interval else None,
        "state": phase_of(booking, now),
        "note": booking_problem(booking, now) or None,
    }


# why


async def why(options: Options, console: Console, *, target: str, exit_status: bool) -> int:
    """Explain a Resource or a Booking."""
    named = parse_object_name(target, RESOURCE, BOOKING)
    async with open_session(options, console) as session:
        viewer, view = await together(session.viewer(), session.view())
        explanation = await checked_remedies(session.cluster, _explain(session, view, named, viewer))
        if options.output == "table":
            show_explanation(console, explanation)
        else:
            print_document(console, options.output, _plain(explanation))
    return ExitCode.FAILED if exit_status and not explanation.as_booked else ExitCode.DONE


def _explain(session: Session, view: View, target: NamedObject, viewer: Viewer) -> Explanation:
    resource, booking = session.resolve(view, target)
    if resource is not None:
        return explain_resource(resource, viewer)
    if booking is None:
        raise RuntimeError("a target is a Resource or a Booking")
    names = [item.name for item in view.resources()]
    of = view.resource(Key(session.namespace, booking.resource_name))
    return explain_booking(booking, of, viewer, names)


def show_explanation(console: Console, explanation: Explanation) -> None:
    """Print an explanation for people."""
    style = "green" if explanation.as_booked else "red"
    console.out(Styled(f"{explanation.subject}:", "bold"), " ", Styled(explanation.state, style))
    lines = [
        *(("because", text) for text in explanation.because),
        *(("but", text) for text in explanation.but),
        *((("next", explanation.next),) if explanation.next else ()),
        *(("do", remedy.text) for remedy in explanation.do),
    ]
    last = ""
    for label, text in lines:
        console.out("  ", Styled(f"{label if label != last else '':<7}", "cyan"), f"  {text}")
        last = label


def _plain(explanation: Explanation) -> dict[str, Any]:
    record = asdict(replace(explanation, do=()))
    record["do"] = [remedy.text for remedy in explanation.do]
    for name in ("because", "but"):
        record[name] = list(record[name])
    return record
