"""What is done in a run, and when: plain data.

A script can be cut down, and what is left of it plays as before: the chance that links and servers have is
drawn from the seed by each of them apart, and not from what a script says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done at an instant, in seconds after the beginning.

    Attributes:
        does: name of a method of `world.World`, or of `users.Users`.
        lasts: for how many seconds; 0 where it is done at once.
    """

    at: float
    does: str
    with_: Mapping[str, Any]
    lasts: float = 0.0

    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.with_.items())
        return f"{self.at:9.3f} {self.does} {facts}" + (f" for {self.lasts:.3f} s" if self.lasts else "")


@dataclass(frozen=True, slots=True)
class Script:
    """One run, from its beginning to its end.

    Attributes:
        replicas: how many processes of the operator there are; more than one elect a leader.
        lease_seconds: LeaseDuration; 0 where there is no election.
        ends_at: when the last act is over.
    """

    seed: int
    replicas: int
    lease_seconds: float
    acts: tuple[Act, ...]
    ends_at: float

    def with_acts(self, acts: tuple[Act, ...]) -> "Script":
        """The same with other acts; it ends when they do."""
        ends_at = max((act.at + act.lasts for act in acts), default=0.0)
        return replace(self, acts=acts, ends_at=min(self.ends_at, ends_at + 1))
