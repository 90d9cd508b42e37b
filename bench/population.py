"""Any number of bookings and Resources, written into etcd as users and the operator would leave them."""

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import aiohttp

from booking_operator.api.booking import Booking, BookingStatus
from booking_operator.api.kinds import BOOKING, RESOURCE, Kind
from booking_operator.api.meta import GROUP, merge_conditions
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.domain.acceptance import RequestedBooking
from booking_operator.domain.conditions import BookedResource, booking_conditions
from booking_operator.domain.formatting import format_utc

NAMESPACE = "default"
BATCH = 100
# Shares of the bookings of each Resource that are over, and that are in progress now. The rest lie in the
# future.
OVER, UNDER_WAY = 0.6, 0.04


def objects(bookings: int, resources: int, now: datetime) -> Iterator[tuple[Kind[Any], str, dict[str, Any]]]:
    """Generate kind, name and spec of all Resources, and then of all bookings.

    The bookings are distributed evenly over the Resources. Bookings of one Resource begin three hours apart.
    """
    for number in range(resources):
        name = f"group-{number:05}"
        yield RESOURCE, name, {"type": "ec2", "tag": name, "unbooked": "Stop", "warm_up": "0s"}
    each = max(1, bookings // resources)
    for number in range(bookings):
        group, turn = number % resources, number // resources
        start_at = now + timedelta(hours=3 * (turn - int(each * OVER)), minutes=30 + group % 60)
        if turn == int(each * OVER) and group < bookings * UNDER_WAY:
            start_at = now - timedelta(minutes=10)
        times = {
            "start_at": format_utc(start_at),
            "end_at": format_utc(start_at + timedelta(hours=1 + turn % 2)),
        }
        who = {"resource_name": f"group-{group:05}", "user_id": f"user-{number % 500:03}"}
        yield BOOKING, f"group-{group:05}-{turn:04}", who | times


def stored(
    kind: Kind[Any], name: str, spec: dict[str, Any], now: datetime, *, settled: bool
) -> dict[str, Any]:
    """An object in the form in which the API server stores it.

    With `settled`, a booking has the status that the operator writes.
    """
    managed = {
        "manager": "bench",
        "operation": "Update",
        "apiVersion": kind.api_version,
        "time": format_utc(now),
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {".": {}} | {f"f:{field}": {} for field in spec}},
    }
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": str(uuid.uuid4()),
        "generation": 1,
        "creationTimestamp": format_utc(now),
        "managedFields": [managed],
    }
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": spec}
    if settled and kind is BOOKING:
        fields: dict[str, Any] = {
            "f:status": {".": {}, "f:conditions": {}, "f:observedGeneration": {}, "f:status": {}}
        }
        metadata["managedFields"] = [managed, managed | {"subresource": "status", "fieldsV1": fields}]
        body["status"] = status(BOOKING.adapter.validate_python(body), now)
    return body


def status(booking: Booking, now: datetime) -> dict[str, Any]:
    """The status of a booking of a Resource whose instances are stopped.

    It is wrong for bookings in progress; the operator corrects these.
    """
    interval = booking.interval()
    if interval is None:
        raise RuntimeError(f"a booking that makes no sense: {booking}")
    resource = BookedResource(None, 1, 0, None, timedelta(0))
    verdicts = booking_conditions(RequestedBooking(interval, booking.resource_name), resource, now)
    booking_status = BookingStatus(
        status=interval.phase_at(now),
        conditions=merge_conditions((), verdicts, 1, now),
        observed_generation=1,
    )
    dumped: dict[str, Any] = BOOKING.status_adapter.dump_python(booking_status, mode="json", by_alias=True)
    return {field: value for field, value in dumped.items() if value != []}


async def fill(plane: ControlPlane, waiting: Iterator[tuple[Kind[Any], dict[str, Any]]]) -> None:
    """Write objects directly into etcd, because the API server would need minutes."""
    async with aiohttp.ClientSession() as http:
        while batch := list(islice(waiting, BATCH)):
            puts = [
                {
                    "key": base64.b64encode(
                        f"/registry/{GROUP}/{kind.plural}/{NAMESPACE}/{body['metadata']['name']}".encode()
                    ).decode(),
                    "value": base64.b64encode(json.dumps(body).encode()).decode(),
                }
                for kind, body in batch
            ]
            body = {"success": [{"requestPut": put} for put in puts]}
            async with http.post(f"{plane.etcd_url}/v3/kv/txn", json=body) as answer:
                answer.raise_for_status()
