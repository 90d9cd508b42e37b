"""Measures the AWS calls, and converts unexpected exceptions into `CloudError`.

An exception that no rule covers is a bug in the operator, or a response that AWS does not document. It fails
only the call, view or batch that raised it. `unexpected` logs it with its traceback, counts it, and converts
it into a `CloudError`, so that a condition shows it and the usual back-off applies.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.domain.group import Scope
from booking_operator.engine.clock import Clock
from booking_operator.metrics import CloudMetrics, FailedPart


def unexpected(
    metrics: CloudMetrics, part: FailedPart, action: str, error: Exception, **facts: object
) -> CloudError:
    """Log an exception that no rule covers, with its traceback, and count it.

    Args:
        metrics: counts the exception.
        part: the part of the program that failed.
        action: the action in progress, as a condition names it.
        error: the exception.
        facts: further fields of the log record.

    Returns:
        The error for all waiting callers. Its kind is LOST, because AWS may have performed the action. Its
            message contains only the type of the exception, because the text of an exception may differ each
            time.
    """
    structlog.get_logger().error("unexpected_error", part=part.value, action=action, **facts, exc_info=error)
    metrics.unexpected(part)
    text = f"{action}: unexpected {type(error).__name__}; see the operator's log for the traceback."
    return CloudError("UnexpectedError", text, kind=FailureKind.LOST)


@contextmanager
def measured(metrics: CloudMetrics, clock: Clock, permission: str, scope: Scope) -> Iterator[None]:
    """Measure the single call that the context makes.

    Args:
        metrics: receives the measurement.
        clock: the clock.
        permission: the call in the form of an IAM permission, such as `ec2:StartInstances`.
        scope: the scope of the call. For STS, it is the account of the credentials and the region of STS.

    Raises:
        CloudError: the call failed; also for an exception that no rule covers.
    """
    service, _, action = permission.partition(":")
    called = partial(metrics.called, service, action, scope.account, scope.region)
    began = clock.monotonic()
    try:
        yield
    except CloudError as error:
        metrics.called(
            service, action, scope.account, scope.region, error.kind.value, clock.monotonic() - began
        )
        raise
    except Exception as error:
        facts = {"account": scope.account, "region": scope.region}
        failed = unexpected(metrics, FailedPart.CALL, action, error, **facts)
        metrics.called(
            service, action, scope.account, scope.region, failed.kind.value, clock.monotonic() - began
        )
        raise failed from error
    called("ok", clock.monotonic() - began)
