"""The inventory listener of a standby replica.

It keeps the view of the instances recent, so that a standby replica can act at once after a take-over.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta

from booking_operator.api.monitor import ResourceMonitorSpec, monitored_scope
from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import CheckedGroup
from booking_operator.cloud.inventory.polling import IDLE_INTERVAL
from booking_operator.domain.conditions import ON_THEIR_WAY
from booking_operator.domain.group import Group, Scope
from booking_operator.reconcilers.informers import Informers

TRANSITION_INTERVAL = timedelta(seconds=10)
"""Interval between two polls of a scope in which the leader starts or stops instances.

A replica takes over from a dead leader after about LeaseDuration, which is 30 s by default. With this
interval its view already shows what the leader started. This matters if the first view after the take-over
takes longer than `TAKE_OVER_TIMEOUT`.
"""


class StandbyListener:
    """`cloud.driver.InventoryListener` of a standby replica.

    A standby replica polls every scope once a minute, and every 10 s while instances are in transition. The
    cost is that of an idle leader. The polls keep API clients, credentials and the view ready. A standby
    replica does not act on changes.
    """

    def __init__(self, service: str, informers: Informers) -> None:
        self._service = service
        self._informers = informers

    def groups(self) -> Collection[Group]:
        """Return no group: a standby replica does not poll a group faster while its instances change."""
        return ()

    def polling_periods(self) -> Mapping[Scope, timedelta]:
        """The scopes of all Resources and monitors of this type, each with its polling interval."""
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
        """Yield the scopes with instances in transition, as the leader shows them in the status."""
        for resource in self._informers.resources.objects():
            if _in_transition(resource):
                group = resource.group(self._informers.default_region)
                if group is not None and group.service == self._service:
                    yield group.scope

    def checked_groups(self) -> Collection[CheckedGroup]:
        """Return no group: a standby replica reads no status checks."""
        return ()

    def group_changed(self, group: Group) -> None:
        """Do nothing: a standby replica does not act on changes."""

    def scope_changed(self, scope: Scope, /) -> None:
        """Do nothing: a standby replica does not act on changes."""


def _in_transition(resource: Resource) -> bool:
    """Whether the status shows instances in transition. PENDING without a transition means blocked."""
    status = resource.status
    return status.status == "PENDING" and any(
        condition.type == "Ready" and condition.reason in ON_THEIR_WAY for condition in status.conditions
    )
