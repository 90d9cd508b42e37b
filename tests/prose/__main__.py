"""Checks the text of the project: `python -m tests.prose`. Arguments name other files to check."""

import sys
from pathlib import Path

import click

from tests.prose.check import ROOT, files, findings


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(paths: tuple[Path, ...]) -> None:
    """Print each phrase to avoid, with its place and a suggestion. The exit code is 1 if there are any."""
    found = 0
    for path in [path.resolve() for path in paths] or files(ROOT):
        for finding in findings(path.relative_to(ROOT).as_posix(), path.read_text()):
            click.echo(finding)
            found += 1
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
