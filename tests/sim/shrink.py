"""Find a short script that breaks the same invariant, by delta debugging over the acts.

The algorithm is ddmin: A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002.
"""

from dataclasses import dataclass

from tests.sim.build import CORRECT, Build
from tests.sim.run import Outcome, play
from tests.sim.script import Script
from tests.sim.violation import Invariant

MAX_RUNS = 400
"""The maximum number of runs of a search."""
TRACE_LINES, MAX_LINE_LENGTH = 25, 300
"""Lines of the trace in the description, and characters of each line."""


@dataclass(frozen=True, slots=True)
class Minimized:
    """The result of a search.

    Attributes:
        script: the shortest script found that breaks the invariant.
        outcome: the outcome of this script.
        runs: the number of scripts that were played.
    """

    script: Script
    outcome: Outcome
    runs: int

    def describe(self) -> str:
        """Return the script and the end of its trace as text."""
        lines = [f"  the shortest script found in {self.runs} runs:"]
        lines += [f"    {act}" for act in self.script.acts]
        lines += [
            "  the end of its trace:",
            *(f"    {line[:MAX_LINE_LENGTH]}" for line in self.outcome.trace[-TRACE_LINES:]),
        ]
        return "\n".join(lines)


def minimize(script: Script, invariant: Invariant, build: Build = CORRECT) -> Minimized:
    """Remove acts from a script as long as it still breaks the invariant."""
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
