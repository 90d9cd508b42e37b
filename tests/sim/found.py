"""Scripts that have once found a bug, each cut down to the shortest, as files beside this one."""

import json
from dataclasses import asdict
from pathlib import Path

from tests.sim.script import Act, Script
from tests.sim.violation import Invariant

FOLDER = Path(__file__).parent / "found"


def dump(script: Script, invariant: Invariant, mutation: str) -> str:
    """A script with what it has shown, and the mutation that brings the bug back."""
    return (
        json.dumps({"invariant": invariant, "mutation": mutation, "script": asdict(script)}, indent=1) + "\n"
    )


def load(path: Path) -> tuple[Script, Invariant, str]:
    """A script, the invariant that it has once broken, and the mutation that brings the bug back."""
    kept = json.loads(path.read_text())
    acts = tuple(Act(**act) for act in kept["script"].pop("acts"))
    return Script(acts=acts, **kept["script"]), Invariant(kept["invariant"]), kept["mutation"]
