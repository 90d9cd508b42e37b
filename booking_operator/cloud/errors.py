"""Turns what botocore raises into `CloudError`: a reason for a condition, and a message with the mend."""

import re

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from booking_operator.cloud.driver import CloudError

RAISED = (ClientError, BotoCoreError, OSError, TimeoutError)
"""All that a call of an aiobotocore client raises."""

_LONGEST = 300
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod's ServiceAccount a role"
_THROTTLED = {"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}
_UNKNOWN_KEYS = {"AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"}


def translated(error: Exception, action: str) -> CloudError:
    """What `action`, such as `StartInstances`, failed with. Equal failures give equal texts."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return CloudError("NoCredentials", f"{action}: there are no AWS credentials; {_CREDENTIALS}")
    if isinstance(error, NoRegionError):
        return CloudError("NoRegion", f"{action}: there is no region; give --region or set AWS_REGION")
    if isinstance(error, ClientError):
        return _refused(error, action)
    if isinstance(error, HTTPClientError | ConnectionError | OSError | TimeoutError):
        return CloudError("CloudUnreachable", f"{action}: AWS cannot be reached ({type(error).__name__})")
    return CloudError(type(error).__name__, f"{action}: {_line(str(error))}")


def named_ids(error: Exception) -> set[str]:
    """The instance ids that a refusal names."""
    return set(re.findall(r"\bi-[0-9a-f]+\b", str(error))) if isinstance(error, ClientError) else set()


def _refused(error: ClientError, action: str) -> CloudError:
    code = error.response.get("Error", {}).get("Code", "") or "Unknown"
    text = _line(error.response.get("Error", {}).get("Message", ""))
    reason = re.sub(r"[^A-Za-z0-9_]", "", code)
    if not reason[:1].isalpha():
        reason = f"Http{reason}" if reason else "Unknown"
    if code in _DENIED:
        return CloudError(reason, f"{action}: AWS refuses permission; allow the operator's role this action")
    if code in _EXPIRED:
        return CloudError("ExpiredCredentials", f"{action}: the AWS credentials have expired; {_CREDENTIALS}")
    if code in _UNKNOWN_KEYS:
        return CloudError(reason, f"{action}: AWS does not know the credentials; {_CREDENTIALS}")
    if code in _THROTTLED:
        return CloudError(reason, f"{action}: AWS throttles this account's requests")
    return CloudError(reason, f"{action}: {text}")


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
