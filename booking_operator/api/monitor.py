"""The kind ResourceMonitor: makes a Resource for each group of instances that asks for one."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from booking_operator.api import fields
from booking_operator.api.meta import (
    EMPTY_IF_INVALID,
    WIRE_CONFIG,
    Condition,
    InvalidSpec,
    MetaWithoutFinalizers,
    or_invalid,
)
from booking_operator.domain import naming
from booking_operator.domain.group import Scope

_TEMPLATE_RULE = fields.cel(
    rf"self.matches(r'{naming.TEMPLATE_PATTERN}') && self.contains('{{tag}}')",
    "it must contain {tag}; otherwise {type}, {region}, {account}, lower-case letters, digits, '-' and '.'",
)


def _check_template(text: str) -> str:
    naming.check_template(text)
    return text


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceMonitorSpec:
    """Where to look for groups, and what to make of them."""

    type: fields.ServiceType = "ec2"
    """The cloud service: `ec2` or `rds`. Immutable."""
    region: fields.RegionOrAccount = ""
    """Region to look in; the operator's own when empty. Immutable."""
    account: fields.RegionOrAccount = ""
    """Name of an account in the operator's configuration; the operator's own when empty. Immutable."""
    interval: fields.Interval = "2m"
    """A group has its Resource at most this long after its instances were tagged: `30s`, `2m`."""
    name_template: Annotated[
        str,
        AfterValidator(_check_template),
        Field(max_length=200, json_schema_extra=fields.validations(_TEMPLATE_RULE)),
    ] = "{tag}"
    """Name of a Resource, from `{tag}`, `{type}`, `{region}` and `{account}`. `{type}.{tag}` is also what a
    Resource is called whose name is taken already."""
    prune: bool = False
    """Delete a Resource that this monitor made once no instance of its group asks for it, and nobody has an
    unfinished booking of it."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceMonitorStatus:
    """What was found."""

    discovered: int = 0
    """How many groups ask for a Resource."""
    last_sync_at: str = ""
    """When they were last listed, in UTC."""
    conditions: tuple[Condition, ...] = ()
    """Valid, Synced (the cloud was listed and every group has its Resource), Ready; Stalled."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceMonitor:
    """Makes a Resource for each group of instances with the tag `resource-booking-managed=true`."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[ResourceMonitorSpec | InvalidSpec, or_invalid(ResourceMonitorSpec)] = InvalidSpec(
        "spec: it is missing"
    )
    status: Annotated[ResourceMonitorStatus, EMPTY_IF_INVALID] = ResourceMonitorStatus()


def monitored_scope(spec: ResourceMonitorSpec, default_region: str) -> Scope:
    """Where it looks."""
    return Scope(spec.account, spec.region or default_region)


def sync_interval(spec: ResourceMonitorSpec) -> timedelta:
    """How long a group may wait for its Resource."""
    return fields.parse_duration(spec.interval)


SPEC_RULES = ()
