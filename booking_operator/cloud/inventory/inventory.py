"""The shared view of all instances: one Describe per scope serves all its groups.

Invariants, for each scope:
- At most one call is in flight, and at most one more is requested after it.
- A caller that requests a view since T gets one from a call that was sent at T or later. Callers share such a
  call.
- Calls are tasks of the inventory's task group, so a cancelled caller does not cancel the call for others.
- An error goes to all callers that wait for the call; the last good view remains.
- An exception that no rule covers fails one call, one poll or one listener, and ends no task.

A scope that is no longer tracked is dropped after `RETENTION`, so that memory stays bounded.
"""

import asyncio
from asyncio import Event, TaskGroup
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import TypeVar

import structlog

from booking_operator.cloud.driver import (
    Action,
    ActionAnswer,
    CloudError,
    InventoryListener,
    Operation,
    Record,
)
from booking_operator.cloud.instrumentation import unexpected
from booking_operator.cloud.inventory.poll_loop import poll
from booking_operator.cloud.inventory.polling import (
    IDLE_INTERVAL,
    TRANSIENT_KINDS,
    DescribeCall,
    Interest,
    ScopeWatch,
)
from booking_operator.domain.group import Group, Scope, spelling
from booking_operator.domain.instance import InstanceState, Lock, Observation
from booking_operator.engine.clock import Clock
from booking_operator.engine.introspection import Contents
from booking_operator.metrics import NO_METRICS, CloudMetrics, FailedPart

T = TypeVar("T")

Describe = Callable[[Scope], Awaitable[Iterable[Record]]]
"""Requests all instances of a scope that have the application tag; raises `CloudError`."""

Release = Callable[[Scope], Awaitable[None]]
"""Releases the resources of a dropped scope, such as a client."""


async def keep(_: Scope) -> None:
    """Release nothing."""


