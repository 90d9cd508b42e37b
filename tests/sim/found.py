"""Minimal scripts that once showed a fault of the operator, one JSON file each in the folder `found`.

Each file names the invariant that was broken and the mutation that has the fault. The seed in the file makes
the mutation break the invariant in one run. A change of the operator shifts the timing by milliseconds, and
the recorded seed may no longer show the fault. `python -m tests.sim --reseed` then records another one.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.sim.mutations import MUTATIONS, RARE
from tests.sim.run import play
from tests.sim.script import Act, Script
from tests.sim.violation import Invariant

FOLDER = Path(__file__).parent / "found"
_MAX_SEEDS = 500
"""How many seeds `reseeded` tries."""


@dataclass(frozen=True)
class FoundScript:
    """A script and the fault that it shows.

    Attributes:
        script: the acts and the seed.
        invariant: the invariant that the mutation breaks.
        mutation: the name of the mutation.
    """

    script: Script
    invariant: Invariant
    mutation: str

    @classmethod
    def load(cls, path: Path) -> "FoundScript":
        """Read a file of the folder."""
        kept = json.loads(path.read_text())
        acts = tuple(Act(**act) for act in kept["script"].pop("acts"))
        return cls(Script(acts=acts, **kept["script"]), Invariant(kept["invariant"]), kept["mutation"])

    def dump(self) -> str:
        """Return the content of a file of the folder."""
        kept = {"invariant": self.invariant, "mutation": self.mutation, "script": asdict(self.script)}
        return json.dumps(kept, indent=1) + "\n"

    def shows_fault(self) -> bool:
        """Whether the operator with the mutation breaks the invariant in a run with this seed."""
        mutation = next(one for one in (*MUTATIONS, *RARE) if one.name == self.mutation)
        return play(self.script, mutation.build).invariant is self.invariant

    def reseeded(self) -> "FoundScript | None":
        """Return the script with the first seed that shows the fault, out of `_MAX_SEEDS`; None without
        one.
        """
        first = self.script.seed
        tried = (replace(self, script=replace(self.script, seed=first + more)) for more in range(_MAX_SEEDS))
        return next((one for one in tried if one.shows_fault()), None)


def reseed() -> bool:
    """Record a seed that shows the fault in each file; return whether there is one for each."""
    found = {path: FoundScript.load(path).reseeded() for path in sorted(FOLDER.glob("*.json"))}
    for path, script in found.items():
        if script is None:
            print(f"{path.name}: no seed of {_MAX_SEEDS} shows the fault")  # noqa: T201 - a command's output
        else:
            path.write_text(script.dump())
    return None not in found.values()
