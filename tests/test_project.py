"""What is promised about the project itself."""

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_lock_has_every_dependency() -> None:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, build = whole["project"], whole["build-system"]["requires"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values()), *build]
    names = {re.split(r"[\[>=<~! ]", requirement)[0].lower() for requirement in wanted}
    locked = set(
        re.findall(
            r"^([a-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==", (ROOT / "constraints.txt").read_text(), re.MULTILINE
        )
    )
    assert names - {project["name"]} <= locked, "run: tox -e lock"
    assert whole["dependency-groups"]["build"] == build  # by which they get there


def test_modules_stay_small() -> None:
    long = [
        str(path) for path in (ROOT / "booking_operator").rglob("*.py") if path.read_text().count("\n") > 300
    ]
    assert long == []


def test_the_map_in_the_readme_is_of_this_package() -> None:
    readme = (ROOT / "README.md").read_text()
    for place in re.findall(r"^\| `([a-z_/.]+)`", readme, re.MULTILINE):
        if "/" in place:
            assert (ROOT / place).exists(), place
