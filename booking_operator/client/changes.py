"""Makes, extends and releases bookings in the cluster, for the plugin and for the board.

No change overwrites what somebody else has written meanwhile: see `Cluster.patch` and `Cluster.delete`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from booking_operator.api.booking import Booking
from booking_operator.api.kinds import BOOKING, BOOKING_SCHEDULER
from booking_operator.api.scheduler import BookingScheduler, BookingSchedulerSpec
from booking_operator.client import bookings
from booking_operator.client.bookings import BookingTarget
from booking_operator.client.cluster import Cluster
from booking_operator.client.errors import CommandError, ExitCode
from booking_operator.client.view import ResourceView, Viewer
from booking_operator.domain import time_grammar
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.local_time import format_interval, format_relative

_SECOND = timedelta(seconds=1)
_GITOPS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


@dataclass(frozen=True, slots=True)
class BookingChange:
    """What a change has done.

    Attributes:
        object: the Booking; only its name if it was deleted.
        text: what has changed, in words.
        warning: why the change may not last; empty if it does.
    """

    object: Mapping[str, Any]
    text: str
    warning: str = ""


async def make_booking(
    cluster: Cluster,
    resource: ResourceView,
    wanted: BookingInterval,
    viewer: Viewer,
    recipients: Sequence[dict[str, Any]] = (),
    *,
    dry_run: bool = False,
    queue: bool = False,
) -> tuple[BookingInterval, dict[str, Any]]:
    """Create the Booking for an interval, under the first name that is free.

    With `queue`, a booking is also made if it must wait until it is accepted.

    Returns:
        The interval as it is stored, with its name, and the Booking.

    Raises:
        CommandError: the user has booked this interval already, the operator would not accept the booking,
            or the API server refuses the request.
    """
    names = list(bookings.booking_names(resource.name, wanted.start_at, wanted.user_id))
    refused = bookings.refusal(resource, wanted, viewer)
    # A repetition has a better message, which `_refuse_repetition` gives.
    if refused is not None and refused.rival not in names and (refused.for_ever or not queue):
        raise _refusal_error(refused)
    for name in names:
        interval = replace(wanted, name=name)
        body = bookings.booking_body(resource.name, interval, viewer, recipients)
        made = await cluster.create(BOOKING, resource.namespace, body, dry_run=dry_run)
        if made is not None:
            booking: Booking = BOOKING.adapter.validate_python(made)
            return booking.interval() or interval, made
        await _refuse_repetition(cluster, interval, resource.namespace, viewer)
    text = "other bookings already use the names for this one"
    raise CommandError(text, hint="choose a start that is a minute later")


def _refusal_error(refused: bookings.BookingRefusal) -> CommandError:
    code = ExitCode.IMPOSSIBLE if refused.for_ever else ExitCode.FAILED
    return CommandError(refused.text, hint=refused.hint, code=code)


async def _refuse_repetition(
    cluster: Cluster, interval: BookingInterval, namespace: str, viewer: Viewer
) -> None:
    """Raise an error if the existing Booking is of the same user and has not ended.

    Otherwise, another name will do.
    """
    name = interval.name
    existing = await cluster.get(BOOKING, namespace, name)
    known = existing.interval() if existing is not None else None
    if known is None or known.user_id != interval.user_id or known.end_at <= viewer.now:
        return
    times = format_interval(known.start_at, known.end_at, viewer.now, viewer.zone)
    words: tuple[str, ...] = ("why", name)
    if known.end_at < interval.end_at:
        words = ("extend", name, "--until", time_grammar.render(interval.end_at, viewer.zone))
    hint = viewer.command("booking", *words, namespace=namespace)
    raise CommandError(f"already booked: {name} {times} for {known.user_id}", hint=hint)


def target_of(booking: Booking, resource: ResourceView | None, viewer: Viewer) -> BookingTarget:
    """Return a booking as the target of a change.

    Raises:
        CommandError: the booking is invalid, or it has ended.
    """
    name, namespace, interval = booking.metadata.name, booking.metadata.namespace, booking.interval()
    if interval is None:
        hint = viewer.command("booking", "why", name, namespace=namespace)
        raise CommandError(f"booking {name} is invalid", hint=hint, code=ExitCode.IMPOSSIBLE)
    if interval.end_at <= viewer.now:
        ended = format_relative(interval.end_at, viewer.now, viewer.zone)
        hint = bookings.book_command(booking.resource_name, "1h", namespace, viewer)
        raise CommandError(f"booking {name} ended {ended}", hint=hint, code=ExitCode.IMPOSSIBLE)
    return BookingTarget(booking, interval, resource)


async def extend_booking(
    cluster: Cluster, found: BookingTarget, end: datetime, viewer: Viewer, *, dry_run: bool = False
) -> BookingChange:
    """Set a later end of a Booking (aware UTC).

    Raises:
        CommandError: the end is not later, the operator would not accept it, or the API server refuses the
            request.
    """
    end = bookings.whole_second(end)
    if end <= found.interval.end_at:
        ends = format_relative(found.interval.end_at, viewer.now, viewer.zone)
        text = f"the new end is not after the present end of {found.name}, which is {ends}"
        command = viewer.command("booking", "release", found.name, namespace=found.booking.metadata.namespace)
        raise CommandError(text, hint=f"to end it now: {command}", code=ExitCode.USAGE)
    if found.view is not None:
        extended = replace(found.interval, end_at=end)
        if refused := bookings.refusal(found.view, extended, viewer):
            raise _refusal_error(replace(refused, hint="choose an earlier end; the booking stays as it is"))
    patched, warning = await _set_end(cluster, found, end, viewer, dry_run=dry_run), ""
    if tool := _gitops_tool(patched):
        second = bookings.second_booking_command(found, end, viewer)
        warning = (
            f"{tool} applies this booking and may revert the change; to book the time separately: {second}"
        )
    return BookingChange(patched, bookings.describe_extension(found, end, viewer), warning)


async def release_booking(
    cluster: Cluster, found: BookingTarget, viewer: Viewer, *, dry_run: bool = False
) -> BookingChange:
    """End a Booking now, or delete it if it has not begun.

    Raises:
        CommandError: a scheduler would make the booking again, or the API server refuses the request.
    """
    if found.interval.start_at > viewer.now:
        await _refuse_scheduled(cluster, found, viewer)
        await cluster.delete(BOOKING, found.booking, dry_run=dry_run)
        return BookingChange({"metadata": {"name": found.name}}, bookings.describe_deletion(found, viewer))
    # The end is a whole second that is after the start.
    end = max(bookings.whole_second(viewer.now), bookings.whole_second(found.interval.start_at) + _SECOND)
    patched, warning = await _set_end(cluster, found, end, viewer, dry_run=dry_run), ""
    if tool := _gitops_tool(patched):
        warning = f"{tool} applies this booking and may revert the change"
    return BookingChange(patched, bookings.describe_release(found, end, viewer), warning)


async def _set_end(
    cluster: Cluster, found: BookingTarget, end: datetime, viewer: Viewer, *, dry_run: bool
) -> dict[str, Any]:
    """Set the end of a Booking, unless somebody else has changed it meanwhile. Returns the Booking."""
    spec: Any = found.booking.spec
    operations = [
        {"op": "test", "path": "/spec/end_at", "value": spec.end_at},
        {"op": "replace", "path": "/spec/end_at", "value": bookings.local_rfc3339(end, viewer)},
    ]
    meta = found.booking.metadata
    return await cluster.patch(BOOKING, meta.namespace, meta.name, operations, dry_run=dry_run)


def _gitops_tool(object_: Mapping[str, Any]) -> str:
    """Return the GitOps tool that applies an object, by its labels and annotations; empty if none does."""
    metadata = object_.get("metadata", {})
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((tool for mark, tool in _GITOPS.items() if mark in marks), "")


async def _refuse_scheduled(cluster: Cluster, found: BookingTarget, viewer: Viewer) -> None:
    """Raise an error if a scheduler made the booking, because the scheduler would make it again."""
    meta, schedulers = found.booking.metadata, list[BookingScheduler]()
    if meta.controller_uid:
        with suppress(CommandError):  # without the permission to list schedulers, the deletion is tried
            schedulers = await cluster.list_objects(BOOKING_SCHEDULER, meta.namespace)
    for scheduler in schedulers:
        if scheduler.metadata.uid == meta.controller_uid and isinstance(scheduler.spec, BookingSchedulerSpec):
            name, day = (
                scheduler.metadata.name,
                found.interval.start_at.astimezone(scheduler.spec.zone).date(),
            )
            text = f"the scheduler {name} made {found.name}, and would make it again"
            hint = viewer.command("booking", "skip", name, f"{day}", namespace=meta.namespace)
            raise CommandError(text, hint=hint, code=ExitCode.IMPOSSIBLE)
