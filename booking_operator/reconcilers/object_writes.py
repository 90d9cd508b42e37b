"""Turns API errors of object writes into failures for conditions."""

from collections.abc import Awaitable

from booking_operator.domain.conditions import Failure
from booking_operator.kube.errors import ApiError

QUOTA_EXCEEDED = "QuotaExceeded"


async def try_write(write: Awaitable[None], name: str) -> Failure | None:
    """Await a write of the object `name`. Returns the failure, or None on success."""
    try:
        await write
    except ApiError as error:
        return _refusal(error, name)
    return None


async def try_create(write: Awaitable[None], name: str) -> Failure | None:
    """Await the creation of the object `name`. Returns the failure, or None on success.

    The error AlreadyExists counts as success: the watch has not reported the object yet. Other conflicts are
    failures. For example, the API server answers 409 when several clients use up a quota at the same time.
    """
    try:
        await write
    except ApiError as error:
        return None if error.already_exists else _refusal(error, name)
    return None


def _refusal(error: ApiError, name: str) -> Failure:
    if error.conflict:
        return Failure("Conflict", f"{name}: {error}; the operator retries.")
    if error.over_quota:
        return Failure(QUOTA_EXCEEDED, f"{name}: {error}; the operator retries until the quota has room.")
    if error.permission_missing:
        return Failure(
            "Forbidden", f"{name}: {error}; grant this permission to the operator's ServiceAccount."
        )
    if error.forbidden:
        return Failure("Forbidden", f"{name}: {error}; the operator retries.")
    return Failure("WriteFailed", f"{name}: {error}")
