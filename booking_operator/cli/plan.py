"""The command `plan`: reads the bookings of a cluster and forecasts the calls for them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any

from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.api.meta import InvalidSpec
from booking_operator.api.resource import off_times, suspended_until
from booking_operator.cloud.batching.token_bucket import LimitsOf
from booking_operator.cloud.forecast import CallForecast, Forecast, LateBooking, Member, forecast
from booking_operator.config import Settings, load_config
from booking_operator.domain.booking import BookingInterval
from booking_operator.domain.formatting import format_duration, format_second, format_utc
from booking_operator.engine.clock import Clock
from booking_operator.engine.reflector import ListWatchError, ResourceExpiredError
from booking_operator.engine.store import Store, key_of
from booking_operator.errors import UserError
from booking_operator.kube.client import KubeClient
from booking_operator.kube.kubeconfig import ClusterConfig
from booking_operator.kube.list_watch import ListWatch, all_pages
from booking_operator.reconcilers.informers import Informers


class PlanError(UserError):
    """The Resources and Bookings cannot be read."""


async def plan(settings: Settings, begin: datetime, end: datetime, clock: Clock) -> Forecast:
    """Forecast the calls for the bookings in the cluster, from `begin` until before `end` (aware UTC).

    Raises:
        ConfigError: there is no usable cluster configuration.
        ConfigFileError: the configuration file is invalid.
        PlanError: the API server does not answer, or refuses the request.
    """
    limits, informers = load_config(settings.config).limits_of(), Informers(settings.region)
    async with KubeClient(ClusterConfig(settings.kubeconfig, settings.context), clock) as client:
        try:
            await _fill(client, RESOURCE, settings.namespace, informers.resources)
            await _fill(client, BOOKING, settings.namespace, informers.bookings)
        except (ListWatchError, ResourceExpiredError) as error:
            raise PlanError(str(error)) from error
    return forecast_of(informers, begin, end, limits)


def forecast_of(informers: Informers, begin: datetime, end: datetime, limits: LimitsOf) -> Forecast:
    """Forecast the calls for the bookings of some informers, from `begin` until before `end` (aware UTC).

    The forecast makes no AWS API calls. The sizes of the groups come from the status of the Resources.
    """
    return forecast(list(_members(informers, begin)), begin, end, limits)


async def _fill(client: KubeClient, kind: Kind[Any], namespace: str, store: Store[Any]) -> None:
    store.replace(await all_pages(ListWatch(client, kind, namespace).list))


def _members(informers: Informers, begin: datetime) -> Iterator[Member]:
    """Yield the Resources that start or stop instances, each with its bookings, from `begin` (aware UTC)."""
    for resource in informers.resources.objects():
        group = resource.group(informers.default_region)
        spec = resource.spec
        if group is None or isinstance(spec, InvalidSpec) or spec.suspend:
            continue
        if informers.older_duplicate(resource) is None:
            until = suspended_until(spec, begin)
            intervals = [item for item in map(partial(_after, until), informers.timeline(resource)) if item]
            size, off_at = resource.status.instances, off_times(spec).due(resource.status.unbooked_since)
            key = key_of(resource)
            required = informers.required(key)
            yield Member(key, group, size, resource.warm_up, intervals, off_at.values(), required)


def _after(until: datetime | None, item: BookingInterval) -> BookingInterval | None:
    """Return the part of a booking after a suspension; None if nothing of it is left."""
    if until is None or item.start_at >= until:
        return item
    return replace(item, start_at=until) if until < item.end_at else None


def as_json(found: Forecast, begin: datetime, end: datetime) -> str:
    """Format a forecast for programs: JSON with instants in RFC 3339 and durations in seconds."""
    whole = {"from": format_second(begin), "to": format_second(end), "calls": found.calls, "late": found.late}
    return json.dumps(whole, default=_plain, indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_utc(value)
    if isinstance(value, CallForecast | LateBooking):
        return asdict(value) | (_keys(value) if isinstance(value, LateBooking) else {})
    return value.total_seconds()


def _keys(booking: LateBooking) -> dict[str, str | None]:
    required = booking.required
    return {"resource": str(booking.resource), "required": None if required is None else str(required)}


def _remedy(booking: LateBooking) -> str:
    if booking.required is not None:
        return f"waits for {booking.required.name}"
    return f"warm_up: {format_duration(booking.remedy)}" if booking.remedy is not None else "none found"


def as_text(found: Forecast, begin: datetime, end: datetime) -> str:
    """Format a forecast for people, in columns like those of kubectl."""
    lines = [f"From {format_second(begin)} to {format_second(end)}:", ""]
    if not found.calls:
        return "\n".join([*lines, "No instances start or stop."])
    lines += _table(
        ("CALL", "ACCOUNT", "REGION", "CALLS", "INSTANCES", "PEAK AT", "PEAK", "PEAK DONE AT"),
        [
            (
                item.call,
                item.account or "-",
                item.region or "-",
                str(item.calls),
                str(item.instances),
                format_utc(item.peak_at),
                str(item.peak),
                format_second(item.peak_done_at),
            )
            for item in found.calls
        ],
    )
    if not found.late:
        return "\n".join([*lines, "", "All bookings start on time."])
    number = len(found.late)
    verb = " starts" if number == 1 else "s start"
    lines += ["", f"{number} booking{verb} late, which means later than START minus WARM_UP:", ""]
    lines += _table(
        ("NAMESPACE", "BOOKING", "RESOURCE", "START", "ALL STARTED", "LATE BY", "WARM_UP", "REMEDY"),
        [
            (
                item.resource.namespace,
                item.booking or "(ad hoc)",
                item.resource.name,
                format_utc(item.start_at),
                format_second(item.started_at),
                format_duration(item.late_by),
                format_duration(item.warm_up),
                _remedy(item),
            )
            for item in found.late
        ],
    )
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
