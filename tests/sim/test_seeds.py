"""The seeds of every test run, and the mutations, which `tox -e mutations` runs.

`tox -e sim -- --seeds 10000` runs many more seeds.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.found import FOLDER, FoundScript
from tests.sim.mutations import MUTATIONS, RARE, Mutation
from tests.sim.run import play
from tests.sim.scenario import script
from tests.sim.shrink import minimize
from tests.sim.violation import Invariant

TOP = Path(__file__).parents[2]
EVERYDAY_SEEDS = 10
"""`tox -e sim` runs 300 seeds by default; `tox -e sim -- --mutations` tries up to 300 for each mutation."""
CHUNK = 5
DIGESTS = "from tests.sim.run import play\nfor seed in (14, 19, 23): print(play(seed).digest)"
"""These seeds once gave traces that depended on the order of a set of strings."""


@pytest.mark.parametrize("first", range(0, EVERYDAY_SEEDS, CHUNK))
def test_all_invariants_hold(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = play(seed)
        if outcome.invariant:
            pytest.fail(
                f"seed {seed}: {outcome.message}\n{minimize(script(seed), outcome.invariant).describe()}"
            )


@pytest.mark.mutations
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_mutation_is_caught_within_300_seeds(mutation: Mutation) -> None:
    """Try the recorded seed first. After a change of the operator, another seed may show the mutation."""
    for seed in (mutation.seed, *range(300)):
        if mutation.is_shown_by(play(seed, mutation.build).invariant):
            return
    pytest.fail("no seed shows the mutation: extend the scenario until one does")


def test_each_invariant_is_documented_and_has_a_mutation() -> None:
    page = (TOP / "docs/reliability.md").read_text()
    table = page[page.index("| invariant |") :].split("\n\n")[0].splitlines()[2:]
    assert [line.split(" | ")[0] for line in table] == [f"| {name}" for name in Invariant]
    assert {one.invariant for one in MUTATIONS} >= set(Invariant)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_found_script_passes_and_shows_its_fault_with_the_mutation(path: Path) -> None:
    found = FoundScript.load(path)
    assert play(found.script).message == ""
    assert found.shows_fault(), "if the timing has shifted, run `python -m tests.sim --reseed`"


def test_each_rare_mutation_has_a_found_script() -> None:
    found = {FoundScript.load(path).mutation for path in FOLDER.glob("*.json")}
    assert found >= {mutation.name for mutation in RARE}


@pytest.mark.mutations
def test_a_seed_gives_the_same_trace_in_any_process() -> None:
    """The trace does not depend on the hash seed, and so not on the order of sets."""
    traces = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(TOP)},
            cwd=TOP,
            check=True,
            capture_output=True,
            text=True,
            timeout=100,
        ).stdout
        for seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert len(set(traces[0].split())) == 3


def test_a_failing_script_is_shrunk() -> None:
    bug = next(one for one in MUTATIONS if one.invariant is Invariant.NO_START)
    whole = script(bug.seed)
    minimal = minimize(whole, Invariant.NO_START, bug.build)
    assert minimal.outcome.invariant is Invariant.NO_START
    assert len(minimal.script.acts) < len(whole.acts) / 2
    assert "the shortest script found" in minimal.describe()
    assert play(minimal.script, bug.build).digest == minimal.outcome.digest
