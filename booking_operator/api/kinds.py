"""The kinds of the API group: their names, models, printer columns and URL paths."""

from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from booking_operator.api import booking, calendar_feed, monitor, resource, scheduler, usage
from booking_operator.api.meta import API_VERSION, GROUP

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`.

    Attributes:
        name: the heading.
        path: the JSONPath of the value.
        type: the OpenAPI type of the value.
        wide: whether only `-o wide` shows the column.
    """

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, eq=False)
class Kind(Generic[T]):
    """One kind: its names, its models, and the parts of its CRD that the models do not define.

    Attributes:
        name: the kind, such as `Booking`.
        plural: the plural name in lower case.
        short_name: the short name for kubectl.
        model: the model of the object.
        spec: the model of the spec.
        status: the model of the status; NoneType if the kind has none.
        spec_rules: the CEL rules of the spec.
        columns: the printer columns.
        selectable: the JSONPaths of the fields for field selectors.
        api_version: group and version.
    """

    name: str
    plural: str
    short_name: str
    model: type[T]
    spec: type
    status: type
    spec_rules: tuple[dict[str, Any], ...]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    api_version: str = API_VERSION

    @property
    def crd_name(self) -> str:
        """The name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, of an object, or of a subresource of an object."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"/apis/{self.api_version}{scope}/{self.plural}{tail}"

    @cached_property
    def adapter(self) -> TypeAdapter[T]:
        """The type adapter that reads an object from JSON or from parsed JSON."""
        return TypeAdapter(self.model)

    @cached_property
    def status_adapter(self) -> TypeAdapter[Any]:
        """The type adapter that dumps a status to JSON types."""
        return TypeAdapter(self.status)


_READY = Column("READY", '.status.conditions[?(@.type=="Ready")].status', wide=True)
_AGE = Column("AGE", ".metadata.creationTimestamp", "date", wide=True)

RESOURCE = Kind(
    name="Resource",
    plural="resources",
    short_name="res",
    model=resource.Resource,
    spec=resource.ResourceSpec,
    status=resource.ResourceStatus,
    spec_rules=resource.SPEC_RULES,
    columns=(
        Column("LOCKED BY", ".status.locked_by"),
        Column("LOCKED UNTIL", ".status.locked_until"),
        Column("INSTANCES", ".status.instances", "integer"),
        Column("RUNNING", ".status.running", "integer"),
        Column("STATUS", ".status.status"),
        Column("TYPE", ".spec.type", wide=True),
        Column("TAG", ".spec.tag", wide=True),
        Column("NEXT CHANGE", ".status.next_change_at", wide=True),
        _READY,
        _AGE,
    ),
)

BOOKING = Kind(
    name="Booking",
    plural="bookings",
    short_name="bk",
    model=booking.Booking,
    spec=booking.BookingSpec,
    status=booking.BookingStatus,
    spec_rules=booking.SPEC_RULES,
    columns=(
        Column("START", ".spec.start_at"),
        Column("END", ".spec.end_at"),
        Column("STATUS", ".status.status"),
        Column("RESOURCE", ".spec.resource_name", wide=True),
        Column("USER", ".spec.user_id", wide=True),
        _READY,
        _AGE,
    ),
    selectable=(".spec.resource_name", ".spec.user_id"),
)

BOOKING_SCHEDULER = Kind(
    name="BookingScheduler",
    plural="bookingschedulers",
    short_name="bs",
    model=scheduler.BookingScheduler,
    spec=scheduler.BookingSchedulerSpec,
    status=scheduler.BookingSchedulerStatus,
    spec_rules=scheduler.SPEC_RULES,
    columns=(
        Column("SCHEDULE", ".spec.schedule"),
        Column("DURATION", ".spec.duration", "integer"),
        Column("NEXT", ".status.next"),
        Column("END SCHEDULE", ".spec.end_schedule", wide=True),
        Column("TIME ZONE", ".spec.time_zone", wide=True),
        Column("RESOURCE", ".spec.bookingTemplate.resource_name", wide=True),
        Column("USER", ".spec.bookingTemplate.user_id", wide=True),
        Column("SUSPEND", ".spec.suspend", "boolean", wide=True),
        _READY,
        _AGE,
    ),
)

RESOURCE_MONITOR = Kind(
    name="ResourceMonitor",
    plural="resourcemonitors",
    short_name="rm",
    model=monitor.ResourceMonitor,
    spec=monitor.ResourceMonitorSpec,
    status=monitor.ResourceMonitorStatus,
    spec_rules=monitor.SPEC_RULES,
    columns=(
        Column("TYPE", ".spec.type"),
        Column("DISCOVERED", ".status.discovered", "integer"),
        Column("LAST SYNC", ".status.last_sync_at"),
        Column("REGION", ".spec.region", wide=True),
        Column("ACCOUNT", ".spec.account", wide=True),
        _READY,
        _AGE,
    ),
)

USAGE = Kind(
    name="Usage",
    plural="usages",
    short_name="us",
    model=usage.Usage,
    spec=usage.UsageSpec,
    status=usage.UsageStatus,
    spec_rules=usage.SPEC_RULES,
    columns=(
        Column("RESOURCE", ".spec.resource_name"),
        Column("MONTH", ".spec.month"),
        Column("CAPACITY", ".status.capacity", "integer"),
        Column("RUNNING", ".status.running", "integer"),
        Column("SAVED", ".status.saved", "integer"),
        Column("BOOKED", ".status.booked", "integer", wide=True),
        Column("UNBOOKED", ".status.unbooked", "integer", wide=True),
        Column("MISSING", ".status.missing", "integer", wide=True),
        Column("UNOBSERVED", ".status.unobserved", "integer", wide=True),
        Column("UNTIL", ".status.observed_until", wide=True),
    ),
)

CALENDAR_FEED = Kind(
    name="CalendarFeed",
    plural="calendarfeeds",
    short_name="cf",
    model=calendar_feed.CalendarFeed,
    spec=calendar_feed.CalendarFeedSpec,
    status=NoneType,
    spec_rules=calendar_feed.SPEC_RULES,
    columns=(
        Column("RESOURCE", ".spec.resource_name"),
        Column("USER", ".spec.user_id"),
        Column("DETAIL", ".spec.detail"),
        Column("OWNER", ".spec.owner"),
        Column("EXPIRES", ".spec.expires_at"),
        _AGE,
    ),
)

KINDS: tuple[Kind[Any], ...] = (BOOKING, BOOKING_SCHEDULER, RESOURCE, RESOURCE_MONITOR)
"""The kinds that users write, and that the operator watches."""
ALL_KINDS: tuple[Kind[Any], ...] = (*KINDS, USAGE, CALENDAR_FEED)
"""The kinds that have a CRD."""
