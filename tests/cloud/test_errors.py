"""The translation of botocore's errors: valid condition reasons, and stable messages."""

import re
from datetime import timedelta

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from booking_operator.cloud.aws.errors import MAX_MESSAGE_LENGTH, reason_of, translate_errors
from booking_operator.cloud.driver import CloudError, FailureKind
from booking_operator.engine.clock_skew import ClockSkewMonitor

# metav1.Condition: https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/types.go
CONDITION_REASON = re.compile(r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
URL = "https://ec2.eu-west-1.amazonaws.com/"
ID, OTHER = "i-0123456789abcdef0", "i-0123456789abcdef1"


def refusal(
    code: str, message: str = "", *, status: int = 400, operation: str = "StartInstances"
) -> boto.ClientError:
    return boto.ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {
                "RequestId": "r",
                "HostId": "",
                "HTTPStatusCode": status,
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        },
        operation,
    )


def outcome(error: Exception, *ids: str, action: str = "ec2:StartInstances") -> CloudError:
    with pytest.raises(CloudError) as caught, translate_errors(action, ids):
        raise error
    assert CONDITION_REASON.match(caught.value.reason)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (boto.NoCredentialsError(), "NoCredentials"),
        (boto.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "NoCredentials"),
        (boto.CredentialRetrievalError(provider="sso", error_msg="timed out"), "NoCredentials"),
        (refusal("AccessDenied", operation="AssumeRoleWithWebIdentity"), "NoCredentials"),
        (refusal("RequestExpired"), "ExpiredCredentials"),
        (refusal("ExpiredToken"), "ExpiredCredentials"),
        (refusal("AuthFailure"), "AuthFailure"),
        (refusal("UnauthorizedOperation", status=403), "UnauthorizedOperation"),
        (refusal("RequestLimitExceeded", status=503), "RequestLimitExceeded"),
        (refusal("Throttling"), "RequestLimitExceeded"),
        (refusal("InternalError", status=500), "InternalError"),
        (refusal("InsufficientInstanceCapacity", status=500), "InsufficientInstanceCapacity"),
        (refusal("InvalidInstanceID.NotFound"), "InvalidInstanceIDNotFound"),
        (refusal("502", "Bad Gateway", status=502), "HTTP502"),
        (refusal(""), "UnknownError"),
        (boto.EndpointConnectionError(endpoint_url=URL), "CloudUnreachable"),
        (boto.ConnectTimeoutError(endpoint_url=URL), "CloudUnreachable"),
        (boto.ReadTimeoutError(endpoint_url=URL), "CloudUnreachable"),
        (boto.ConnectionClosedError(endpoint_url=URL), "CloudUnreachable"),
        (boto.SSLError(endpoint_url=URL, error=OSError("expired")), "CloudUnreachable"),
        (boto.HTTPClientError(error=RuntimeError(object())), "CloudUnreachable"),
        (TimeoutError(), "CloudUnreachable"),
        (boto.NoRegionError(), "NoRegion"),
        (boto.InvalidRegionError(region_name="a b"), "InvalidRegion"),
        (ResponseParserError("no element found"), "InvalidResponse"),
        (FileNotFoundError("/var/run/token"), "FileNotFoundError"),
        (ValueError("Invalid endpoint: x"), "ValueError"),
    ],
)
def test_each_failure_has_a_reason(error: Exception, expected: str) -> None:
    assert outcome(error).reason == expected


@pytest.mark.parametrize(
    "error",
    [
        boto.NoCredentialsError(),
        boto.NoRegionError(),
        refusal("UnauthorizedOperation"),
        refusal("AuthFailure"),
        refusal("OptInRequired"),
    ],
)
def test_errors_that_a_user_must_fix_are_not_retryable(error: Exception) -> None:
    assert not outcome(error).retryable


def test_missing_credentials_have_a_fix_in_the_message() -> None:
    text = str(outcome(boto.NoCredentialsError()))
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in text
    assert "ServiceAccount" in text


def test_unauthorized_names_the_permission_with_a_stable_message() -> None:
    """AWS encodes a part of the message differently each time, and the session name changes."""

    def text(session: str, encoded: str) -> str:
        message = (
            "You are not authorized to perform this operation. "
            f"User: arn:aws:sts::123456789012:assumed-role/operator/{session} is not authorized to perform: "
            "ec2:StartInstances because no identity-based policy allows the ec2:StartInstances action. "
            f"Encoded authorization failure message: {encoded}"
        )
        return str(outcome(refusal("UnauthorizedOperation", message)))

    assert text("botocore-session-1", "x" * 900) == text("botocore-session-2", "y" * 900)
    assert text("s", "e").startswith("AWS does not permit ec2:StartInstances; add it to the IAM policy")
    assert "no identity-based policy allows" in text("s", "e")


