"""Plays many seeds: `python -m tests.sim --seeds 10000`; or one, with its trace: `--seed 4711 --trace`."""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

import click

from tests.sim.run import Outcome, play, play_briefly
from tests.sim.scenario import script
from tests.sim.shrink import shortest


@click.command()
@click.option("--seeds", default=300, show_default=True, help="How many seeds to play.")
@click.option("--first", default=0, show_default=True, help="The first of them.")
@click.option("--seed", type=int, help="Play this one alone.")
@click.option("--trace", is_flag=True, help="Print all that happens in it.")
@click.option("--jobs", default=os.cpu_count() or 1, help="How many are played at a time; one for each core.")
def main(seeds: int, first: int, seed: int | None, trace: bool, jobs: int) -> None:
    """Simulate the operator with what fails, and print what does not hold, cut down to the shortest script."""
    if seed is not None:
        outcome = play(seed)
        if trace:
            click.echo("\n".join(outcome.trace))
        report(seed, outcome)
        sys.exit(bool(outcome.invariant))
    began, failed, steps, seconds = time.monotonic(), [], 0, 0.0
    for number, (played, outcome) in enumerate(played_all(range(first, first + seeds), jobs), 1):
        steps, seconds = steps + outcome.steps, seconds + outcome.seconds
        if outcome.invariant:
            failed.append(played)
            report(played, outcome)
        if number % 500 == 0:
            click.echo(f"{number} played, {len(failed)} failed", err=True)
    took = time.monotonic() - began
    click.echo(
        f"{seeds} seeds, {seconds / 86400:.1f} days, {steps:,} steps in {took:.0f} s; "
        f"{len(failed)} failed{': ' if failed else ''}{', '.join(map(str, failed))}"
    )
    sys.exit(bool(failed))


def played_all(seeds: range, jobs: int) -> Iterator[tuple[int, Outcome]]:
    """All of them, as they end. Processes are renewed, so that none grows."""
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(play_briefly, seeds, chunksize=5)


def report(seed: int, outcome: Outcome) -> None:
    """Tell what does not hold, and by how little it is made to fail."""
    click.echo(f"seed {seed}: {outcome.message or 'all holds'}")
    if not outcome.invariant:
        return
    least = shortest(script(seed), outcome.invariant)
    click.echo(f"  the shortest script that still breaks it: {least.tried} tried")
    for act in least.script.acts:
        click.echo(f"  {act}")
    click.echo("  how it ends:")
    for line in least.outcome.trace[-25:]:
        click.echo(f"    {line[:300]}")


if __name__ == "__main__":
    main()
