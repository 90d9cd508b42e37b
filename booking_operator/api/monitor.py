"""The kind ResourceMonitor: creates a Resource for each group of instances that asks for one."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field
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
from booking_operator.domain.parsing import parse_duration

_TEMPLATE_RULE = fields.cel(
    rf"self == '' || (self.matches(r'{naming.TEMPLATE_PATTERN}') && self.contains('{{tag}}'))",
    "must be empty or contain {tag}; it may contain {type}, {region}, {account}, lowercase letters, digits, "
    "'-' and '.'",
)


def _check_template(text: str) -> None:
    if text:
        naming.check_template(text)


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceMonitorSpec:
    """Where to look for groups, and how to create Resources for them."""

    type: fields.ServiceType = "ec2"
    """The cloud service: `ec2`, `rds`, `asg` for EC2 Auto Scaling groups, or `ecs` for ECS services.
    Immutable."""
    region: fields.RegionOrAccount = ""
    """The region to look in. If empty, the region of the operator. Immutable."""
    account: fields.RegionOrAccount = ""
    """The name of an account in the configuration of the operator. If empty, its own account. Immutable."""
    interval: fields.Interval = "2m"
    """The time between two syncs, like `30s` or `2m`. A tagged group gets its Resource within this time."""
    name_template: Annotated[
        str,
        fields.checked(_check_template),
        Field(max_length=200, json_schema_extra=fields.validations(_TEMPLATE_RULE)),
    ] = ""
    """The name of each Resource, built from `{tag}`, `{type}`, `{region}` and `{account}`.
    If empty, `{tag}` for `ec2` and `{type}.{tag}` for other types, so that several types may use one tag.
    If the name is taken, the Resource is named `{type}.{tag}`."""
    prune: bool = False
    """Whether to delete a Resource that this monitor created when its group no longer asks for it.
    A Resource with an unfinished booking stays."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceMonitorStatus:
    """The result of the last sync."""

    discovered: int = 0
    """The number of groups that ask for a Resource."""
    last_sync_at: str = ""
    """When the instances were last listed, in UTC."""
    conditions: tuple[Condition, ...] = ()
    """Always: Valid, Ready. If the spec is valid: Synced (every group that asks has its Resource).
    Stalled if the spec is invalid."""
    observed_generation: Annotated[int, Field(alias="observedGeneration")] = 0
    """The generation of the spec that this status describes."""


@dataclass(frozen=True, slots=True, config=WIRE_CONFIG)
class ResourceMonitor:
    """Creates a Resource for each group of instances with the tag `resource-booking-managed=true`."""

    metadata: MetaWithoutFinalizers
    spec: Annotated[ResourceMonitorSpec | InvalidSpec, or_invalid(ResourceMonitorSpec)] = InvalidSpec(
        "spec: Field required"
    )
    status: Annotated[ResourceMonitorStatus, EMPTY_IF_INVALID] = ResourceMonitorStatus()


def monitored_scope(spec: ResourceMonitorSpec, default_region: str) -> Scope:
    """Return the scope in which a monitor looks for groups."""
    return Scope(spec.account, spec.region or default_region)


def name_template(spec: ResourceMonitorSpec) -> str:
    """Return the template of the names of Resources."""
    return spec.name_template or ("{tag}" if spec.type == "ec2" else naming.FALLBACK_TEMPLATE)


def sync_interval(spec: ResourceMonitorSpec) -> timedelta:
    """Return the time between two syncs of a monitor."""
    return parse_duration(spec.interval)


SPEC_RULES = ()
