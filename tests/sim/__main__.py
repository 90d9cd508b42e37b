"""Run many seeds with `python -m tests.sim --seeds 10000`, or one with its trace: `--seed 4711 --trace`."""

import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click

from tests.sim import found
from tests.sim.build import CORRECT, Build
from tests.sim.mutations import MUTATIONS, RARE
from tests.sim.run import Outcome, play, play_briefly
from tests.sim.scenario import script
from tests.sim.shrink import Minimized, minimize

T = TypeVar("T")

RUNS_PER_PROCESS = 100
"""Runs after which a process of the pool is replaced, so that its memory stays small."""
MAX_MUTATION_SEEDS = 300
"""Seeds that are run for each mutation until one shows it."""


@click.command()
@click.option("--seeds", default=300, show_default=True, help="Number of seeds to run.")
@click.option("--first", default=0, show_default=True, help="First seed.")
@click.option("--seed", type=int, help="Run only this seed.")
@click.option("--trace", is_flag=True, help="Print the trace of the run with --seed.")
@click.option(
    "--mutation",
    type=click.Choice([mutation.name for mutation in (*MUTATIONS, *RARE)]),
    help="Run --seed with this mutation.",
)
@click.option(
    "--save", type=click.Path(path_type=Path), help="Save the shortest script that fails to this file."
)
@click.option("--mutations", is_flag=True, help="Find the first seed that shows each mutation.")
@click.option(
    "--reseed",
    is_flag=True,
    help="Update the seed in each file of `tests/sim/found` so that it shows the fault.",
)
@click.option("--jobs", default=os.cpu_count() or 1, help="Number of processes; default: one for each core.")
def main(
    seeds: int,
    first: int,
    seed: int | None,
    trace: bool,
    mutation: str | None,
    save: Path | None,
    mutations: bool,
    reseed: bool,
    jobs: int,
) -> None:
    """Simulate the operator under failures.

    For a failed invariant, print the shortest script that shows the failure.
    """
    if mutations:
        sys.exit(not find_all(jobs))
    if reseed:
        sys.exit(not found.reseed())
    if seed is None:
        sys.exit(not play_all(range(first, first + seeds), jobs))
    build = next((one.build for one in (*MUTATIONS, *RARE) if one.name == mutation), CORRECT)
    outcome = play(seed, build)
    if trace:
        click.echo("\n".join(outcome.trace))
    minimal = report(seed, outcome, build)
    if save and minimal and outcome.invariant:
        save.write_text(found.FoundScript(minimal.script, outcome.invariant, mutation or "").dump())
    sys.exit(minimal is not None)


def play_all(seeds: range, jobs: int) -> bool:
    """Run all seeds and print the failures; return whether all passed."""
    started, failed, steps, seconds = time.monotonic(), [], 0, 0.0
    for number, (seed, outcome) in enumerate(_run_in_pool(play_briefly, seeds, jobs), 1):
        steps, seconds = steps + outcome.steps, seconds + outcome.seconds
        if outcome.invariant:
            failed.append(seed)
            report(seed, outcome)
        if number % 500 == 0:
            click.echo(f"{number} run, {len(failed)} failed", err=True)
    elapsed = time.monotonic() - started
    click.echo(f"{len(seeds)} seeds, {seconds / 86400:.1f} virtual days, {steps:,} steps in {elapsed:.0f} s")
    click.echo(f"{len(seeds) - len(failed)} passed, {len(failed)} failed")
    return not failed


def find_all(jobs: int) -> bool:
    """Print the first seed that shows each mutation; return whether each has one."""
    missed = 0
    for number, result in _run_in_pool(first_seed, range(len(MUTATIONS)), jobs):
        seed, message = result
        missed += seed is None
        click.echo(
            f"{MUTATIONS[number].name}: {'not caught' if seed is None else f'seed {seed}'}: {message[:150]}"
        )
    click.echo(f"{len(MUTATIONS) - missed} passed, {missed} failed")
    return not missed


def first_seed(number: int) -> tuple[int, tuple[int | None, str]]:
    """Return the number of a mutation, the first seed that shows it (None without one), and a message."""
    mutation = MUTATIONS[number]
    for seed in range(MAX_MUTATION_SEEDS):
        outcome = play(seed, mutation.build)
        if mutation.is_shown_by(outcome.invariant):
            return number, (seed, outcome.message)
    return number, (None, f"in {MAX_MUTATION_SEEDS} seeds")


def _run_in_pool(call: Callable[[int], T], numbers: range, jobs: int) -> Iterator[T]:
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs, initializer=_collect_less, maxtasksperchild=RUNS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(call, numbers)


def _collect_less() -> None:
    """Let the garbage collector of this process run less often, which saves a seventh of the time."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)


def report(seed: int, outcome: Outcome, build: Build = CORRECT) -> Minimized | None:
    """Print the failure of a run and the shortest script that shows it.

    Returns:
        This script; None if the run has no failure.
    """
    click.echo(f"seed {seed}: {outcome.message or 'all invariants hold'}")
    if not outcome.invariant:
        return None
    minimal = minimize(script(seed), outcome.invariant, build)
    click.echo(minimal.describe())
    return minimal


if __name__ == "__main__":
    main()
