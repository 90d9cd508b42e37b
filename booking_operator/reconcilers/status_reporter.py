"""Writes the status of an object, and records changed conditions as Events and log lines."""

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
    """Reports the status of the objects of one kind.

    Attributes:
        kind: the kind.
        status: the status writer of the kind.
    """

    def __init__(self, kind: Kind[T], environment: Environment) -> None:
        self.kind = kind
        self.status: StatusWriter[T] = environment.statuses[kind]
        self._events = environment.events
        self._log = structlog.get_logger()

    def current(self, object_: T) -> Any:
        """Return the newest status of an object, including a status that is not written yet."""
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
        """Set the conditions and other status fields of an object, and record an Event for each news.

        The status writer writes the status asynchronously.

        Args:
            object_: the object.
            verdicts: the conditions.
            now: the transition time of conditions that change (aware UTC).
            quiet: record neither Events nor log lines, for example for a finished Booking.
            **facts: the other fields of the status.

        Returns:
            The recorded Events.
        """
        current, verdicts = self.current(object_), tuple(verdicts)
        previous = {known.type: (known.reason, known.message) for known in current.conditions}
        news = [] if quiet else condition_events(previous, verdicts)
        for item in news:
            tell = self._events.warning if item.warning else self._events.normal
            tell(self.kind, object_, item.reason, "Reconcile", item.message)
            name = self.kind.name.lower()
            about = {name: str(key_of(object_)), "reason": item.reason, "message": item.message}
            self._log.warning(f"{name}_condition_changed", **about)
        generation = object_.metadata.generation
        conditions = merge_conditions(current.conditions, verdicts, generation, now)
        written = replace(current, **facts, conditions=conditions, observed_generation=generation)
        self.status.set(object_, written)
        return news

    def report_invalid(self, object_: T, reason: str, message: str, now: datetime, **facts: Any) -> None:
        """Report that the operator does nothing for an object, and why."""
        self.report(object_, invalid_conditions(reason, message), now, **facts)
