"""Groups of instances, and where they are."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """One region of one account: as far as one call reaches, and what AWS counts its limits for."""

    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Group:
    """One group of instances: those whose application tag is `tag`, in one region of one account."""

    service: str
    account: str
    region: str
    tag: str

    @property
    def scope(self) -> Scope:
        """The region and account it lies in."""
        return Scope(self.account, self.region)

    @property
    def place(self) -> str:
        """Where it is, as a user would say it."""
        return f"{self.region} of account {self.account}" if self.account else self.region
