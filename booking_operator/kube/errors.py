"""What the API server, or the way to it, can answer instead of what was asked."""

import json

_LONGEST = 300
_FORBIDDEN, _NOT_FOUND, _CONFLICT, _FAILED = 403, 404, 409, 500
_TOO_LARGE = "etcdserver: request is too large"


class ApiError(Exception):
    """The API server refused a request, or could not be reached.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        retry_after: how long the server asks to wait, in seconds; whoever asks again decides how much of it.
    """

    def __init__(self, status: int, message: str, *, retry_after: float = 0) -> None:
        """Build it from the parts of an answer."""
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def gone(self) -> bool:
        """Whether the object is no longer there."""
        return self.status == _NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether the object has changed since it was read."""
        return self.status == _CONFLICT

    @property
    def forbidden(self) -> bool:
        """Whether a permission is missing."""
        return self.status == _FORBIDDEN

    @property
    def invalid(self) -> bool:
        """Whether the same request would be refused again, whatever the time.

        An object may be so large that etcd takes no status more; it says so with a 500.
        """
        return self.status in {400, 413, 422} or (self.status == _FAILED and _TOO_LARGE in str(self))


class TooLongError(ApiError):
    """An answer is too long to be kept in memory; to be asked for less would help."""

    def __init__(self, message: str) -> None:
        """Build it from what was asked for."""
        super().__init__(0, message)


def unreachable(error: Exception) -> ApiError:
    """A request that got no answer."""
    text = str(error) or type(error).__name__
    return ApiError(0, f"the API server cannot be reached: {text}")


def garbled(why: object) -> ApiError:
    """A request that was answered with 2xx, and with something that is no answer to it."""
    return ApiError(0, f"the API server's answer is garbled: {why}")


def refused(status: int, body: bytes, retry_after: str | None) -> ApiError:
    """A request that was answered with an error: a `Status` object, or whatever a proxy makes of it."""
    pause = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    return ApiError(status, _message(status, body), retry_after=pause)


def _message(status: int, body: bytes) -> str:
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict) and isinstance(parsed.get("message"), str):
        text = parsed["message"]
    else:
        text = body[:_LONGEST].decode("utf-8", "replace")
    return f"HTTP {status}: {' '.join(text.split())[:_LONGEST]}"
