"""Reconciles ResourceMonitors: creates a Resource for each group of instances that asks for one.

A group asks for a Resource by the tag `resource-booking-managed=true` on one of its instances. With
`spec.prune` the reconciler also deletes a Resource that it created, once the group no longer asks for it and
no unfinished booking names it.
"""

from booking_operator.api import monitor as api
from booking_operator.api.kinds import RESOURCE, RESOURCE_MONITOR
from booking_operator.api.meta import MONITOR_ANNOTATION, InvalidSpec
from booking_operator.api.monitor import ResourceMonitor, ResourceMonitorSpec
from booking_operator.api.resource import Resource
from booking_operator.cloud.driver import CloudError
from booking_operator.domain import conditions, discovery
from booking_operator.domain.conditions import Failure
from booking_operator.domain.discovery import KnownResource
from booking_operator.domain.formatting import format_utc
from booking_operator.domain.group import Group, Scope
from booking_operator.engine.introspection import Contents
from booking_operator.engine.store import Key, key_of
from booking_operator.engine.workqueue import Result
from booking_operator.reconcilers.environment import Environment
from booking_operator.reconcilers.object_writes import try_create, try_write
from booking_operator.reconcilers.status_reporter import StatusReporter


class MonitorReconciler:
    """Creates and deletes the Resources of one monitor, and requeues the monitor after its interval."""

    def __init__(self, environment: Environment) -> None:
        self._informers = environment.informers
        self._drivers = environment.drivers
        self._reporter = StatusReporter(RESOURCE_MONITOR, environment)
        self._objects = environment.objects
        self._consistency = environment.consistency
        self._clock = environment.clock
        # The groups for which each monitor created a Resource in its last reconcile. The cache may not have
        # these Resources yet, and a second monitor would create them again under another name.
        self._made: dict[Key, set[Group]] = {}

    def introspect(self) -> Contents:
        """The keys of the entries, by collection."""
        return {"made": self._made.keys()}

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one monitor. The Resources of a deleted monitor stay, because users may book them."""
        monitor, now = self._informers.monitors.get(key), self._clock.now()
        if monitor is None or monitor.metadata.deletion_timestamp is not None:
            self._made.pop(key, None)
            return Result()
        spec = monitor.spec
        if isinstance(spec, InvalidSpec):
            self._made.pop(key, None)
            self._reporter.report_invalid(monitor, "InvalidSpec", spec.message, now)
            return Result()
        scope = api.monitored_scope(spec, self._informers.default_region)
        driver, interval = self._drivers[spec.type], api.sync_interval(spec)
        # The first view must not be older than the monitor. Later views come from the periodic polls.
        since = max(monitor.metadata.creation_timestamp, now - interval)
        try:
            listed_at = await driver.inventory.refresh(scope, since)
        except CloudError as error:
            unseen = Failure(error.reason, str(error))
            self._reporter.report(monitor, conditions.creator_conditions(unseen, ""), now)
            # The polls continue, and enqueue the monitor when the cloud answers again.
            return Result(now + interval)
        asking = driver.inventory.managed_tags(scope)
        failure = await self._sync(monitor, spec, scope, asking)
        blind = driver.inventory.failure(scope)
        why = Failure(blind.reason, str(blind)) if blind else failure
        done = "Every group with the tag resource-booking-managed=true has a Resource."
        similar = [tags for tags in driver.inventory.similar_tags(scope) if asking.intersection(tags)]
        verdicts = conditions.creator_conditions(why, done + conditions.similar_tags_hint(similar))
        shown = format_utc(listed_at.replace(microsecond=0))
        self._reporter.report(monitor, verdicts, now, discovered=len(asking), last_sync_at=shown)
        return Result(now + interval, failed=failure is not None)

    async def _sync(
        self, monitor: ResourceMonitor, spec: ResourceMonitorSpec, scope: Scope, asking: frozenset[str]
    ) -> Failure | None:
        resources = {
            resource.metadata.name: resource
            for resource in self._informers.resources.objects()
            if resource.metadata.namespace == monitor.metadata.namespace
        }
        key = key_of(monitor)
        of_others = {group for other, made in self._made.items() if other != key for group in made}
        groups = {_group(spec, scope, tag) for tag in asking}
        changes = discovery.plan_discovery(
            asking,
            [self._found(monitor, spec, scope, resource) for resource in resources.values()],
            template=api.name_template(spec),
            place={"type": spec.type, "region": scope.region, "account": scope.account},
            prune=spec.prune,
            taken={
                group.tag for group in groups if group in of_others or self._informers.resources_for(group)
            },
        )
        self._made[key] = {_group(spec, scope, tag) for tag in changes.create.values()}
        failures = [
            await self._create(monitor, spec, scope, name, tag) for name, tag in changes.create.items()
        ]
        if changes.delete and not await self._consistency.confirm_within():
            failures += [await self._delete(monitor, spec, scope, name) for name in changes.delete]
        return next(filter(None, failures), None)

    async def _delete(
        self, monitor: ResourceMonitor, spec: ResourceMonitorSpec, scope: Scope, name: str
    ) -> Failure | None:
        """Delete a Resource, unless a user has booked it or its group asks for it again since the plan."""
        resource = self._informers.resources.get(Key(monitor.metadata.namespace, name))
        found = self._found(monitor, spec, scope, resource) if resource is not None else None
        if resource is None or found is None or not found.prunable:
            return None
        if found.tag in self._drivers[spec.type].inventory.managed_tags(scope):
            return None
        return await try_write(self._objects.delete(RESOURCE, resource), name)

    def _found(
        self, monitor: ResourceMonitor, spec: ResourceMonitorSpec, scope: Scope, resource: Resource
    ) -> KnownResource:
        group, meta = resource.group(self._informers.default_region), resource.metadata
        ours = group is not None and group == _group(spec, scope, group.tag)
        made = meta.annotations.get(MONITOR_ANNOTATION) == monitor.metadata.name
        prunable = (
            spec.prune
            and ours
            and made
            and not self._informers.has_unfinished_booking(resource, self._clock.now())
        )
        return KnownResource(meta.name, group.tag if group and ours else None, prunable)

    async def _create(
        self, monitor: ResourceMonitor, spec: ResourceMonitorSpec, scope: Scope, name: str, tag: str
    ) -> Failure | None:
        where = {"region": spec.region, "account": spec.account}
        made = {"type": spec.type, "tag": tag} | {field: at for field, at in where.items() if at}
        annotations = {MONITOR_ANNOTATION: monitor.metadata.name}
        namespace = monitor.metadata.namespace
        write = self._objects.create(RESOURCE, namespace, name, made, annotations=annotations)
        failure = await try_create(write, name)
        if failure is not None:
            # A monitor of another namespace may have the permission and the quota.
            self._made[key_of(monitor)].discard(_group(spec, scope, tag))
        return failure


def _group(spec: ResourceMonitorSpec, scope: Scope, tag: str) -> Group:
    return Group(spec.type, scope.account, scope.region, tag)
