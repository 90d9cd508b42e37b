"""What a replica that does not lead keeps in view, so that it can act at once when it does."""

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta

from booking_operator.api.monitor import ResourceMonitorSpec, scope
from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import Group, Scope
from booking_operator.cloud.polling import IDLE
from booking_operator.reconcilers.caches import Caches

FOLLOWING = timedelta(seconds=10)
"""Between two looks at a scope in which the leader starts or stops instances. A leader that has died is
followed after about LeaseDuration, which is 30 s by default. So a replica that takes over has seen what the
leader before it has started, also where the cloud then takes longer to answer than a start waits."""
_ON_THE_WAY = frozenset({"Starting", "Stopping"})


class StandbyAudience:
    """`cloud.driver.Audience` of a standby: every scope once a minute, and every 10 s while instances move.

    That costs as much as an idle operator does, and keeps client, credentials and instances at hand. Nothing
    is done about what is seen.
    """

    def __init__(self, service: str, caches: Caches) -> None:
        self._service = service
        self._caches = caches

    def groups(self) -> Collection[Group]:
        """None whose instances are followed while they are on their way."""
        return ()

    def periods(self) -> Mapping[Scope, timedelta]:
        """All scopes in which there is anything to look at."""
        groups = (group.scope for group in self._caches.groups() if group.service == self._service)
        specs = (monitor.spec for monitor in self._caches.monitors.all())
        region = self._caches.default_region
        monitored = (
            scope(spec, region)
            for spec in specs
            if isinstance(spec, ResourceMonitorSpec) and spec.type == self._service
        )
        idle = dict.fromkeys((*groups, *monitored), IDLE)
        return idle | dict.fromkeys(self._moving(), FOLLOWING)

    def _moving(self) -> Iterator[Scope]:
        """The scopes in which instances are on their way, as the leader says in the status of Resources."""
        for resource in self._caches.resources.all():
            if _on_the_way(resource):
                group = resource.group(self._caches.default_region)
                if group is not None and group.service == self._service:
                    yield group.scope

    def changed(self, group: Group) -> None:
        """Nobody acts on it here."""

    def listed(self, scope: Scope, /) -> None:
        """Nobody acts on it here."""


def _on_the_way(resource: Resource) -> bool:
    """Whether some of the instances are, and not only those that cannot be started or stopped."""
    status = resource.status
    return status.status == "PENDING" and any(
        condition.type == "Ready" and condition.reason in _ON_THE_WAY for condition in status.conditions
    )
