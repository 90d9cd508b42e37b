"""Finds the shortest script that still breaks an invariant: delta debugging over its acts.

See A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002 (ddmin).
"""

from dataclasses import dataclass

from tests.sim.build import CORRECT, Build
from tests.sim.run import Outcome, play
from tests.sim.script import Script
from tests.sim.violation import Invariant

MAX_RUNS = 400
"""Runs that a search may take."""
TRACE_LINES, MAX_LINE_LENGTH = 25, 300
"""Lines of a trace that are shown, and characters of each."""


@dataclass(frozen=True, slots=True)
class Minimized:
    """What was found.

    Attributes:
        script: the minimize that breaks the invariant.
        outcome: what comes of it.
        runs: how many scripts were played.
    """

    script: Script
    outcome: Outcome
    runs: int

    def describe(self) -> str:
        """The script, and the end of what comes of it."""
        lines = [f"  the shortest script found that breaks it, of {self.runs} tried:"]
        lines += [f"    {act}" for act in self.script.acts]
        lines += [
            "  how it ends:",
            *(f"    {line[:MAX_LINE_LENGTH]}" for line in self.outcome.trace[-TRACE_LINES:]),
        ]
        return "\n".join(lines)


def minimize(script: Script, invariant: Invariant, build: Build = CORRECT) -> Minimized:
    """Cut down a script that breaks an invariant, for as long as it still does."""
    best, outcome, runs, parts = script, play(script, build), 1, 2
    while len(best.acts) > 1 and runs < MAX_RUNS:
        size = max(1, len(best.acts) // parts)
        for start in range(0, len(best.acts), size):
            smaller = best.with_acts(best.acts[:start] + best.acts[start + size :])
            result, runs = play(smaller, build), runs + 1
            if result.invariant == invariant:
                best, outcome, parts = smaller, result, max(2, parts - 1)
                break
            if runs >= MAX_RUNS:
                break
        else:
            if size == 1:
                break
            parts = min(len(best.acts), 2 * parts)
    return Minimized(best, outcome, runs)
