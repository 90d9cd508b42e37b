"""How writes of objects end: as a failure that users are told of, or as none."""

from collections.abc import Awaitable

from booking_operator.domain.report import Failure
from booking_operator.kube.errors import ApiError


async def attempted(write: Awaitable[None], name: str) -> Failure | None:
    """Await a write of the object `name`; how it failed, if it did."""
    try:
        await write
    except ApiError as error:
        return _refusal(error, name)
    return None


async def created(write: Awaitable[None], name: str) -> Failure | None:
    """The same for a creation. That there is one already means that the watch has not told yet."""
    try:
        await write
    except ApiError as error:
        return None if error.conflict else _refusal(error, name)
    return None


def _refusal(error: ApiError, name: str) -> Failure:
    if error.conflict:
        return Failure("Conflict", f"{name} has changed meanwhile; it is tried again.")
    if error.forbidden:
        return Failure("Forbidden", f"{name}: {error}; grant it to the operator's ServiceAccount.")
    return Failure("WriteFailed", f"{name}: {error}")
