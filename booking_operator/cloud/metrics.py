"""What the cloud adapters tell those who measure them; without such a one nothing is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from booking_operator.cloud.driver import CloudError, Scope
from booking_operator.engine.clock import Clock


class CloudMetrics(Protocol):
    """What is measured of the calls."""

    def called(self, service: str, action: str, scope: Scope, result: str, seconds: float) -> None:
        """A call has ended after so long; `result` is the class of its failure, or "ok"."""
        ...

    def batched(self, action: str, instances: int) -> None:
        """A call for so many instances is about to leave."""
        ...

    def aws_skewed(self, ahead: timedelta) -> None:
        """So far our clock is ahead of AWS's at least; behind: negative."""
        ...


class _Unmeasured:
    def called(self, *_: object) -> None:
        """Take note of nothing."""

    def batched(self, *_: object) -> None:
        """Take note of nothing."""

    def aws_skewed(self, _: timedelta) -> None:
        """Take note of nothing."""


UNMEASURED: CloudMetrics = _Unmeasured()
"""For those who measure nothing."""


@contextmanager
def measured(metrics: CloudMetrics, clock: Clock, permission: str, scope: Scope) -> Iterator[None]:
    """Have the one call that is made inside measured.

    Args:
        metrics: who is told.
        clock: what tells the time.
        permission: what is called, in the form of an IAM permission, like `ec2:StartInstances`.
        scope: where it is called; of STS, for which account, and whose STS.
    """
    service, _, action = permission.partition(":")
    began = clock.monotonic()
    try:
        yield
    except CloudError as error:
        metrics.called(service, action, scope, error.fault.value, clock.monotonic() - began)
        raise
    metrics.called(service, action, scope, "ok", clock.monotonic() - began)
