"""How writes of objects end: as a failure that is reported to users, or as none."""

from collections.abc import Awaitable

from booking_operator.domain.conditions import Failure
from booking_operator.kube.errors import ApiError

QUOTA_EXCEEDED = "QuotaExceeded"


async def try_write(write: Awaitable[None], name: str) -> Failure | None:
    """Await a write of the object `name`; how it failed, if it did."""
    try:
        await write
    except ApiError as error:
        return _refusal(error, name)
    return None


async def try_create(write: Awaitable[None], name: str) -> Failure | None:
    """The same for a creation. That there is one already means that the watch has not reported it yet.

    No other conflict does: a quota that others use up at the same time is answered with one, too.
    """
    try:
        await write
    except ApiError as error:
        return None if error.already_exists else _refusal(error, name)
    return None


def _refusal(error: ApiError, name: str) -> Failure:
    if error.conflict:
        return Failure("Conflict", f"{name}: {error}; it is tried again.")
    if error.over_quota:
        return Failure(QUOTA_EXCEEDED, f"{name}: {error}; it is made once there is room.")
    if error.permission_missing:
        return Failure("Forbidden", f"{name}: {error}; grant it to the operator's ServiceAccount.")
    if error.forbidden:
        return Failure("Forbidden", f"{name}: {error}; it is tried again.")
    return Failure("WriteFailed", f"{name}: {error}")
