"""Finds the shortest script that still breaks an invariant: delta debugging over its acts.

See A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002 (ddmin).
"""

from dataclasses import dataclass

from tests.sim.build import CORRECT, Build
from tests.sim.run import Outcome, play
from tests.sim.script import Script
from tests.sim.violation import Invariant

MOST = 400
"""Runs that a search may take."""
LAST, LONGEST = 25, 300
"""Lines of a trace that are shown, and characters of each."""


@dataclass(frozen=True, slots=True)
class Shortest:
    """What was found.

    Attributes:
        script: the shortest that breaks the invariant.
        outcome: what comes of it.
        tried: how many scripts were played.
    """

    script: Script
    outcome: Outcome
    tried: int

    def told(self) -> str:
        """The script, and the end of what comes of it."""
        lines = [f"  the shortest script found that breaks it, of {self.tried} tried:"]
        lines += [f"    {act}" for act in self.script.acts]
        lines += ["  how it ends:", *(f"    {line[:LONGEST]}" for line in self.outcome.trace[-LAST:])]
        return "\n".join(lines)


def shortest(script: Script, invariant: Invariant, build: Build = CORRECT) -> Shortest:
    """Cut down a script that breaks an invariant, for as long as it still does."""
    best, outcome, tried, parts = script, play(script, build), 1, 2
    while len(best.acts) > 1 and tried < MOST:
        size = max(1, len(best.acts) // parts)
        for start in range(0, len(best.acts), size):
            smaller = best.with_acts(best.acts[:start] + best.acts[start + size :])
            seen, tried = play(smaller, build), tried + 1
            if seen.invariant == invariant:
                best, outcome, parts = smaller, seen, max(2, parts - 1)
                break
            if tried >= MOST:
                break
        else:
            if size == 1:
                break
            parts = min(len(best.acts), 2 * parts)
    return Shortest(best, outcome, tried)
