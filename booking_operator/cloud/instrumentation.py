"""Measures the calls of AWS, and turns unexpected exceptions into errors of the cloud adapters.

An exception that no rule covers is a fault of the operator, or an answer that AWS does not document. It fails
the one call, view or batch in which it is raised, and nothing else: `unexpected` logs it with its traceback,
counts it, and makes it a `CloudError`, so that a condition names it and the usual back-off applies.
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