def test_a_lost_connection_has_a_stable_message() -> None:
    texts = {str(outcome(boto.HTTPClientError(error=RuntimeError(object())))) for _ in range(3)}
    assert len(texts) == 1


def test_messages_are_bounded_and_without_request_ids() -> None:
    text = str(outcome(refusal("X", f"what\nhappened (Request ID: 12-34) {'again ' * 1000}")))
    assert len(text) <= MAX_MESSAGE_LENGTH
    assert text.startswith("StartInstances: what happened again")


def test_ids_in_a_refusal_are_found() -> None:
    error = outcome(
        refusal("InvalidInstanceID.NotFound", f"The instance ID '{ID}' does not exist"), ID, OTHER
    )
    assert error.ids == {ID}


def test_only_ids_of_the_call_are_found() -> None:
    error = outcome(refusal("IncorrectInstanceState", f"The instance '{ID}x' is gone"), ID, OTHER)
    assert not error.ids


@pytest.mark.parametrize(
    ("code", "status"),
    [("AuthFailure", 401), ("RequestLimitExceeded", 503), ("InternalError", 500)],
)
def test_other_failures_blame_no_instance(code: str, status: int) -> None:
    message = f"on resource: arn:aws:ec2:eu-west-1:123456789012:instance/{ID}"
    assert not outcome(refusal(code, message, status=status), ID).ids


def test_a_missing_permission_for_one_instance_names_it() -> None:
    message = f"on resource: arn:aws:ec2:eu-west-1:123456789012:instance/{ID}"
    error = outcome(refusal("UnauthorizedOperation", message, status=403), ID, OTHER)
    assert error.kind is FailureKind.DENIED
    assert error.ids == {ID}


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (refusal("RequestLimitExceeded", status=503), FailureKind.THROTTLED),
        (refusal("InternalError", status=500), FailureKind.TRANSIENT),
        (refusal("502", "Bad Gateway", status=502), FailureKind.TRANSIENT),
        (boto.EndpointConnectionError(endpoint_url=URL), FailureKind.TRANSIENT),
        (boto.ConnectTimeoutError(endpoint_url=URL), FailureKind.TRANSIENT),
        (boto.ReadTimeoutError(endpoint_url=URL), FailureKind.LOST),
        (boto.ConnectionClosedError(endpoint_url=URL), FailureKind.LOST),
        (TimeoutError(), FailureKind.LOST),
        (ResponseParserError("no element found"), FailureKind.LOST),
        (refusal("InsufficientInstanceCapacity", status=500), FailureKind.CAPACITY),
        (refusal("InvalidInstanceID.NotFound"), FailureKind.REFUSED),
        (refusal("IncorrectSpotRequestState"), FailureKind.REFUSED),
        (refusal("ExpiredToken"), FailureKind.ACCOUNT),
        (refusal("AuthFailure", status=401), FailureKind.ACCOUNT),
        (refusal("OptInRequired", status=401), FailureKind.DENIED),
        (refusal("PendingVerification"), FailureKind.DENIED),
        (refusal("Blocked"), FailureKind.DENIED),
        (boto.NoCredentialsError(), FailureKind.UNSENT),
    ],
)
def test_each_failure_has_a_class(error: Exception, fault: FailureKind) -> None:
    assert outcome(error).kind is fault


def test_a_capacity_error_names_type_and_zone() -> None:
    message = (
        "We currently do not have sufficient m5.large capacity in the Availability Zone you requested "
        "(eu-west-1a). Our system will be working on provisioning additional capacity."
    )
    error = outcome(refusal("InsufficientInstanceCapacity", message, status=500))
    assert error.pool == "m5.large in eu-west-1a"


@pytest.mark.parametrize("code", ["RequestExpired", "AuthFailure", "SignatureDoesNotMatch"])
def test_a_wrong_clock_is_reported(code: str) -> None:
    clocks = ClockSkewMonitor("AWS")
    clocks.current = timedelta(minutes=-7)
    with pytest.raises(CloudError) as caught, translate_errors("ec2:StartInstances", clocks=clocks):
        raise refusal(code, status=401)
    assert caught.value.reason == "ClockSkewed"
    assert "420 s behind the AWS clock; synchronize it by NTP" in str(caught.value)


def test_an_unknown_exception_is_not_translated() -> None:
    with pytest.raises(KeyError), translate_errors("StartInstances"):
        raise KeyError


@pytest.mark.parametrize("code", ["InvalidInstanceID.NotFound", "503", "", "...", "a-b_c", "Ünïcode"])
def test_any_code_becomes_a_valid_reason(code: str) -> None:
    assert CONDITION_REASON.match(reason_of(code))
