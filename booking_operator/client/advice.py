"""What to do about each reason of a condition.

`ADVICE` has each reason that this product gives. A test compares it with the reasons in the code. The reasons
that are error codes of AWS, such as `InsufficientInstanceCapacity`, are not in it: `advice_for` returns an
advice for them as well.
"""

from dataclasses import dataclass
from enum import Enum


class Fixer(Enum):
    """The person who can fix a condition."""

    NOBODY = "nobody"
    """Nothing is wrong, or it passes by itself."""
    USER = "user"
    """Somebody with write access to the object."""
    OPERATOR_ADMIN = "operator"
    """Somebody who configures the operator, its AWS permissions or its machine."""
    CLOUD_OWNER = "cloud"
    """Somebody with access to the instances in AWS."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a reason.

    Attributes:
        fixer: who can do it.
        text: what to do, as an imperative, or what happens by itself, as a sentence. Both without a full
            stop. Empty if the message of the condition says it or if nothing has to be done.
        patch: a merge patch of the object that does it, as JSON; empty if no patch does.
        delete: whether the deletion of the object does it.
        edit: whether an edit of the spec does it, which only the user can decide.
    """

    fixer: Fixer
    text: str = ""
    patch: str = ""
    delete: bool = False
    edit: bool = False


_PASSES = Advice(Fixer.NOBODY, "this passes by itself")
_RETRIES = Advice(Fixer.NOBODY, "the operator tries again by itself")
_FINE = Advice(Fixer.NOBODY)
_EDIT = Advice(Fixer.USER, edit=True)

