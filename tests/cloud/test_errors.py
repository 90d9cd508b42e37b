"""What becomes of botocore's errors: reasons that a condition takes, texts that stay the same."""

import re

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from booking_operator.cloud.driver import CloudError
from booking_operator.cloud.errors import LONGEST_MESSAGE, InstancesRefusedError, reason, translated

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
    with pytest.raises(CloudError) as caught, translated(action, ids):
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
def test_what_somebody_has_to_mend_is_not_retryable(error: Exception) -> None:
    assert not outcome(error).retryable


def test_no_credentials_says_what_to_do() -> None:
    text = str(outcome(boto.NoCredentialsError()))
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in text
    assert "ServiceAccount" in text


def test_unauthorized_names_the_permission_and_stays_the_same() -> None:
    """The encoded part and the session's name differ each time."""

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


def test_a_lost_connection_reads_the_same_each_time() -> None:
    texts = {str(outcome(boto.HTTPClientError(error=RuntimeError(object())))) for _ in range(3)}
    assert len(texts) == 1


def test_messages_are_bounded_and_without_request_ids() -> None:
    text = str(outcome(refusal("X", f"what\nhappened (Request ID: 12-34) {'again ' * 1000}")))
    assert len(text) <= LONGEST_MESSAGE
    assert text.startswith("StartInstances: what happened again")


def test_a_refusal_that_names_instances_tells_which() -> None:
    error = outcome(
        refusal("InvalidInstanceID.NotFound", f"The instance ID '{ID}' does not exist"), ID, OTHER
    )
    assert isinstance(error, InstancesRefusedError)
    assert error.ids == {ID}


def test_only_instances_of_the_call_are_named() -> None:
    error = outcome(refusal("IncorrectInstanceState", f"The instance '{ID}x' is gone"), ID, OTHER)
    assert not isinstance(error, InstancesRefusedError)


@pytest.mark.parametrize(
    ("code", "status"),
    [("UnauthorizedOperation", 403), ("RequestLimitExceeded", 503), ("InternalError", 500)],
)
def test_failures_of_another_class_are_nobodys_fault(code: str, status: int) -> None:
    message = f"on resource: arn:aws:ec2:eu-west-1:123456789012:instance/{ID}"
    assert not isinstance(outcome(refusal(code, message, status=status), ID), InstancesRefusedError)


def test_a_bug_is_not_disguised() -> None:
    with pytest.raises(KeyError), translated("StartInstances"):
        raise KeyError


@pytest.mark.parametrize("code", ["InvalidInstanceID.NotFound", "503", "", "...", "a-b_c", "Ünïcode"])
def test_any_code_makes_a_reason(code: str) -> None:
    assert CONDITION_REASON.match(reason(code))
