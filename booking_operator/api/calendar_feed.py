"""The kind CalendarFeed: a secret address at which calendar programs find bookings.

The board serves it. The object has only the hash of the secret, and deleting the object revokes the address.
"""

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Self

from pydantic import Field, PlainValidator, model_validator
from pydantic.dataclasses import dataclass

from booking_operator.api import fields
from booking_operator.api.meta import WIRE_CONFIG, InvalidSpec, MetaWithoutFinalizers, or_invalid
from booking_operator.domain.parsing import parse_rfc3339

_IMMUTABLE = fields.validations(fields.IMMUTABLE)
_Group = Annotated[str, Field(min_length=1, max_length=256)]


def token_hash(token: str) -> str:
    """Return the hash by which a CalendarFeed knows the secret part of its address."""
    return sha256(token.encode()).hexdigest()


class Detail(StrEnum):
    """How much a calendar says of a booking."""

    FULL = "Full"
    """The Resource, the user and the name of the booking."""
    BUSY = "Busy"
    """Only when something is booked."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class CalendarFeedSpec:
    """Which bookings the address shows, to whom it belongs, and until when it works."""

    owner: Annotated[str, Field(min_length=1, max_length=256, json_schema_extra=_IMMUTABLE)]
    """The user to whom the address belongs. The address works while this user may list the bookings of the
    namespace. Immutable."""
    token_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64, json_schema_extra=_IMMUTABLE)]
    """The SHA-256 hash of the secret part of the address, in hexadecimal. Immutable."""
    owner_groups: Annotated[tuple[_Group, ...], Field(max_length=500, json_schema_extra=_IMMUTABLE)] = ()
    """The groups of the owner, from which the permission may come. Immutable."""
    resource_name: Annotated[str, Field(max_length=253)] = ""
    """Show the bookings of this Resource in the same namespace. Set either this or user_id."""
    user_id: Annotated[str, Field(max_length=256)] = ""
    """Show the bookings of this user in the same namespace. Set either this or resource_name."""
    detail: Detail = Detail.FULL
    """Full shows the user and the name of each booking. Busy shows only when something is booked."""
    expires_at: fields.OptionalDate = ""
    """When the address stops working: an RFC 3339 date like 2027-01-31T20:00:00Z. Empty for never."""

    @model_validator(mode="after")
    def _shows_one(self) -> Self:
        if bool(self.resource_name) == bool(self.user_id):
            raise ValueError(_ONE)
        return self

    def expired(self, now: datetime) -> bool:
        """Whether the address no longer works at `now` (aware UTC)."""
        return bool(self.expires_at) and parse_rfc3339(self.expires_at) <= now


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class CalendarFeed:
    """A secret address at which calendar programs find bookings. Deleting the object revokes the address."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[CalendarFeedSpec | InvalidSpec, or_invalid(CalendarFeedSpec)] = InvalidSpec(
        "spec: Field required"
    )
    status: Annotated[None, PlainValidator(lambda _: None)] = None


_ONE = "set either resource_name or user_id"
_EMPTY = "(!has(self.{0}) || self.{0} == '')"
SPEC_RULES = (fields.cel(f"{_EMPTY.format('resource_name')} != {_EMPTY.format('user_id')}", _ONE),)