ADVICE: dict[str, Advice] = {
    # Nothing is wrong.
    "Accepted": _FINE,
    "InstancesFound": _FINE,
    "Synced": _FINE,
    "Running": _FINE,
    "Stopped": _FINE,
    "Left": _FINE,
    "ResourceFound": _FINE,
    "Holder": _FINE,
    "HeldByOther": _FINE,
    "Scheduled": _FINE,
    "Finished": _FINE,
    "Sent": _FINE,
    "Pending": _FINE,
    # It passes.
    "Starting": _PASSES,
    "StatusChecksPending": _PASSES,
    "WaitingForRequired": _PASSES,
    "WaitingForDependents": _PASSES,
    "Stopping": _PASSES,
    "NotObserved": Advice(Fixer.NOBODY, "the operator looks at the instances within a minute"),
    "DeletionGrace": _PASSES,
    "LaunchGrace": _PASSES,
    "MaintenanceWindow": _PASSES,
    "StopWithheld": Advice(Fixer.NOBODY, "the operator stops them as soon as its data is fresh"),
    "RequestLimitExceeded": _RETRIES,
    "CloudTimeout": _RETRIES,
    "CloudUnreachable": Advice(
        Fixer.OPERATOR_ADMIN, "if it lasts, check the network and the proxy of the operator"
    ),
    "InvalidResponse": Advice(Fixer.OPERATOR_ADMIN, "if it lasts, check the HTTP proxy of the operator"),
    "Closed": _PASSES,
    "Conflict": _RETRIES,
    "TooFarAhead": _PASSES,
    "WriteFailed": _RETRIES,
    # The user of the object can fix it.
    "InvalidSpec": _EDIT,
    "TooLong": _EDIT,
    "NotValid": _EDIT,
    "Duplicate": Advice(Fixer.USER, delete=True),
    "Suspended": Advice(Fixer.USER, patch='{"spec":{"suspend":false}}'),
    "ResourceNotFound": _EDIT,
    "ResourceInvalid": Advice(Fixer.USER, "fix the Resource first"),
    "RequestLimits": _EDIT,
    "RequiresCycle": _EDIT,
    "TooManyRequired": _EDIT,
    "AdHocOfExclusive": _EDIT,
    "RequiredUnavailable": Advice(Fixer.USER, "solve the problem of the required Resource first"),
    "RequiredDelayed": Advice(Fixer.USER, "set a longer spec.warm_up on the required Resource"),
    "NameTaken": Advice(Fixer.USER, "delete the booking that has the name, if nobody needs it"),
    "QuotaExceeded": Advice(Fixer.USER, "delete objects, or ask for a larger ResourceQuota"),
    "InvalidRecipient": _EDIT,
    "Missed": Advice(Fixer.NOBODY, "the booking is over, so the notification is no longer sent"),
    # The owner of the instances in AWS can fix it.
    "GroupNotFound": Advice(Fixer.NOBODY, "the operator looks at the groups within a minute"),
    "ServiceNotFound": Advice(Fixer.NOBODY, "the operator looks at the services within a minute"),
    "SizeUnknown": Advice(
        Fixer.CLOUD_OWNER,
        "set the size of the group once, or its tag resource-booking-capacity to min/max/desired",
    ),
    "NoInstances": Advice(
        Fixer.CLOUD_OWNER,
        "give the instances the tag resource-booking-application with the value of spec.tag",
    ),
    "LockTagsInvalid": Advice(Fixer.CLOUD_OWNER, "correct or remove the lock tags of the instances"),
    "LockedElsewhere": Advice(
        Fixer.CLOUD_OWNER, "wait for the end of the lock, or remove the lock tags of the instances"
    ),
    "Blocked": Advice(Fixer.CLOUD_OWNER, "the message says why AWS or a tag prevents it"),
    "StatusChecksFailed": Advice(
        Fixer.CLOUD_OWNER, "look at the status checks and the system log of the instance in AWS"
    ),
    "StartFailed": Advice(Fixer.CLOUD_OWNER, "look at the state reason of the instance in AWS"),
    "NotAccepted": Advice(Fixer.CLOUD_OWNER, "look at the instance in AWS"),
    # The administrator of the operator can fix it.
    "DryRun": Advice(Fixer.OPERATOR_ADMIN, "run the operator without --dry-run"),
    "Forbidden": Advice(Fixer.OPERATOR_ADMIN, "give the ServiceAccount of the operator the permission"),
    "UnauthorizedOperation": Advice(Fixer.OPERATOR_ADMIN, "add the permission to the operator's IAM policy"),
    "NoCredentials": Advice(Fixer.OPERATOR_ADMIN, "give the operator AWS credentials"),
    "ExpiredCredentials": Advice(Fixer.OPERATOR_ADMIN, "renew the AWS credentials of the operator"),
    "ClockSkewed": Advice(Fixer.OPERATOR_ADMIN, "synchronize the clock of the operator's machine"),
    "NoRegion": Advice(Fixer.OPERATOR_ADMIN, "set --region of the operator, or spec.region"),
    "InvalidRegion": Advice(Fixer.USER, "create the object again with another spec.region"),
    "RegionNotAllowed": Advice(Fixer.OPERATOR_ADMIN, "add the region to the account in the configuration"),
    "UnknownAccount": Advice(Fixer.OPERATOR_ADMIN, "add the account to the configuration of the operator"),
    "UnexpectedError": Advice(Fixer.OPERATOR_ADMIN, "report the error with the log of the operator"),
    "ChannelNotConfigured": Advice(Fixer.OPERATOR_ADMIN, "configure the notification channel"),
    "UnknownTarget": Advice(Fixer.OPERATOR_ADMIN, "add the target to the configuration of the operator"),
    "TargetRefused": Advice(Fixer.OPERATOR_ADMIN, "check the notification target"),
    "TargetUnreachable": Advice(Fixer.OPERATOR_ADMIN, "check the notification target"),
    "SmtpFailed": Advice(Fixer.OPERATOR_ADMIN, "check the mail server and SMTP_* of the operator"),
    "DeliveryFailed": Advice(Fixer.OPERATOR_ADMIN, "look at the log of the operator"),
}

_CAPACITY = Advice(
    Fixer.CLOUD_OWNER, "wait for capacity, reserve capacity in AWS, or use another instance type or zone"
)
_LIMIT = Advice(Fixer.CLOUD_OWNER, "ask AWS for a higher quota, or book fewer instances at once")
_OTHER = Advice(Fixer.CLOUD_OWNER, "the message is from AWS; look at the instances there")


def advice_for(reason: str) -> Advice:
    """Return what to do about a reason, also about one that is an error code of AWS."""
    if reason in ADVICE:
        return ADVICE[reason]
    if reason.startswith("Insufficient") and reason.endswith("Capacity"):
        return _CAPACITY
    return _LIMIT if reason.endswith("LimitExceeded") else _OTHER
