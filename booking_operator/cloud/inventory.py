"""One view of all instances of an account and region, shared by everybody who asks.

It is polled slowly while nothing moves and fast while something does, and anybody can ask for a view that is
not older than an instant. However many ask, there is one call under way per scope.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from booking_operator.cloud.driver import CloudError, Group
from booking_operator.cloud.session import Scope
from booking_operator.domain.instance import Instance, Observation, State
from booking_operator.engine.clock import Clock, wait_until
from booking_operator.engine.queue import Backoff

IDLE = timedelta(seconds=60)
MOVING = timedelta(seconds=1.5)
LINGERING = timedelta(seconds=15)
"""Interval while something has been on its way for longer than `LONG_MOVE`."""
LONG_MOVE = timedelta(minutes=10)
READ_LAG = timedelta(seconds=10)
"""How long after an action a view that still shows the state before it is not believed.
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html"""
_ERRORS = Backoff(first=timedelta(seconds=1), longest=IDLE)
_ON_THE_WAY = {State.PENDING, State.STOPPING}


@dataclass(frozen=True, slots=True)
class Fleet:
    """What one Describe told: the instances of each group, and which of all can hibernate."""

    groups: Mapping[str, tuple[Instance, ...]] = field(default_factory=dict)
    hibernating: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Noted:
    """The state an action answered for an instance, and the one it had before."""

    before: State
    after: State
    answered_at: datetime

    def outdates(self, described: State, sent_at: datetime) -> bool:
        """Whether it is to be believed over a Describe that was sent at `sent_at`."""
        if sent_at < self.answered_at:
            return True
        return described is self.before and sent_at - self.answered_at < READ_LAG


@dataclass(slots=True)
class _View:
    """All that is known of one scope. `call` is there while a Describe is under way."""

    fleet: Fleet = field(default_factory=Fleet)
    at: datetime | None = None
    noted: dict[str, _Noted] = field(default_factory=dict)
    call: "asyncio.Future[None] | None" = None
    sent_at: datetime | None = None
    moving_since: datetime | None = None
    failures: int = 0

    def pause(self, now: datetime) -> timedelta:
        """How long after the last Describe the next one is due."""
        if self.failures:
            return _ERRORS.after(self.failures)
        if self.moving_since is None:
            return IDLE
        return MOVING if now - self.moving_since < LONG_MOVE else LINGERING

    def due(self, now: datetime) -> datetime:
        return now if self.sent_at is None else self.sent_at + self.pause(now)


Describe = Callable[[Scope], Awaitable[Fleet]]
Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine in a TaskGroup of the owner's."""


