"""The kind Usage: how long the instances of a Resource ran and were booked in one month.

The operator creates and writes it. It has no owner, so it outlasts its Resource.
"""

from collections import Counter
from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from booking_operator.api import fields
from booking_operator.api.meta import (
    EMPTY_IF_INVALID,
    WIRE_CONFIG,
    InvalidSpec,
    MetaWithoutFinalizers,
    or_invalid,
)
from booking_operator.domain import usage
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.naming import sanitize_name
from booking_operator.domain.parsing import parse_rfc3339

MONTH_LABEL = "manager.kotaico.de/month"
"""Label of a Usage: its month, so that a client can list one month."""
_MONTH = r"^[0-9]{4}-(0[1-9]|1[0-2])$"
_IMMUTABLE = fields.validations(fields.IMMUTABLE)
_Seconds = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class UsageSpec:
    """Which Resource and which month."""

    resource_name: Annotated[str, Field(min_length=1, max_length=253, json_schema_extra=_IMMUTABLE)]
    """The name of the Resource in the same namespace. Immutable."""
    month: Annotated[str, Field(pattern=_MONTH, max_length=7, json_schema_extra=_IMMUTABLE)]
    """The month in UTC, like 2026-11. Immutable."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class SizeUsage:
    """The sums for the instances of one size, in instance-seconds."""

    size: str = ""
    """The size, like `t3.large` or `db.r6g.large`."""
    capacity: _Seconds = 0
    """For how long instances existed."""
    running: _Seconds = 0
    """For how long instances were observed running."""
    booked: _Seconds = 0
    """For how long instances existed while a booking was in progress."""
    unbooked: _Seconds = 0
    """For how long instances ran without an active booking. The warm-up of a booking counts as active."""
    missing: _Seconds = 0
    """For how long instances did not run while a booking was in progress."""
    unobserved: _Seconds = 0
    """For how long instances existed and the operator did not observe them."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class Charge:
    """The running time of one user, in instance-seconds."""

    user_id: str = ""
    """The user of the bookings."""
    size: str = ""
    """The size of the instances."""
    seconds: _Seconds = 0
    """The running time. Bookings that are active at the same time share it evenly."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class UsageStatus:
    """The sums of the month so far, in instance-seconds."""

    capacity: _Seconds = 0
    """For how long instances existed."""
    running: _Seconds = 0
    """For how long instances were observed running."""
    booked: _Seconds = 0
    """For how long instances existed while a booking was in progress."""
    unbooked: _Seconds = 0
    """For how long instances ran without an active booking."""
    missing: _Seconds = 0
    """For how long instances did not run while a booking was in progress."""
    unobserved: _Seconds = 0
    """For how long instances existed and the operator did not observe them."""
    saved: _Seconds = 0
    """capacity minus running minus unobserved: for how long instances were observed not to run."""
    sizes: tuple[SizeUsage, ...] = ()
    """The same sums by the size of the instances."""
    charged: tuple[Charge, ...] = ()
    """The running time of each user, by the size of the instances."""
    observed_until: str = ""
    """Up to when the sums count, in UTC."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class Usage:
    """How long the instances of a Resource ran and were booked in one month. The operator writes it."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[UsageSpec | InvalidSpec, or_invalid(UsageSpec)] = InvalidSpec("spec: Field required")
    status: Annotated[UsageStatus, EMPTY_IF_INVALID] = field(default_factory=UsageStatus)


SPEC_RULES = ()


def usage_name(resource: str, month: str) -> str:
    """Return the name of the Usage of a Resource for a month."""
    return sanitize_name(f"{resource}-{month}")


def month_selector(month: str) -> tuple[tuple[str, str], ...]:
    """Return the query that selects the objects of a month in a list."""
    return (("labelSelector", f"{MONTH_LABEL}={month}"),)


def to_sums(status: UsageStatus) -> usage.UsageSums | None:
    """Return the sums in a status; None if it has none yet, or if another client has broken it."""
    try:
        until = usage.to_second(parse_rfc3339(status.observed_until))
    except ValueError:
        return None
    sizes = {
        item.size: usage.UsageAmounts(*(getattr(item, name) for name in usage.AMOUNTS))
        for item in status.sizes
    }
    charged = Counter({(item.user_id, item.size): item.seconds for item in status.charged})
    return usage.UsageSums(until, sizes, charged)


def to_status(sums: usage.UsageSums) -> UsageStatus:
    """Return the status with some sums."""
    total = sums.total
    return UsageStatus(
        **{name: getattr(total, name) for name in (*usage.AMOUNTS, "saved")},
        sizes=tuple(
            SizeUsage(size=size, **{name: getattr(amount, name) for name in usage.AMOUNTS})
            for size, amount in sorted(sums.sizes.items())
        ),
        charged=tuple(
            Charge(user_id=user, size=size, seconds=seconds)
            for (user, size), seconds in sorted(sums.charged.items())
            if seconds
        ),
        observed_until=format_utc(usage.to_instant(sums.until)),
    )
