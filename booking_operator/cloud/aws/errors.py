"""Translates the exceptions of botocore into `CloudError`, and decides the kind of each failure.

Only this module does this. `cloud.batching.request_queue` handles a failed start or stop by its kind.

The messages appear in conditions and Events. So they are single lines of bounded length, and equal at each
repetition. The parts that differ each time are removed: request ids, encoded authorization failures and
session names.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.engine.clock_skew import ClockSkewMonitor

MAX_MESSAGE_LENGTH = 600
"""In characters. A condition message may have 32,768, but users read it in one column of a terminal."""

# `tests/cloud/test_error_codes.py` compares all codes with the lists of AWS and the service models of
# botocore. A comment names the source of each code that none of them contains.
_THROTTLED = frozenset(
    {
        "EC2ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# RDS answers AccessDenied: https://github.com/awslabs/aws-well-architected-labs/issues/854
_UNAUTHORIZED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
# These concern one instance (for example, its Marketplace terms are not accepted) or one region, not the
# account.
_NOT_ENABLED = frozenset({"Blocked", "OptInRequired", "PendingVerification"})
# Limits of the account in a region, or of a capacity reservation. As with capacity, a part of the instances
# may fit.
_LIMITS = frozenset(
    {
        "InstanceLimitExceeded",
        "MaxSpotInstanceCountExceeded",
        "ReservationCapacityExceeded",
        "VcpuLimitExceeded",
    }
)
# STS answers ExpiredToken: https://github.com/boto/boto3/issues/1431
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_MAX_SKEW = timedelta(minutes=1)  # AWS accepts a signature for 5 minutes or longer
_TIME_CODES = frozenset({"InvalidSecurity.RequestHasExpired"})
_REFUSED_KEYS = _TIME_CODES | frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

_GIVE_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod's ServiceAccount a role"
_TRUST = "check the role's trust policy"
_ASSUMING = {
    # EKS pod identity passes session tags on, which requires a separate permission.
    "AssumeRole": f"{_TRUST}, the external_id, and sts:AssumeRole in the IAM policy of the operator's role; "
    "with EKS pod identity sts:TagSession too, in both policies",
    "AssumeRoleWithWebIdentity": f"{_TRUST}, and the cluster's OIDC provider in IAM",
}
_MIN_SERVER_ERROR = 500  # server errors start at this HTTP status
_EXPECTED = (
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,  # a missing token or configuration file; also TimeoutError
    ValueError,  # for example, botocore raises it for an invalid AWS_ENDPOINT_URL
)
# The order matters, because some types derive from others. The text of an error may contain changing
# addresses.
_UNREACHABLE: tuple[tuple[tuple[type[Exception], ...], FailureKind, str], ...] = (
    ((boto.ConnectTimeoutError,), FailureKind.TRANSIENT, "the connection timed out"),
    ((boto.ReadTimeoutError, TimeoutError), FailureKind.LOST, "the response timed out"),
    ((boto.SSLError,), FailureKind.TRANSIENT, "the TLS handshake failed"),
    ((boto.ProxyConnectionError,), FailureKind.TRANSIENT, "the connection to the HTTP proxy failed"),
    ((boto.EndpointConnectionError,), FailureKind.TRANSIENT, "the connection to the endpoint failed"),
    (
        (boto.HTTPClientError, aiohttp.ClientError),
        FailureKind.LOST,
        "the connection closed before the response arrived",
    ),
)
_POOL = re.compile(r"sufficient (\S+) capacity in the Availability Zone you requested \(([\w-]+)\)")


@contextmanager
def translate_errors(
    action: str, ids: Collection[str] = (), *, clocks: ClockSkewMonitor | None = None
) -> Iterator[None]:
    """Translate the exceptions of botocore in the context into `CloudError`.

    Args:
        action: the call in the form of an IAM permission, such as `ec2:StartInstances`.
        ids: the instances of the call.
        clocks: measures how far the operator's clock is ahead of the service's.

    Raises:
        CloudError: an exception of botocore or of the network; its `ids` are those of `ids` that the service
            named as the cause. Any other exception passes unchanged.
    """
    try:
        yield
    except boto.ClientError as error:
        skew = clocks.current if clocks else timedelta(0)
        raise _from_answer(error, action, ids, skew) from error
    except _EXPECTED as error:
        raise _without_answer(error, _name(action)) from error


def _name(permission: str) -> str:
    return permission.partition(":")[2] or permission


def _from_answer(
    error: boto.ClientError, permission: str, ids: Collection[str], skew: timedelta
) -> CloudError:
    """Translate an error response of the service."""
    action = _name(permission)
    details = error.response.get("Error", {})
    code, message = str(details.get("Code", "")), clean_message(str(details.get("Message", "")))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLED:
        text = f"AWS throttled {action} calls of this account; the operator retries them."
        return CloudError("RequestLimitExceeded", text, kind=FailureKind.THROTTLED)
    assuming = error.operation_name.startswith("AssumeRole")
    if assuming and code not in _EXPIRED | _REFUSED_KEYS and status < _MIN_SERVER_ERROR:
        fix = _ASSUMING.get(error.operation_name, _TRUST)
        text = f"AWS refused {error.operation_name}; {fix}. {message or code}"
        return CloudError("NoCredentials", clean_message(text), retryable=False)
    if code in _EXPIRED | _REFUSED_KEYS:
        return _account(code, action, message, skew)
    named = set(re.findall(r"[\w-]+", message)) & set(ids)
    if code in _UNAUTHORIZED:
        text = f"AWS does not permit {permission}; add it to the IAM policy of the operator's role. {message}"
        return CloudError(
            "UnauthorizedOperation", clean_message(text), retryable=False, kind=FailureKind.DENIED, ids=named
        )
    text = clean_message(f"{action}: {message or code}")
    if code in _NOT_ENABLED:
        return CloudError(reason_of(code), text, retryable=False, kind=FailureKind.DENIED, ids=named)
    if code in _LIMITS or (code.startswith("Insufficient") and code.endswith("Capacity")):
        pool = _POOL.search(message)
        where = f"{pool[1]} in {pool[2]}" if pool else ""
        return CloudError(reason_of(code), text, kind=FailureKind.CAPACITY, pool=where)
    if status >= _MIN_SERVER_ERROR:
        return CloudError(reason_of(code), text, kind=FailureKind.TRANSIENT)
    return CloudError(reason_of(code), text, kind=FailureKind.REFUSED, ids=named)


def _account(code: str, action: str, message: str, skew: timedelta) -> CloudError:
    """Translate an error that concerns the account: its status, its credentials, or the clock."""
    if abs(skew) > _MAX_SKEW or code in _TIME_CODES:
        way = "behind" if skew < timedelta(0) else "ahead of"
        clocks = f"the operator's clock is {abs(skew).total_seconds():.0f} s {way} the AWS clock"
        text = f"{action}: AWS rejected the request, and {clocks}; synchronize it by NTP. {message}"
        return CloudError("ClockSkewed", clean_message(text), kind=FailureKind.ACCOUNT)
    if code in _EXPIRED:
        text = f"{action}: the AWS credentials have expired; renew them, and check the clock. {message}"
        return CloudError("ExpiredCredentials", clean_message(text), kind=FailureKind.ACCOUNT)
    text = f"{action}: AWS rejected the credentials; {_GIVE_CREDENTIALS}. {message}"
    return CloudError(reason_of(code), clean_message(text), retryable=False, kind=FailureKind.ACCOUNT)


def _without_answer(error: Exception, action: str) -> CloudError:
    """Translate an error without a response: the request was not sent, or the response was lost."""
    for kinds, fault, how in _UNREACHABLE:
        if isinstance(error, kinds):
            return CloudError("CloudUnreachable", f"{action}: {how}.", kind=fault)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound):
        text = f"No usable AWS credentials found ({error}); {_GIVE_CREDENTIALS}."
        return CloudError("NoCredentials", clean_message(text), retryable=False)
    if isinstance(error, boto.CredentialRetrievalError | boto.TokenRetrievalError | boto.NoAuthTokenError):
        return CloudError("NoCredentials", clean_message(f"Cannot fetch the AWS credentials. {error}"))
    if isinstance(error, boto.NoRegionError):
        text = "No AWS region configured; set spec.region, or --region of the operator."
        return CloudError("NoRegion", text, retryable=False)
    if isinstance(error, boto.InvalidRegionError):
        return CloudError("InvalidRegion", clean_message(f"{error}"), retryable=False)
    if isinstance(error, ResponseParserError):
        return CloudError(
            "InvalidResponse", f"{action}: the response is not a valid AWS response.", kind=FailureKind.LOST
        )
    return CloudError(type(error).__name__, clean_message(f"{action}: {error}"))


def reason_of(code: str) -> str:
    """Convert an error code into the reason of a condition, which has only letters and digits here.

    EC2 codes contain dots (`InvalidInstanceID.NotFound`). If a proxy responds in HTML, botocore uses the HTTP
    status as the code.
    """
    plain = re.sub(r"[^A-Za-z0-9]", "", code)
    return plain if plain[:1].isalpha() else f"HTTP{plain}" if plain else "UnknownError"


def clean_message(text: str) -> str:
    """Return the text as one line of bounded length, without the parts that differ each time."""
    text = re.sub(r"Encoded authorization failure message: \S+", "", text)
    text = re.sub(r"(:assumed-role/[^/\s]+)/[^\s,]+", r"\1", text)
    text = re.sub(r"\(?\b[Rr]equest\s?I[Dd]:? [\w-]+\)?", "", text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[: MAX_MESSAGE_LENGTH - 1]}…"
