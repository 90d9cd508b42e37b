"""Says how an object stands: its status and conditions, and what of that is news as Event and log line."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic, TypeVar

import structlog

from booking_operator.api.kinds import Kind
from booking_operator.api.meta import merge_conditions
from booking_operator.domain.conditions import (
    ConditionEvent,
    ConditionUpdate,
    condition_events,
    invalid_conditions,
)
from booking_operator.engine.store import Object, key_of
from booking_operator.kube.status import StatusWriter
from booking_operator.reconcilers.environment import Environment

T = TypeVar("T", bound=Object)


class StatusReporter(Generic[T]):
    """Reports on the objects of one kind."""

    def __init__(self, kind: Kind[T], environment: Environment) -> None:
        self.kind = kind
        self.status: StatusWriter[T] = environment.statuses[kind]
        self._events = environment.events
        self._log = structlog.get_logger()

    def current(self, object_: T) -> Any:
        """The newest status of the object, written or about to be."""
        return self.status.current(object_)

    def report(
        self,
        object_: T,
        verdicts: Iterable[ConditionUpdate],
        now: datetime,
        *,
        quiet: bool = False,
        **facts: Any,
    ) -> list[ConditionEvent]:
        """Write conditions and `facts` as the status. Report what is new, and return it.

        With `quiet` nothing is reported, for example for what was over long ago.
        """
        current, verdicts = self.current(object_), tuple(verdicts)
        previous = {known.type: (known.reason, known.message) for known in current.conditions}
        news = [] if quiet else condition_events(previous, verdicts)
        for item in news:
            tell = self._events.warning if item.warning else self._events.normal
            tell(self.kind, object_, item.reason, "Reconcile", item.message)
            name = self.kind.name.lower()
            about = {name: str(key_of(object_)), "reason": item.reason, "message": item.message}
            self._log.warning(f"{name}_condition", **about)
        generation = object_.metadata.generation
        conditions = merge_conditions(current.conditions, verdicts, generation, now)
        written = replace(current, **facts, conditions=conditions, observed_generation=generation)
        self.status.set(object_, written)
        return news

    def report_invalid(self, object_: T, reason: str, message: str, now: datetime) -> None:
        """Say that nothing is done for the object, and why."""
        self.report(object_, invalid_conditions(reason, message), now)
