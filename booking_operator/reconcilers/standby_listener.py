"""What a replica that does not lead keeps in view, so that it can act at once when it does."""

from collections.abc import Collection, Mapping
from datetime import timedelta

from booking_operator.api.monitor import ResourceMonitorSpec, monitored_scope
from booking_operator.cloud.driver import Group, Scope
from booking_operator.cloud.inventory.polling import IDLE_INTERVAL
from booking_operator.reconcilers.informers import Informers


class StandbyListener:
    """`cloud.driver.Audience` of a standby: every scope once a minute, whatever moves there; it tells nobody.

    That costs as much as an idle operator does, and keeps client, credentials and instances at hand.
    """

    def __init__(self, service: str, informers: Informers) -> None:
        self._service = service
        self._informers = informers

    def groups(self) -> Collection[Group]:
        """None whose instances are followed while they are on their way."""
        return ()

    def polling_periods(self) -> Mapping[Scope, timedelta]:
        """All scopes in which there is anything to look at."""
        groups = (group.scope for group in self._informers.groups() if group.service == self._service)
        specs = (monitor.spec for monitor in self._informers.monitors.objects())
        region = self._informers.default_region
        monitored = (
            monitored_scope(spec, region)
            for spec in specs
            if isinstance(spec, ResourceMonitorSpec) and spec.type == self._service
        )
        return dict.fromkeys((*groups, *monitored), IDLE_INTERVAL)

    def group_changed(self, group: Group) -> None:
        """Nobody acts on it here."""

    def scope_changed(self, scope: Scope, /) -> None:
        """Nobody acts on it here."""
