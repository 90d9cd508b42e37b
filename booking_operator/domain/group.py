"""Groups of instances and their scopes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """One region of one account. A call reaches one scope, and AWS counts request limits by scope.

    Attributes:
        account: the name of the account in the configuration; empty for the operator's own account.
        region: the AWS region.
    """

    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Group:
    """All instances of a service whose tag `resource-booking-application` is `tag`, in one scope."""

    service: str
    account: str
    region: str
    tag: str

    @property
    def scope(self) -> Scope:
        """The region and account of the group."""
        return Scope(self.account, self.region)

    @property
    def place(self) -> str:
        """The region and account as text for users."""
        return f"{self.region} of account {self.account}" if self.account else self.region


def spelling(tag: str) -> str:
    """Return a tag without blanks and in lower case. Tags with the same result are probably one group."""
    return "".join(tag.split()).casefold()
