"""What a replica that does not lead keeps in view, so that it can act at once when it does."""

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta

from booking_operator.api.monitor import ResourceMonitorSpec, monitored_scope
from booking_operator.api.resource import Resource
from booking_operator.cloud.inventory.polling import IDLE_INTERVAL
from booking_operator.domain.group import Group, Scope
from booking_operator.reconcilers.informers import Informers

TRANSITION_INTERVAL = timedelta(seconds=10)
"""Between two polls of a scope in which the leader starts or stops instances. A replica takes over from a
leader that died about LeaseDuration later, which is 30 s by default. So its view has what the leader started,
even if AWS then takes longer to answer than a start waits."""
_TRANSITION_REASONS = frozenset({"Starting", "Stopping"})


class StandbyListener:
    """`cloud.driver.InventoryListener` of a standby replica.

    It polls every scope once a minute, and every 10 s while instances are in transition. That costs as much
    as an idle operator, and keeps client, credentials and instances at hand. It acts on nothing.
    """

    def __init__(self, service: str, informers: Informers) -> None:
        self._service = service
        self._informers = informers

    def groups(self) -> Collection[Group]:
        """No group is followed while its instances are in transition."""
        return ()

    def polling_periods(self) -> Mapping[Scope, timedelta]:
        """The scopes of all Resources and monitors."""
        groups = (group.scope for group in self._informers.groups() if group.service == self._service)
        specs = (monitor.spec for monitor in self._informers.monitors.objects())
        region = self._informers.default_region
        monitored = (
            monitored_scope(spec, region)
            for spec in specs
            if isinstance(spec, ResourceMonitorSpec) and spec.type == self._service
        )
        idle = dict.fromkeys((*groups, *monitored), IDLE_INTERVAL)
        return idle | dict.fromkeys(self._scopes_in_transition(), TRANSITION_INTERVAL)

    def _scopes_in_transition(self) -> Iterator[Scope]:
        """The scopes with instances in transition, as the leader reports them in the status of Resources."""
        for resource in self._informers.resources.objects():
            if _in_transition(resource):
                group = resource.group(self._informers.default_region)
                if group is not None and group.service == self._service:
                    yield group.scope

    def group_changed(self, group: Group) -> None:
        """A standby replica does not act on it."""

    def scope_changed(self, scope: Scope, /) -> None:
        """A standby replica does not act on it."""


def _in_transition(resource: Resource) -> bool:
    """Whether some instances are in transition; not if they are only blocked."""
    status = resource.status
    return status.status == "PENDING" and any(
        condition.type == "Ready" and condition.reason in _TRANSITION_REASONS
        for condition in status.conditions
    )
