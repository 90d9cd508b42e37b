"""Translates what botocore raises into `CloudError`, once, here.

Texts end up in conditions and Events: one line, bounded, the same at each repetition. So request ids, the
encoded part of an authorisation failure and the session's name, all of which differ each time, are cut out.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from booking_operator.cloud.driver import CloudError

LONGEST_MESSAGE = 600
"""Characters; a condition's message may have 32,768, yet people read it in one column of a terminal."""

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, and the general ones of
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonErrors.html
_THROTTLED = frozenset(
    {
        "EC2ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_UNAUTHORIZED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_REFUSED_KEYS = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_HOPELESS = frozenset({"Blocked", "OptInRequired", "PendingVerification"})

_GIVE_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod's ServiceAccount a role"
_TRUST = "check the role's trust policy"
_ASSUMING = {
    "AssumeRole": f"{_TRUST}, the external_id, and sts:AssumeRole in the IAM policy of the operator's role",
    "AssumeRoleWithWebIdentity": f"{_TRUST}, and the cluster's OIDC provider in IAM",
}
_OF_SERVER = 500  # from this HTTP status on it is the service's fault
_EXPECTED = (
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,  # a token or configuration file that is not there; TimeoutError is one too
    ValueError,  # botocore's answer to a malformed AWS_ENDPOINT_URL, for one
)
# In this order: some derive from others. An error's own text may hold addresses that differ each time.
_UNREACHABLE: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((boto.ConnectTimeoutError,), "the connection was not made in time"),
    ((boto.ReadTimeoutError, TimeoutError), "there was no reply in time"),
    ((boto.SSLError,), "the TLS handshake failed"),
    ((boto.ProxyConnectionError,), "the HTTP proxy cannot be reached"),
    ((boto.EndpointConnectionError,), "the connection to the endpoint failed"),
    ((boto.HTTPClientError, aiohttp.ClientError), "the connection broke before the reply came"),
)


class InstancesRefusedError(CloudError):
    """The cloud refused the whole call because of some of the instances, which it named.

    Attributes:
        ids: those instances; never empty, and all of them were in the call.
    """

    def __init__(self, reason: str, message: str, ids: Collection[str]) -> None:
        """Build it from the service's answer."""
        super().__init__(reason, message)
        self.ids = frozenset(ids)


@contextmanager
def translated(action: str, ids: Collection[str] = ()) -> Iterator[None]:
    """Have what botocore raises inside come out as `CloudError`.

    Args:
        action: what is called, in the form of an IAM permission, like `ec2:StartInstances`.
        ids: the instances it is called for.

    Raises:
        InstancesRefusedError: the service refused the call for the sake of some of `ids`.
        CloudError: any other failure.
    """
    try:
        yield
    except boto.ClientError as error:
        raise _from_answer(error, action, ids) from error
    except _EXPECTED as error:
        raise _without_answer(error, _name(action)) from error


def _name(permission: str) -> str:
    return permission.partition(":")[2] or permission


def _from_answer(error: boto.ClientError, permission: str, ids: Collection[str]) -> CloudError:
    """The service answered, with an error code."""
    action = _name(permission)
    details = error.response.get("Error", {})
    code, message = str(details.get("Code", "")), tidy(str(details.get("Message", "")))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLED:
        text = f"AWS limits the rate of {action} calls of this account; it is tried again."
        return CloudError("RequestLimitExceeded", text)
    if code in _EXPIRED:
        text = f"{action}: the AWS credentials have expired; renew them, and check the clock. {message}"
        return CloudError("ExpiredCredentials", tidy(text))
    if error.operation_name.startswith("AssumeRole") and code not in _REFUSED_KEYS and status < _OF_SERVER:
        mend = _ASSUMING.get(error.operation_name, _TRUST)
        text = f"AWS refused {error.operation_name}; {mend}. {message or code}"
        return CloudError("NoCredentials", tidy(text), retryable=False)
    if code in _UNAUTHORIZED:
        text = f"AWS does not permit {permission}; add it to the IAM policy of the operator's role. {message}"
        return CloudError("UnauthorizedOperation", tidy(text), retryable=False)
    if code in _REFUSED_KEYS:
        text = f"{action}: AWS does not accept the credentials; {_GIVE_CREDENTIALS}. {message}"
        return CloudError(reason(code), tidy(text), retryable=False)
    text = tidy(f"{action}: {message or code}")
    named = set(re.findall(r"[\w-]+", message)) & set(ids)
    if named and status < _OF_SERVER:
        return InstancesRefusedError(reason(code), text, named)
    return CloudError(reason(code), text, retryable=code not in _HOPELESS)


def _without_answer(error: Exception, action: str) -> CloudError:
    """The service was not asked, or its answer was lost."""
    for kinds, how in _UNREACHABLE:
        if isinstance(error, kinds):
            return CloudError("CloudUnreachable", f"{action}: {how}.")
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.ProfileNotFound):
        text = f"There are no usable AWS credentials ({error}); {_GIVE_CREDENTIALS}."
        return CloudError("NoCredentials", tidy(text), retryable=False)
    if isinstance(error, boto.CredentialRetrievalError | boto.TokenRetrievalError | boto.NoAuthTokenError):
        return CloudError("NoCredentials", tidy(f"The AWS credentials cannot be fetched. {error}"))
    if isinstance(error, boto.NoRegionError):
        text = "No AWS region is known; set spec.region, or the operator's own region."
        return CloudError("NoRegion", text, retryable=False)
    if isinstance(error, boto.InvalidRegionError):
        return CloudError("InvalidRegion", tidy(f"{error}"), retryable=False)
    if isinstance(error, ResponseParserError):
        return CloudError("InvalidResponse", f"{action}: the reply is not what AWS sends.")
    return CloudError(type(error).__name__, tidy(f"{action}: {error}"))


def reason(code: str) -> str:
    """An error code as the reason of a condition, which takes letters and digits only here.

    EC2's codes have dots (`InvalidInstanceID.NotFound`), and botocore makes the bare HTTP status the code
    where a proxy answered in HTML.
    """
    plain = re.sub(r"[^A-Za-z0-9]", "", code)
    return plain if plain[:1].isalpha() else f"HTTP{plain}" if plain else "UnknownError"


def tidy(text: str) -> str:
    """One line, of bounded length, without what differs each time."""
    text = re.sub(r"Encoded authorization failure message: \S+", "", text)
    text = re.sub(r"(:assumed-role/[^/\s]+)/[^\s,]+", r"\1", text)
    text = re.sub(r"\(?\b[Rr]equest\s?I[Dd]:? [\w-]+\)?", "", text)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1]}…"