class Inventory:
    """The views of the instances of any number of scopes. Its calls are tasks of `tasks`."""

    def __init__(
        self,
        describe: Describe,
        clock: Clock,
        tasks: TaskGroup,
        *,
        release: Release = keep,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self._describe = describe
        self._release = release
        self._clock = clock
        self._tasks = tasks
        self._metrics = metrics
        self._watches: dict[Scope, ScopeWatch] = {}
        self._listener: InventoryListener | None = None
        self._viewers: list[Callable[[Scope], None]] = []
        self._wake = Event()
        self._log = structlog.get_logger()

    @property
    def watched(self) -> Mapping[Scope, ScopeWatch]:
        """The scopes that are polled."""
        return {scope: self._watch(scope) for scope in self._tracked()}

    def introspect(self) -> Contents:
        """The scopes that have a view."""
        return {"views": self._watches.keys()}

    def observation(self, group: Group) -> Observation | None:
        """Return the newest observation of the group; None before the first view of its scope."""
        return self._watch(group.scope).view.observation(group.tag)

    def managed_tags(self, scope: Scope) -> frozenset[str]:
        """Return the tags of the groups that ask for a Resource; empty before the first view of the scope."""
        return self._watch(scope).view.managed

    def similar_tags(self, scope: Scope) -> Collection[tuple[str, ...]]:
        """Return the tags of groups that differ only by case or blanks, each as a tuple of two or more."""
        return [tags for tags in self._watch(scope).view.spellings.values() if len(tags) > 1]

    def failure(self, scope: Scope) -> CloudError | None:
        """Return why the view of the scope is outdated, or None if it is current.

        A single transient failure does not count.
        """
        return self._watch(scope).failure

    def hibernating(self, scope: Scope, ids: Iterable[str]) -> tuple[str, ...]:
        """Return those of `ids` that were launched with hibernation enabled, as far as known."""
        return self._watch(scope).view.hibernating(ids)

    def pool(self, scope: Scope, id_: str) -> str:
        """Return the type and the zone of an instance, which share capacity; empty if unknown."""
        return self._watch(scope).view.pool(id_)

    def changed_at(self, scope: Scope, id_: str) -> datetime | None:
        """Return when a Describe last showed another state of an instance (aware UTC); None if unknown."""
        return self._watch(scope).view.changed_at(id_)

    def failed_start_error(self, scope: Scope, id_: str) -> CloudError | None:
        """Return why an instance must not be started now, or None. Its last start may have failed."""
        return self._watch(scope).view.starts.active_failure(id_, self._clock.now())

    def state_of(self, group: Group, id_: str) -> InstanceState | None:
        """Return the state of an instance of the group in the newest view, or None if it is unknown."""
        observation = self.observation(group)
        instances = observation.instances if observation else ()
        return next((instance.state for instance in instances if instance.id == id_), None)

    async def refresh(self, scope: Scope, since: datetime) -> datetime:
        """Ensure a view whose call was sent at `since` or later (aware UTC).

        A `since` in the future means now.

        Returns:
            When the call of the view was sent (aware UTC).

        Raises:
            CloudError: the call failed, or the scope is in back-off.
        """
        watch = self._watch(scope)
        while True:
            now, at = self._clock.now(), watch.view.at
            since = min(since, now)
            if at is not None and since <= at <= now:  # a view from the future precedes a clock set back
                return at
            if (error := watch.backoff_error(now)) is not None:
                raise error
            await self._call(watch, since).outcome()

    def record_accepted(
        self, group: Group, operation: Operation, answers: Mapping[str, ActionAnswer]
    ) -> None:
        """Record the service's response to an operation that it accepted."""
        if operation.action in {Action.TAG, Action.UNTAG}:
            self.record_lock(group, list(answers), operation.lock)
        else:
            self.record_answers(group, answers)

    def record_answers(self, group: Group, answers: Mapping[str, ActionAnswer]) -> None:
        """Record the response to an accepted action, and poll the scope more often."""
        watch = self._watch(group.scope)
        watch.moved_at = self._clock.now()
        watch.view.record_answers(group.tag, answers, watch.moved_at)
        self._wake.set()

    def record_lock(self, group: Group, ids: Collection[str], lock: Lock | None) -> None:
        """Record lock tags that were written, or removed if `lock` is None."""
        self._watch(group.scope).view.record_lock(group.tag, ids, lock, self._clock.now())

    def set_listener(self, listener: InventoryListener) -> None:
        """Poll the scopes that `listener` selects from now on.

        The listener is notified of each group whose instances have changed. It is notified of all groups of a
        scope after the first view, after the scope has failed, and after it has recovered.
        """
        self._listener = listener
        self._wake.set()

    def on_viewed(self, call: Callable[[Scope], None]) -> None:
        """Call `call` with the scope of each new view, also if nothing has changed."""
        self._viewers.append(call)

    async def poll(self) -> None:
        """Keep the views of all tracked groups current, until cancelled."""
        await poll(self._call_what_is_due, self._clock, self._wake, self._metrics, "poll")

    def _call_what_is_due(self, now: datetime) -> datetime:
        """Start the calls that are due at `now`, and return when to check again."""
        # A newly tracked scope is noticed at this time at the latest.
        next_at = now + IDLE_INTERVAL
        tracked = self._tracked()
        self._forget_unused(tracked, now)
        for scope, interest in tracked.items():
            watch = self._watch(scope)
            if watch.busy:
                continue
            due_at = watch.due_at(interest, now)
            if due_at <= now:
                self._call(watch, now)
            else:
                next_at = min(next_at, due_at)
        return next_at

    def _forget_unused(self, tracked: Mapping[Scope, Interest], now: datetime) -> None:
        """Drop the scopes that are neither tracked nor used. Without a listener, keep all."""
        if self._listener is None:
            return
        watches = self._watches.items()
        for scope in [scope for scope, watch in watches if scope not in tracked and watch.unused(now)]:
            if self._watches.pop(scope).sent_at is not None:
                self._tasks.create_task(self._let_go(scope))

    async def _let_go(self, scope: Scope) -> None:
        try:
            await self._release(scope)
        except Exception as error:  # noqa: BLE001 - a resource that is not released does no harm
            facts = {"account": scope.account, "region": scope.region}
            unexpected(self._metrics, FailedPart.POLL, "release", error, **facts)

    def _watch(self, scope: Scope) -> ScopeWatch:
        watch = self._watches.get(scope)
        if watch is None:
            watch = self._watches[scope] = ScopeWatch(scope)
        return watch

    def _tracked(self) -> dict[Scope, Interest]:
        if self._listener is None:
            return {}
        tracked = {scope: Interest(period) for scope, period in self._listener.polling_periods().items()}
        for group in self._listener.groups():
            interest = tracked.setdefault(group.scope, Interest(IDLE_INTERVAL))
            interest.period = min(interest.period, IDLE_INTERVAL)
            interest.tags.add(group.tag)
        return tracked

    def _call(self, watch: ScopeWatch, since: datetime) -> DescribeCall:
        """Return the call that serves callers since `since`: the one in flight, or the next one."""
        under_way = watch.under_way
        if under_way is not None and under_way.sent_at is not None and under_way.sent_at >= since:
            return under_way
        if watch.next_call is None:
            watch.next_call = DescribeCall()
            if under_way is None:
                # `sent_at` is set in the first step of the task. All callers until then share the call.
                task = self._tasks.create_task(
                    self._make_calls(watch), name=f"describe: {watch.scope.region}"
                )
                task.add_done_callback(partial(_cut_off, watch))
        return watch.next_call

    async def _make_calls(self, watch: ScopeWatch) -> None:
        """Make calls as long as one is requested."""
        while (call := watch.next_call) is not None:
            watch.under_way, watch.next_call = call, None
            call.sent_at = watch.sent_at = self._clock.now()
            call.error = await self._looked(watch, call.sent_at)
            watch.under_way = None
            call.done.set()
            self._wake.set()

    async def _looked(self, watch: ScopeWatch, sent_at: datetime) -> CloudError | None:
        """Make one call, and update the view. Return the error, or None."""
        try:
            self._succeeded(watch, await self._describe(watch.scope), sent_at)
        except CloudError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the polls of all scopes must continue
            facts = {"account": watch.scope.account, "region": watch.scope.region}
            failure = unexpected(self._metrics, FailedPart.VIEW, "Describe", error, **facts)
        else:
            return None
        self._failed(watch, failure)
        return failure

    def _succeeded(self, watch: ScopeWatch, records: Iterable[Record], sent_at: datetime) -> None:
        now, first = self._clock.now(), watch.view.at is None
        managed, spellings = watch.view.managed, watch.view.spellings
        tags = watch.view.update(records, sent_at, now)
        if tags:
            watch.moved_at = now
        recovered, watch.failure, watch.failures = watch.failure is not None, None, 0
        watch.last_error = None
        for call in self._viewers:
            self._wake_listener(call, watch.scope)
        if recovered:
            self._log.info("describe_recovered", account=watch.scope.account, region=watch.scope.region)
        if first or recovered:
            self._notify(watch.scope, None)
        else:
            respelled = {
                name
                for name in spellings.keys() | watch.view.spellings.keys()
                if spellings.get(name) != watch.view.spellings.get(name)
            }
            listed = bool(respelled) or managed != watch.view.managed
            self._notify(watch.scope, lambda tag: tag in tags or spelling(tag) in respelled, listed=listed)

    def _failed(self, watch: ScopeWatch, error: CloudError) -> None:
        watch.failures += 1
        watch.last_error = error
        if watch.failures == 1 and error.kind in TRANSIENT_KINDS:
            return  # the next call usually succeeds, so do not notify the listener
        before, watch.failure = watch.failure, error
        if before is None or before.reason != error.reason:
            scope = watch.scope
            self._log.warning(
                "describe_failed",
                account=scope.account,
                region=scope.region,
                reason=error.reason,
                message=str(error),
            )
        if before is None:
            self._notify(watch.scope, None)

    def _notify(self, scope: Scope, changed: Callable[[str], bool] | None, *, listed: bool = True) -> None:
        """Notify the listener of the tracked groups of `scope` whose tags have `changed`; None means all."""
        listener = self._listener
        if listener is None:
            return

        def wake(concerned: Scope) -> None:
            for group in listener.groups():
                if group.scope == concerned and (changed is None or changed(group.tag)):
                    self._wake_listener(listener.group_changed, group)

        self._wake_listener(wake, scope)
        if listed:
            self._wake_listener(listener.scope_changed, scope)

    def _wake_listener(self, listener: Callable[[T], None], concerned: T) -> None:
        """Call a listener. If it raises, the other listeners and the view are unaffected."""
        try:
            listener(concerned)
        except Exception as error:  # noqa: BLE001 - see above
            unexpected(self._metrics, FailedPart.LISTENER, "wake", error, concerned=str(concerned))


def _cut_off(watch: ScopeWatch, task: asyncio.Task[None]) -> None:
    """Release the callers of a call whose task was cancelled by the shutdown, even before its first step."""
    if task.cancelled() or task.exception() is not None:
        for call in (watch.under_way, watch.next_call):
            if call is not None:
                call.done.set()
