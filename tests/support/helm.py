"""Real helm, built once from its published Go module."""

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.support.kustomize import SYSTEM, Objects, by_name
from tools.go_programs import HELM, program
from tools.project import NAME, ROOT

CHART = ROOT / "charts" / NAME


class HelmError(Exception):
    """helm refused a command. The text is its message."""


@cache
def _helm() -> str:
    return str(program("helm", HELM))


def helm(*arguments: str, stdin: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Run helm.

    Raises:
        HelmError: helm refused the command.
    """
    done = subprocess.run(
        [_helm(), *arguments],
        input=stdin,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise HelmError(done.stderr)
    return done.stdout


def template(
    values: Mapping[str, Any] | None = None,
    *options: str,
    namespace: str = SYSTEM,
    release: str = NAME,
) -> Objects:
    """Return the objects that the chart renders with these values, by kind and name."""
    command = ("template", release, str(CHART), "--namespace", namespace, "--values", "-", *options)
    return by_name(helm(*command, stdin=json.dumps(values or {})))
