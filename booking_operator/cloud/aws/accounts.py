"""The AWS accounts that the operator uses: its own, and those in its configuration.

A tenant names an account, not a role. Only the operator's configuration decides which roles it may assume.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from booking_operator.cloud.aws.limits_config import LimitsByAction
from booking_operator.cloud.aws.regions import check_region, regions
from booking_operator.cloud.driver import CloudError
from booking_operator.domain.group import Scope
from booking_operator.errors import UserError

OWN_ROLE_VARIABLE = "AWS_ASSUME_ROLE_ARN"
"""The environment variable with the role of the operator's own account, as in the Go operator."""

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-names
_ROLE_ARN = re.compile(r"arn:(aws[a-z-]*):iam::[0-9]{12}:role/([!-~]{1,510}/)?[A-Za-z0-9_+=,.@-]{1,64}")
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _role_arn(arn: str) -> str:
    if not _ROLE_ARN.fullmatch(arn):
        raise ValueError(
            f"{arn!r} is not the ARN of a role; use a value like arn:aws:iam::123456789012:role/name"
        )
    return arn


def _quoted(value: Any) -> Any:
    """Reject an unquoted value.

    YAML reads digits as a number, digits after a zero as octal, and `no` as False.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string; put it in quotes")  # noqa: TRY004 - pydantic requires it
    return value


def _external_id(text: str) -> str:
    if text and not _EXTERNAL_ID.fullmatch(text):
        rule = "use 2 to 1224 letters, digits and characters of _+=,.@:/-"
        raise ValueError(f"{text!r} is not a valid external ID; {rule}")
    return text


class Account(BaseModel):
    """One account, and the role in it that the operator assumes.

    Attributes:
        role_arn: the ARN of the role.
        external_id: the `sts:ExternalId` that the trust policy of the role requires; empty if it requires
            none.
        regions: the regions in which groups may be; empty for all regions.
        limits: request limits of this account that differ from those of all accounts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role_arn: Annotated[str, AfterValidator(_role_arn)]
    external_id: Annotated[str, BeforeValidator(_quoted), AfterValidator(_external_id)] = ""
    regions: tuple[Annotated[str, AfterValidator(check_region)], ...] = ()
    limits: LimitsByAction = {}

    @model_validator(mode="after")
    def _one_partition(self) -> Self:
        partition = self.role_arn.split(":")[1]
        for region in self.regions:
            if regions()[region] != partition:
                of = f"is in the partition {regions()[region]}, but role_arn is in {partition}"
                raise ValueError(f"the region {region!r} {of}; remove the region, or correct role_arn")
        return self


def _names(value: Any) -> Any:
    """Validate the account names here, because pydantic does not report a key in its message."""
    if not isinstance(value, dict):
        return value
    for name in value:
        if name == "":
            text = f"the empty name means the operator's own account, which {OWN_ROLE_VARIABLE} sets"
            raise ValueError(f"{name!r} is not a valid account name; {text}; use another name")
        if not _NAME.fullmatch(str(_quoted(name))):
            text = "use at most 63 lowercase letters, digits and '-', with a letter or digit at both ends"
            raise ValueError(f"{name!r} is not a valid account name; {text}")
    return value


NamedAccounts = Annotated[dict[str, Account], BeforeValidator(_names)]
"""The accounts of the configuration file, by the name that `spec.account` uses."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """All accounts.

    Attributes:
        region: the operator's own region, whose STS is used; empty for the region of environment or profile.
        own_role: ARN of the role of the operator's own account; empty to use its credentials directly.
        named: the other accounts, by name.
    """

    region: str = ""
    own_role: str = ""
    named: Mapping[str, Account] = field(default_factory=dict)

    def check_scope(self, scope: Scope) -> None:
        """Check that the operator may act in `scope`.

        Raises:
            CloudError: the region does not exist, or the account is not configured, or not for this region.
        """
        if scope.region:
            _must_exist(scope.region)
        if not scope.account:
            return
        account = self.named.get(scope.account)
        if account is None:
            text = (
                f"The account {scope.account!r} is not in the operator's configuration; "
                "correct spec.account, or add the account to accounts in the configuration."
            )
            raise CloudError("UnknownAccount", text, retryable=False)
        if account.regions and scope.region not in account.regions:
            text = (
                f"The account {scope.account!r} is not configured for the region {scope.region!r}, "
                f"only for {', '.join(account.regions)}; correct spec.region, or add the region to "
                f"accounts.{scope.account}.regions in the operator's configuration."
            )
            raise CloudError("RegionNotAllowed", text, retryable=False)


def _must_exist(region: str) -> None:
    """Check the region before a client is opened. A client takes memory, and tenants write the region."""
    try:
        check_region(region)
    except ValueError as error:
        raise CloudError("InvalidRegion", f"spec.region: {error}", retryable=False) from None


class OwnRoleError(UserError):
    """The value of `OWN_ROLE_VARIABLE` is not the ARN of a role."""


def own_role(environ: Mapping[str, str]) -> str:
    """Return the ARN of the role of the operator's own account; empty to use its credentials directly.

    Raises:
        OwnRoleError: the value of the variable is not the ARN of a role.
    """
    arn = environ.get(OWN_ROLE_VARIABLE, "").strip()
    try:
        return _role_arn(arn) if arn else ""
    except ValueError as error:
        raise OwnRoleError(f"{OWN_ROLE_VARIABLE}: {error}") from None
