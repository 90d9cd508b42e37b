"""The status checks of running instances: which of them are ready.

EC2 checks each running instance about once a minute. A new start takes minutes until the first checks pass
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-system-instance-status-check.html). The
operator reads the checks only of instances that run, that a Resource with `ready_when: StatusChecks` wants,
and whose checks have not passed yet. Once the checks of an instance have passed, it counts as ready until it
stops. So an idle operator makes no such call. After a restart, the status of a Resource says what was ready.
"""

from asyncio import Event, TaskGroup
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from booking_operator.cloud.driver import CheckedGroup, CheckListener, CloudError
from booking_operator.cloud.instrumentation import unexpected
from booking_operator.cloud.inventory.inventory import Inventory
from booking_operator.cloud.inventory.poll_loop import poll
from booking_operator.cloud.inventory.polling import BACKOFF, IDLE_INTERVAL
from booking_operator.domain.group import Group, Scope
from booking_operator.domain.instance import CHECK_TIMEOUT, InstanceState, StatusCheck
from booking_operator.engine.clock import Clock
from booking_operator.metrics import NO_METRICS, CloudMetrics, FailedPart

CHECK_BATCH = 100
"""How many instances one call names, at most: the limit of DescribeInstanceStatus."""
CHECK_INTERVAL = timedelta(seconds=5)
"""Time between two calls for a scope in which checks have not passed. After `CHECK_TIMEOUT` it is
`IDLE_INTERVAL`."""

ReadChecks = Callable[[Scope, Collection[str]], Awaitable[Mapping[str, str]]]
"""Returns why running instances are not ready, by id. The text is empty for a ready instance. Raises
`CloudError`."""


@dataclass(slots=True)
class _ScopeChecks:
    """The status checks of one scope.

    Attributes:
        checks: the checks of the running instances, by id.
        wanted: the ids of the instances that are booked now.
        sent_at: when the last call was sent (aware UTC).
        reading: whether a call is in flight.
        failures: the number of failed calls in a row.
        error: the error of the last call; None if it succeeded.
    """

    checks: dict[str, StatusCheck] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    sent_at: datetime | None = None
    reading: bool = False
    failures: int = 0
    error: CloudError | None = None

    @property
    def pending(self) -> list[str]:
        """The booked instances whose checks have not passed."""
        return sorted(id_ for id_ in self.wanted if self.checks[id_].passed_at is None)

    @property
    def failure(self) -> CloudError | None:
        """The error of the last call, from the second failure in a row on."""
        return self.error if self.failures > 1 else None

    def track(self, found: Iterable[tuple[CheckedGroup, Sequence[str]]], now: datetime) -> None:
        """Forget the instances that do not run, and add the new ones.

        Args:
            found: the groups, each with the ids of its running instances.
            now: the instant (aware UTC).
        """
        known, self.checks, self.wanted = self.checks, {}, set()
        for item, running in found:
            wanted = item.wanted_from is not None and item.wanted_from <= now
            for id_ in running:
                check = known.get(id_)
                if wanted:
                    self.wanted.add(id_)
                    new = StatusCheck(now, passed_at=now if item.was_ready else None)
                    self.checks[id_] = check or new
                elif check is not None and check.passed_at is not None:
                    self.checks[id_] = check

    def due_at(self, now: datetime) -> datetime | None:
        """Return when the next call is due (aware UTC); None if no instance waits."""
        pending = self.pending
        if not pending or self.reading:
            return None
        if self.sent_at is None or self.sent_at > now:
            return now
        if self.failures:
            return self.sent_at + BACKOFF.after(self.failures)
        recent = any(now - self.checks[id_].since < CHECK_TIMEOUT for id_ in pending)
        return self.sent_at + (CHECK_INTERVAL if recent else IDLE_INTERVAL)

    def record(self, problems: Mapping[str, str], sent_at: datetime) -> set[str]:
        """Record the result of a call. Returns the instances whose checks have changed."""
        changed = set()
        for id_, problem in problems.items():
            check = self.checks.get(id_)
            if check is None or check.passed_at is not None or check.since > sent_at:
                continue  # the instance has stopped since the call was sent
            if not problem:
                self.checks[id_] = replace(check, passed_at=sent_at, problem="")
            elif problem != check.problem:
                self.checks[id_] = replace(check, problem=problem)
            else:
                continue
            changed.add(id_)
        return changed


