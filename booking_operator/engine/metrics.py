"""What controllers report to be measured: client-go's `MetricsProvider`, in this engine's terms.

The engine knows nothing of Prometheus. A caller that measures gives a provider; without one nothing is
measured.
"""

from collections.abc import Callable, Hashable
from enum import StrEnum
from typing import Protocol


class ReconcileOutcome(StrEnum):
    """How a reconcile has ended."""

    SUCCESS = "success"
    REQUEUE = "requeue"
    """It asks to be tried again: something that it needs is not there yet, or refuses."""
    TIMEOUT = "timeout"
    ERROR = "error"
    """An exception that nobody expected: a bug."""


class ControllerMetrics(Protocol):
    """What is measured of one controller and its queue."""

    def added(self) -> None:
        """A key was made ready to be handed out."""
        ...

    def waited(self, seconds: float) -> None:
        """A key was handed out, so long after it was added, or after it was due by the clock."""
        ...

    def retried(self) -> None:
        """A key comes back after a back-off."""
        ...

    def reconcile_started(self, key: Hashable, /) -> None:
        """A reconcile of `key` begins."""
        ...

    def reconcile_ended(self, key: Hashable, /) -> None:
        """The reconcile of `key` is over, also when it was cancelled or has raised."""
        ...

    def reconciled(self, outcome: ReconcileOutcome, seconds: float) -> None:
        """A reconcile has ended after so long. Not called for one that was cancelled."""
        ...


class _Unmeasured:
    """Takes note of nothing."""

    def added(self) -> None:
        pass

    def waited(self, _: float) -> None:
        pass

    def retried(self) -> None:
        pass

    def reconcile_started(self, _: Hashable, /) -> None:
        pass

    def reconcile_ended(self, _: Hashable, /) -> None:
        pass

    def reconciled(self, _: ReconcileOutcome, __: float) -> None:
        pass


MetricsProvider = Callable[[str], ControllerMetrics]
"""Gives what measures the controller of a name. A name that comes again goes on where it was."""

UNMEASURED: ControllerMetrics = _Unmeasured()


def unmeasured(_: str) -> ControllerMetrics:
    """The provider of those who measure nothing."""
    return UNMEASURED
