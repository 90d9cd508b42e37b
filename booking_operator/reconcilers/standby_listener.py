"""What a replica that does not lead keeps in view, so that it can act at once when it does."""

from collections.abc import Collection, Mapping
from datetime import timedelta

from booking_operator.api.monitor import ResourceMonitorSpec, scope
from booking_operator.cloud.driver import Group, Scope
from booking_operator.cloud.inventory.polling import IDLE
from booking_operator.reconcilers.informers import Caches


class StandbyAudience:
    """`cloud.driver.Audience` of a standby: every scope once a minute, whatever moves there; it tells nobody.

    That costs as much as an idle operator does, and keeps client, credentials and instances at hand.
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
        return dict.fromkeys((*groups, *monitored), IDLE)

    def changed(self, group: Group) -> None:
        """Nobody acts on it here."""

    def listed(self, scope: Scope, /) -> None:
        """Nobody acts on it here."""
