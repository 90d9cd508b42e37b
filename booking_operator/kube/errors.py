"""What the API server, or the way to it, can answer instead of what was asked."""

import json

_LONGEST = 300
_FORBIDDEN, _NOT_FOUND, _CONFLICT, _FAILED = 403, 404, 409, 500
_TOO_LARGE = "etcdserver: request is too large"


class ApiError(Exception):
    """The API server refused a request, or could not be reached.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: of the `Status` that was the answer, in CamelCase; empty when there was none.
        retry_after: how long the server asks to wait, in seconds; the caller decides how much of it to wait.
    """

    def __init__(self, status: int, message: str, *, reason: str = "", retry_after: float = 0) -> None:
        """Build it from the parts of an answer."""
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def not_found(self) -> bool:
        """Whether the object is no longer there."""
        return self.status == _NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether the object, or a quota that it counts against, has changed since it was read."""
        return self.status == _CONFLICT

    @property
    def already_exists(self) -> bool:
        """Whether there is an object of that name already."""
        return self.conflict and self.reason == "AlreadyExists"

    @property
    def forbidden(self) -> bool:
        """Whether a permission is missing, or an admission plugin refuses."""
        return self.status == _FORBIDDEN

    @property
    def permission_missing(self) -> bool:
        """Whether a permission is missing, which the authorizer says in words only.

        What an admission policy refuses, or a namespace that is being deleted, has the same status.
        """
        return self.forbidden and 'User "' in str(self) and '" cannot ' in str(self)

    @property
    def over_quota(self) -> bool:
        """Whether a ResourceQuota has no room left, which its admission plugin says in words only."""
        return self.forbidden and "exceeded quota" in str(self)

    @property
    def invalid(self) -> bool:
        """Whether the same request would be refused again, whatever the time.

        An object may be so large that etcd takes no status more; it says so with a 500.
        """
        return self.status in {400, 413, 422} or (self.status == _FAILED and _TOO_LARGE in str(self))


class ResponseTooLargeError(ApiError):
    """An answer is too long to be kept in memory; to be asked for less would help."""

    def __init__(self, message: str) -> None:
        """Build it from what was asked for."""
        super().__init__(0, message)


def unreachable_error(error: Exception) -> ApiError:
    """A request that got no answer."""
    text = str(error) or type(error).__name__
    return ApiError(0, f"the API server cannot be reached: {text}")


def malformed_error(why: object) -> ApiError:
    """A request that was answered with 2xx, and with something that is no answer to it."""
    return ApiError(0, f"the API server's answer is garbled: {why}")


def error_from_response(status: int, body: bytes, retry_after: str | None) -> ApiError:
    """A request that was answered with an error: a `Status` object, or whatever a proxy makes of it."""
    pause = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    texts = _status_texts(body)
    text = texts.get("message", body[:_LONGEST].decode("utf-8", "replace"))
    message = f"HTTP {status}: {' '.join(text.split())[:_LONGEST]}"
    return ApiError(status, message, reason=texts.get("reason", ""), retry_after=pause)


def _status_texts(body: bytes) -> dict[str, str]:
    """The texts of a `Status` object; none where it is something else."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return (
        {key: text for key, text in parsed.items() if isinstance(text, str)}
        if isinstance(parsed, dict)
        else {}
    )
