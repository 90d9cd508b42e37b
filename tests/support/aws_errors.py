"""Errors with the texts and in the format of AWS, for the proxy."""

import json
from collections.abc import Sequence
from xml.sax.saxutils import escape

_SERVER_SIDE = {
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "InternalError": 500,
    "InsufficientInstanceCapacity": 500,
}
CANNOT_STOP = {
    "OperationNotPermitted": (
        "The instance '{}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again."
    ),
    "UnsupportedOperation": (
        "You can't stop the Spot Instance '{}' because it is associated with a one-time Spot Instance "
        "request. You can only stop Spot Instances associated with persistent Spot Instance requests."
    ),
}
"""The messages of EC2 for instances that cannot be stopped, by error code."""


def status_of(code: str) -> int:
    """The HTTP status that AWS sends with an error code."""
    return _SERVER_SIDE.get(code, 400)


_SCALING = frozenset({"DescribeInstanceRefreshes", "DescribeScheduledActions"})


def is_query(action: str) -> bool:
    """Whether an action is one of RDS, Auto Scaling or STS, whose protocol differs from that of EC2."""
    return (
        "DB" in action
        or "AutoScaling" in action
        or action in _SCALING
        or action.startswith(("AssumeRole", "CreateOrUpdateTags"))
    )


_JSON = frozenset(
    {
        "DescribeScalableTargets",
        "DescribeServices",
        "GetResources",
        "RegisterScalableTarget",
        "TagResource",
        "UntagResource",
        "UpdateService",
    }
)


def is_json(action: str) -> bool:
    """Whether an action is one of ECS, Application Auto Scaling or the tagging API, which use JSON."""
    return action in _JSON


def body_of(code: str, message: str, action: str) -> str:
    """An error in the format of the action's service. REQUEST-ID is a placeholder for the request id."""
    if is_json(action):
        return json.dumps({"__type": code, "message": message})
    code, message = escape(code), escape(message)
    if is_query(action):
        return (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
            f"<Message>{message}</Message></Error><RequestId>REQUEST-ID</RequestId></ErrorResponse>"
        )
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message>"
        "</Error></Errors><RequestID>REQUEST-ID</RequestID></Response>"
    )


def insufficient_capacity(instance_type: str, zone: str, others: Sequence[str]) -> str:
    """The message of EC2 when a zone has no capacity for an instance type."""
    return (
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you "
        f"requested ({zone}). Our system will be working on provisioning additional capacity. You can "
        f"currently get {instance_type} capacity by not specifying an Availability Zone in your request or "
        f"choosing {', '.join(others)}."
    )
