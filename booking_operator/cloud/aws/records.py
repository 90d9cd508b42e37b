"""Parses the rows of a Describe one by one, so that an invalid row does not hide the others.

Invalid rows are skipped. A set of skipped rows is logged when it changes. The metric counts them at each
Describe.
"""

from collections.abc import Callable
from typing import TypeVar

import structlog

from booking_operator.domain.group import Scope
from booking_operator.metrics import NO_METRICS, CloudMetrics, FailedPart

R = TypeVar("R")
T = TypeVar("T")

_MAX_LOGGED_ROWS = 20  # invalid rows in one log record
_MAX_ERROR_LENGTH = 200  # characters of an error in a log record


class Reading:
    """The rows of one Describe.

    Attributes:
        skipped: the errors of the skipped rows, by row id.
    """

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def read(self, row: R, parse: Callable[[R], T], name: str) -> T | None:
        """Parse a row; return None and record the error if `parse` raises.

        Args:
            row: the row that AWS sent.
            parse: the function that parses it.
            name: the key whose value identifies a row in the log.
        """
        try:
            return parse(row)
        except Exception as error:  # noqa: BLE001 - one invalid row must not hide the others
            self.skipped[_described(row, name)] = f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH]
            return None


class SkippedRows:
    """The skipped rows of one service that were logged last, by scope."""

    def __init__(self, service: str, metrics: CloudMetrics = NO_METRICS) -> None:
        self._service = service
        self._metrics = metrics
        self._logged: dict[Scope, dict[str, str]] = {}
        self._log = structlog.get_logger()

    def note(self, scope: Scope, reading: Reading) -> None:
        """Count and log the skipped rows of a Describe. The log contains changes only."""
        skipped = reading.skipped
        if skipped:
            self._metrics.unexpected(FailedPart.RECORD, len(skipped))
        if skipped == self._logged.get(scope, {}):
            return
        facts = {"service": self._service, "account": scope.account, "region": scope.region}
        if skipped:
            self._logged[scope] = skipped
            errors = dict(list(skipped.items())[:_MAX_LOGGED_ROWS])
            self._log.warning("records_skipped", **facts, count=len(skipped), errors=errors)
        else:
            del self._logged[scope]
            self._log.info("records_recovered", **facts)

    def forget(self, scope: Scope) -> None:
        """Drop the state of a scope that is no longer polled."""
        self._logged.pop(scope, None)


def _described(row: object, name: str) -> str:
    """Return the id of a row, or a placeholder if it has none."""
    found = row.get(name) if isinstance(row, dict) else None
    return str(found) if found else f"without {name}"
