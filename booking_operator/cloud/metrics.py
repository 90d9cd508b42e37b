"""What is measured of the cloud adapters. Without a provider of metrics nothing is measured.

An exception that no rule covers is a fault of the operator, or an answer that AWS does not document. It fails
the one call, view or batch in which it is raised, and nothing else: `unexpected` logs it with its traceback,
counts it, and makes it a `CloudError`, so that a condition names it and the usual back-off applies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import structlog

from booking_operator.cloud.driver import CloudError, FailureKind, Scope
from booking_operator.engine.clock import Clock


class Part(StrEnum):
    """What an unexpected exception has failed."""

    CALL = "call"
    """A call of AWS, reading the answer included."""
    VIEW = "view"
    """Opening a client, reading the answer to a Describe, or updating the view of the instances from it."""
    LISTENER = "listener"
    """A listener that is woken by a change of the instances."""
    POLL = "poll"
    """The decision which regions to look at."""
    BATCH = "batch"
    """The treatment of a batch, before or after its call."""
    QUEUE = "queue"
    """The decision what is sent by the next call."""
    CREDENTIALS = "credentials"
    """The renewal of credentials."""
    DELAYS = "delays"
    """The forecast of delays."""
    RECORD = "record"
    """Reading one record of a Describe, which is skipped."""


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

    def unexpected(self, part: Part, times: int = 1) -> None:
        """An exception that no rule covers has failed a part, so many times."""
        ...


class _Unmeasured:
    def called(self, *_: object) -> None:
        """Take note of nothing."""

    def batched(self, *_: object) -> None:
        """Take note of nothing."""

    def aws_skewed(self, _: timedelta) -> None:
        """Take note of nothing."""

    def unexpected(self, *_: object) -> None:
        """Take note of nothing."""


UNMEASURED: CloudMetrics = _Unmeasured()
"""For those who measure nothing."""


def unexpected(
    metrics: CloudMetrics, part: Part, action: str, error: Exception, **facts: object
) -> CloudError:
    """Log an exception that no rule covers, with its traceback, and count it.

    Args:
        metrics: counts it.
        part: what it has failed.
        action: what was being done, as a condition names it.
        error: the exception.
        facts: further fields of the log line.

    Returns:
        The error for all callers that wait. Whether AWS has done anything is not known, so its fault is LOST.
        Its message names the type of the exception only: the text of an exception may differ each time.
    """
    structlog.get_logger().error("unexpected_error", part=part.value, action=action, **facts, exc_info=error)
    metrics.unexpected(part)
    text = f"{action}: an unexpected {type(error).__name__}; the log of the operator has the traceback."
    return CloudError("UnexpectedError", text, kind=FailureKind.LOST)


@contextmanager
def measured(metrics: CloudMetrics, clock: Clock, permission: str, scope: Scope) -> Iterator[None]:
    """Have the one call that is made inside measured.

    Args:
        metrics: receives the measurement.
        clock: the time.
        permission: what is called, in the form of an IAM permission, like `ec2:StartInstances`.
        scope: where it is called; of STS, for which account, and whose STS.

    Raises:
        CloudError: the call failed, by an exception that no rule covers too.
    """
    service, _, action = permission.partition(":")
    began = clock.monotonic()
    try:
        yield
    except CloudError as error:
        metrics.called(service, action, scope, error.kind.value, clock.monotonic() - began)
        raise
    except Exception as error:
        facts = {"account": scope.account, "region": scope.region}
        failed = unexpected(metrics, Part.CALL, action, error, **facts)
        metrics.called(service, action, scope, failed.kind.value, clock.monotonic() - began)
        raise failed from error
    metrics.called(service, action, scope, "ok", clock.monotonic() - began)
