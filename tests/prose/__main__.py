"""Check the text of the project with `python -m tests.prose`, or only the files in the arguments."""

import sys
from pathlib import Path

import click

from tests.prose.check import ROOT, files, findings


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(paths: tuple[Path, ...]) -> None:
    """Print each phrase to avoid, with its position and a suggestion. Exit with 1 if there is any."""
    found = 0
    for path in [path.resolve() for path in paths] or files(ROOT):
        for finding in findings(path.relative_to(ROOT).as_posix(), path.read_text()):
            click.echo(finding)
            found += 1
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