class Inventory:
    """The views of all scopes. `describe` raises `CloudError` and nothing else."""

    def __init__(self, describe: Describe, clock: Clock, spawn: Spawn) -> None:
        self._describe = describe
        self._clock = clock
        self._spawn = spawn
        self._views: dict[Scope, _View] = {}
        self._groups: Callable[[], Collection[Group]] = tuple
        self._changed: Callable[[Group], None] = _nobody
        self._nudge = asyncio.Event()
        self._log = structlog.get_logger()

    def track(self, groups: Callable[[], Collection[Group]], changed: Callable[[Group], None]) -> None:
        """Poll the scopes of `groups` from now on, and call `changed` for each group that looks different."""
        self._groups, self._changed = groups, changed
        self._nudge.set()

    def last(self, group: Group) -> Observation | None:
        """The newest view of a group, actions noted since included."""
        view = self._views.get(scope_of(group))
        if view is None or view.at is None:
            return None
        return Observation(view.fleet.groups.get(group.tag, ()), view.at)

    def hibernating(self, group: Group) -> frozenset[str]:
        """Ids of the instances that can hibernate."""
        view = self._views.get(scope_of(group))
        return view.fleet.hibernating if view else frozenset()

    async def observe(self, group: Group, since: datetime) -> Observation:
        """A view that was asked for at `since` or later.

        Raises:
            CloudError: the Describe that was to bring it failed.
        """
        scope = scope_of(group)
        while True:
            observation = self.last(group)
            if observation is not None and observation.at >= since:
                return observation
            view = self._views.setdefault(scope, _View())
            call, sent_at = self._call(scope, view)
            try:
                # Shielded: one asker that gives up must not take the answer from the others.
                await asyncio.shield(call)
            except CloudError:
                if sent_at >= since:
                    raise

    def note(self, group: Group, states: Mapping[str, State]) -> None:
        """Take the states that an accepted action has answered."""
        view = self._views.setdefault(scope_of(group), _View())
        now = self._clock.now()
        known = {instance.id: instance.state for instance in view.fleet.groups.get(group.tag, ())}
        for id_, after in states.items():
            if id_ in known:
                view.noted[id_] = _Noted(before=known[id_], after=after, answered_at=now)
        self._show(view, view.fleet, view.at)
        view.moving_since = now
        self._nudge.set()

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            self._nudge.clear()
            now = self._clock.now()
            scopes = {scope_of(group) for group in self._groups()}
            for scope in self._views.keys() - scopes:
                if self._views[scope].call is None:
                    del self._views[scope]
            for scope in scopes:
                view = self._views.setdefault(scope, _View())
                if view.call is None and view.due(now) <= now:
                    self._call(scope, view)
            waiting = [view.due(now) for view in self._views.values() if view.call is None]
            await wait_until(self._clock, min(waiting, default=now + IDLE), self._nudge)

    def _call(self, scope: Scope, view: _View) -> tuple["asyncio.Future[None]", datetime]:
        """The Describe under way, or a new one."""
        if view.call is None or view.sent_at is None:
            view.sent_at = self._clock.now()
            view.call = asyncio.get_running_loop().create_future()
            self._spawn(self._fetch(scope, view, view.call, view.sent_at))
        return view.call, view.sent_at

    async def _fetch(
        self, scope: Scope, view: _View, call: "asyncio.Future[None]", sent_at: datetime
    ) -> None:
        try:
            fleet = await self._describe(scope)
        except CloudError as error:
            view.failures += 1
            view.call = None
            if view.failures == 1:
                self._log.warning("describe_failed", **scope._asdict(), reason=error.reason, error=str(error))
            call.set_exception(error)
            call.exception()  # seen, even where nobody waits for this poll
        except asyncio.CancelledError:
            call.cancel()
            raise
        else:
            if view.failures:
                self._log.info("describe_recovered", **scope._asdict(), failures=view.failures)
            view.failures, view.call = 0, None
            before = view.fleet.groups
            self._show(view, fleet, sent_at)
            call.set_result(None)
            self._tell(scope, before, view.fleet.groups)
        self._nudge.set()

    def _show(self, view: _View, fleet: Fleet, sent_at: datetime | None) -> None:
        """Make `fleet`, described at `sent_at`, the view, corrected by the actions it cannot know of yet."""
        if sent_at is None:
            return
        described = {
            instance.id: instance.state for instances in fleet.groups.values() for instance in instances
        }
        view.noted = {
            id_: noted
            for id_, noted in view.noted.items()
            if id_ in described and noted.outdates(described[id_], sent_at)
        }
        after = {id_: noted.after for id_, noted in view.noted.items()}
        groups = fleet.groups
        if after:
            groups = {
                tag: Observation(instances, sent_at).with_states(after).instances
                for tag, instances in groups.items()
            }
        view.fleet, view.at = Fleet(groups, fleet.hibernating), sent_at
        moving = any(instance.state in _ON_THE_WAY for group in groups.values() for instance in group)
        view.moving_since = (view.moving_since or sent_at) if moving else None

    def _tell(
        self, scope: Scope, old: Mapping[str, tuple[Instance, ...]], new: Mapping[str, tuple[Instance, ...]]
    ) -> None:
        for group in self._groups():
            if scope_of(group) == scope and old.get(group.tag, ()) != new.get(group.tag, ()):
                self._changed(group)


def scope_of(group: Group) -> Scope:
    """The scope a group is seen in."""
    return Scope(group.account, group.region)


def _nobody(_: Group) -> None:
    """No one is told before `track`."""
