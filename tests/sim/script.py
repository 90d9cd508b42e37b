"""The script of a run: which acts occur and when, as plain data.

Links and servers each have their own random generator, derived from the seed and not from the acts. A script
can therefore be shortened without a change of the randomness in the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Act:
    """An action of a user, or a failure.

    Attributes:
        at: the instant, in seconds after `kernel.EPOCH`.
        does: the name of a method of `world.World` or of `users.Users`.
        with_: the arguments of the method.
        lasts: the duration in seconds; 0 for an act without one.
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
    """A whole run.

    Attributes:
        seed: the seed of all random generators.
        replicas: the number of replicas; with more than one, they elect a leader.
        lease_seconds: LeaseDuration; 0 without leader election.
        acts: the acts, in order.
        ends_at: the end of the last act.
        deletion_grace: how long a stop waits after a deletion, in seconds.
    """

    seed: int
    replicas: int
    lease_seconds: float
    acts: tuple[Act, ...]
    ends_at: float
    deletion_grace: float = 0.0

    def with_acts(self, acts: tuple[Act, ...]) -> "Script":
        """Return a copy with other acts.

        It ends one second after the last of them, but not later than this script.
        """
        ends_at = max((act.at + act.lasts for act in acts), default=0.0)
        return replace(self, acts=acts, ends_at=min(self.ends_at, ends_at + 1))
