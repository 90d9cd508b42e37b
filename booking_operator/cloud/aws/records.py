"""Reads the rows of a Describe one by one, so that a row that is malformed hides no other.

A row that cannot be read is skipped. Each set of skipped rows is logged once, until it changes; the metric
counts them at each Describe.
"""

from collections.abc import Callable
from typing import TypeVar

import structlog

from booking_operator.domain.group import Scope
from booking_operator.metrics import NO_METRICS, CloudMetrics, FailedPart

R = TypeVar("R")
T = TypeVar("T")

_LOGGED = 20  # malformed rows that are described in one log line
_LONGEST_ERROR = 200  # characters of an error that are logged


class Reading:
    """The rows of one Describe.

    Attributes:
        skipped: what was wrong with the rows that could not be read, by their description.
    """

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def read(self, row: R, parse: Callable[[R], T], name: str) -> T | None:
        """What `parse` makes of a row; None where it raises.

        Args:
            row: what AWS has sent.
            parse: reads it.
            name: the key whose value identifies a row in the log.
        """
        try:
            return parse(row)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one row, the others are good
            self.skipped[_described(row, name)] = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
            return None


class SkippedRows:
    """The rows of one service that could not be read, as they were logged last, by scope."""

    def __init__(self, service: str, metrics: CloudMetrics = NO_METRICS) -> None:
        self._service = service
        self._metrics = metrics
        self._logged: dict[Scope, dict[str, str]] = {}
        self._log = structlog.get_logger()

    def note(self, scope: Scope, reading: Reading) -> None:
        """Log what the Describe of a scope has skipped, where that is news."""
        skipped = reading.skipped
        if skipped:
            self._metrics.unexpected(FailedPart.RECORD, len(skipped))
        if skipped == self._logged.get(scope, {}):
            return
        facts = {"service": self._service, "account": scope.account, "region": scope.region}
        if skipped:
            self._logged[scope] = skipped
            errors = dict(list(skipped.items())[:_LOGGED])
            self._log.warning("records_skipped", **facts, count=len(skipped), errors=errors)
        else:
            del self._logged[scope]
            self._log.info("records_readable", **facts)

    def forget(self, scope: Scope) -> None:
        """Nobody looks at the scope any more."""
        self._logged.pop(scope, None)


def _described(row: object, name: str) -> str:
    """A row in one word: by its id where it has one."""
    found = row.get(name) if isinstance(row, dict) else None
    return str(found) if found else f"without {name}"