class StatusChecks:
    """The status checks of one service. Its calls are tasks of `tasks`.

    Args:
        read: reads the checks.
        inventory: the states of the instances.
        clock: the clock.
        tasks: the task group.
        metrics: counts unexpected exceptions.
    """

    def __init__(
        self,
        read: ReadChecks,
        inventory: Inventory,
        clock: Clock,
        tasks: TaskGroup,
        *,
        metrics: CloudMetrics = NO_METRICS,
    ) -> None:
        self._read = read
        self._inventory = inventory
        self._clock = clock
        self._tasks = tasks
        self._metrics = metrics
        self._scopes: dict[Scope, _ScopeChecks] = {}
        self._listener: CheckListener | None = None
        self._known: set[Group] = set()  # the groups that were observed for this listener
        self._wake = Event()
        inventory.on_viewed(lambda _: self._wake.set())

    def set_listener(self, listener: CheckListener) -> None:
        """Read the checks of the groups that `listener` selects from now on."""
        self._listener = listener
        self._known.clear()
        self._wake.set()

    def of(self, scope: Scope) -> Mapping[str, StatusCheck]:
        """Return the known checks of the instances of a scope, by id."""
        found = self._scopes.get(scope)
        return found.checks if found else {}

    def failure(self, scope: Scope) -> CloudError | None:
        """Return why the checks of a scope cannot be read; None if they can."""
        found = self._scopes.get(scope)
        return found.failure if found else None

    async def poll(self) -> None:
        """Read the checks that are due, until cancelled."""
        await poll(self._read_what_is_due, self._clock, self._wake, self._metrics, "status checks")

    def _read_what_is_due(self, now: datetime) -> datetime | None:
        """Start the calls that are due at `now`. Returns when the next one is due; None for never."""
        running = self._running()
        for scope in [scope for scope in self._scopes if scope not in running]:
            if self._scopes[scope].reading:
                self._scopes[scope].track((), now)
            else:
                del self._scopes[scope]
        coming = [item.wanted_from for found in running.values() for item, _ in found if item.wanted_from]
        next_at = min((instant for instant in coming if instant > now), default=None)
        for scope, found in running.items():
            state = self._scopes.setdefault(scope, _ScopeChecks())
            state.track(found, now)
            due_at = state.due_at(now)
            if due_at is not None and due_at <= now:
                state.reading, state.sent_at = True, now
                self._tasks.create_task(
                    self._read_scope(scope, state, now), name=f"status checks: {scope.region}"
                )
            elif due_at is not None:
                next_at = min(next_at or due_at, due_at)
        return next_at

    def _running(self) -> dict[Scope, list[tuple[CheckedGroup, Sequence[str]]]]:
        """Return the groups whose checks matter and that have running instances, with their ids.

        The status of a Resource counts only for the instances that run in the first view of its group.
        """
        found: dict[Scope, list[tuple[CheckedGroup, Sequence[str]]]] = {}
        known, self._known = self._known, set()
        for item in self._listener.checked_groups() if self._listener else ():
            observation = self._inventory.observation(item.group)
            if observation is None:
                continue
            self._known.add(item.group)
            if running := observation.ids(InstanceState.RUNNING):
                seen = replace(item, was_ready=item.was_ready and item.group not in known)
                found.setdefault(item.group.scope, []).append((seen, running))
        return found

    async def _read_scope(self, scope: Scope, state: _ScopeChecks, sent_at: datetime) -> None:
        before, changed, failure = state.failure, set[str](), None
        pending = state.pending
        try:
            for begin in range(0, len(pending), CHECK_BATCH):
                try:
                    answer = await self._read(scope, pending[begin : begin + CHECK_BATCH])
                    changed |= state.record(answer, sent_at)
                except CloudError as error:  # the other batches may succeed
                    failure = error
        except Exception as error:  # noqa: BLE001 - the checks of all scopes must be read
            facts = {"account": scope.account, "region": scope.region}
            failure = unexpected(self._metrics, FailedPart.VIEW, "status checks", error, **facts)
        finally:
            state.reading = False
            self._wake.set()
        state.error, state.failures = failure, state.failures + 1 if failure else 0
        if changed or (before is None) is not (state.failure is None):
            self._notify(scope)

    def _notify(self, scope: Scope) -> None:
        """Notify the listener of the groups of a scope. If it raises, the polls continue."""
        listener = self._listener
        try:
            for item in listener.checked_groups() if listener else ():
                if item.group.scope == scope and listener is not None:
                    listener.group_changed(item.group)
        except Exception as error:  # noqa: BLE001 - see above
            unexpected(self._metrics, FailedPart.LISTENER, "wake", error, region=scope.region)
