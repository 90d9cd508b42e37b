"""The errors of a request to the API server: error responses, invalid responses and connection failures."""

import json

_MAX_MESSAGE_LENGTH = 300
_FORBIDDEN, _NOT_FOUND, _CONFLICT, _FAILED = 403, 404, 409, 500
_TOO_LARGE = "etcdserver: request is too large"


class ApiError(Exception):
    """The API server refused a request, or the request got no valid response.

    Attributes:
        status: HTTP status; 0 if there was no valid response.
        reason: `reason` of the `Status` object in the response, in CamelCase; empty if there was none.
        retry_after: the delay that the server asks for, in seconds. The caller decides how long it waits.
    """

    def __init__(self, status: int, message: str, *, reason: str = "", retry_after: float = 0) -> None:
        """Create it from the parts of a response."""
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def not_found(self) -> bool:
        """Whether the object, or its kind, does not exist."""
        return self.status == _NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether the object, or a quota that it counts against, has changed since it was read."""
        return self.status == _CONFLICT

    @property
    def already_exists(self) -> bool:
        """Whether an object with this name already exists."""
        return self.conflict and self.reason == "AlreadyExists"

    @property
    def forbidden(self) -> bool:
        """Whether a permission is missing, or an admission plugin refused the request."""
        return self.status == _FORBIDDEN

    @property
    def permission_missing(self) -> bool:
        """Whether the authorizer refused the request, because a permission is missing.

        Admission policies, and a namespace that is being deleted, lead to the same HTTP status. Only the
        message of the authorizer distinguishes them.
        """
        return self.forbidden and 'User "' in str(self) and '" cannot ' in str(self)

    @property
    def over_quota(self) -> bool:
        """Whether the request would exceed a ResourceQuota.

        Only the message of the admission plugin shows it.
        """
        return self.forbidden and "exceeded quota" in str(self)

    @property
    def invalid(self) -> bool:
        """Whether the server would refuse the same request at any time.

        This includes an object that is too large for etcd. The API server reports it with status 500.
        """
        return self.status in {400, 413, 422} or (self.status == _FAILED and _TOO_LARGE in str(self))


class ResponseTooLargeError(ApiError):
    """The response exceeds `MAX_RESPONSE_BYTES`. A request with a smaller `limit` may succeed."""

    def __init__(self, message: str) -> None:
        """Create it from a message about the response."""
        super().__init__(0, message)


def unreachable_error(error: Exception) -> ApiError:
    """Return the error for a request without a response."""
    text = str(error) or type(error).__name__
    return ApiError(0, f"the request to the API server failed: {text}")


def malformed_error(why: object) -> ApiError:
    """Return the error for a 2xx response with an invalid body."""
    return ApiError(0, f"the API server sent an invalid response: {why}")


def error_from_response(status: int, body: bytes, retry_after: str | None) -> ApiError:
    """Return the error for an error response. The body is a `Status` object, or the text of a proxy."""
    pause = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    texts = _status_texts(body)
    text = texts.get("message", body[:_MAX_MESSAGE_LENGTH].decode("utf-8", "replace"))
    message = f"HTTP {status}: {' '.join(text.split())[:_MAX_MESSAGE_LENGTH]}"
    return ApiError(status, message, reason=texts.get("reason", ""), retry_after=pause)


def _status_texts(body: bytes) -> dict[str, str]:
    """Return the string fields of a `Status` object; empty if the body is not a JSON object."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return (
        {key: text for key, text in parsed.items() if isinstance(text, str)}
        if isinstance(parsed, dict)
        else {}
    )
