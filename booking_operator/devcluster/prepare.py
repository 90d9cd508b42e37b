"""Finds or builds all programs of a devcluster in advance: `booking-operator devcluster --prepare`.

This module imports no optional dependency, so `--prepare` works without the extra `demo`.
"""

from pathlib import Path

import click

from booking_operator.devcluster.binaries import Binaries, find_kubectl, find_or_build, find_or_build_node


def tell(line: str) -> None:
    """Print one line of progress on stderr."""
    click.echo(line, err=True)


def prepare(*, node: bool = False) -> tuple[Binaries, Path]:
    """Find or build all programs of a control plane, and kubectl; with `node`, also those that run pods.

    Raises:
        DevclusterError: a program is missing and cannot be built or installed.
    """
    if node:
        find_or_build_node(tell)
    return find_or_build(tell), find_kubectl(tell)
