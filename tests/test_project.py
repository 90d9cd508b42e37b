"""Properties of the project: locked dependencies, licences, and documentation."""

import ast
import re
import tomllib
from collections import Counter
from importlib.metadata import Distribution, distribution
from itertools import chain
from pathlib import Path
from typing import get_args

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from booking_operator.cloud.aws.clients import ClientName

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
    assert whole["dependency-groups"]["build"] == build  # the lock includes this group


DESIGN = (ROOT / "docs/design.md").read_text()


def test_the_module_table_lists_all_modules() -> None:
    table = DESIGN.split("## Modules and their invariants")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", cell)}
    package = ROOT / "booking_operator"
    assert not [name for name in listed if not (package / name).exists()]
    found = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    found |= {path.name for path in package.glob("[a-z]*.py")}
    assert sorted(found - {name.split("/")[0] + "/" if "/" in name else name for name in listed}) == []


def test_no_two_classes_have_the_same_name() -> None:
    paths = (ROOT / "booking_operator").rglob("*.py")
    names = Counter(
        node.name
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_each_hop_of_a_booking_names_a_module() -> None:
    hops = re.findall(r"^\| \d+ \| `([a-z_/0-9]+\.py)`", DESIGN, re.MULTILINE)
    assert len(hops) == 15
    assert not [hop for hop in hops if not (ROOT / "booking_operator" / hop).exists()]


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_contributing_describes_each_folder_of_tests() -> None:
    rows = re.findall(r"^\| (`tests/.*?) \|", CONTRIBUTING, re.MULTILINE)
    described = set(re.findall(r"`(tests/[a-z0-9/]+)`", " ".join(rows)))
    folders = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert described == folders - {"tests"}


def test_contributing_describes_each_tox_environment() -> None:
    tox = (ROOT / "tox.ini").read_text()
    described = set(re.findall(r"^\| `tox -e ([a-z-]+)` \|", CONTRIBUTING, re.MULTILINE))
    assert described == set(re.findall(r"^\[testenv:([a-z-]+)\]$", tox, re.MULTILINE))


def test_ci_runs_the_environments_that_contributing_names() -> None:
    commands = re.findall(r"^python3 -m tox -e ([a-z-]+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    [sentence] = re.findall(r"`\.ci/run` runs `tox` and then (.*?)\.", CONTRIBUTING, re.DOTALL)
    assert commands == re.findall(r"`([a-z-]+)`", sentence)


def test_the_image_keeps_the_botocore_data_of_each_service() -> None:
    kept = set(re.findall(r"! -name ([a-z0-9-]+)", (ROOT / "Dockerfile").read_text()))
    assert kept == {*get_args(ClientName), "sts", "sso", "sso-oidc"}


LICENCES = re.compile(
    r"Apache[ -](License )?2\.0|MIT|BSD.*|PSF-2\.0|MPL-2\.0|Apache Software License|Dual License",
    re.IGNORECASE,
)


def installed() -> dict[str, Distribution]:
    """The package and all dependencies of the operator, by name."""
    found: dict[str, Distribution] = {}
    waiting = ["booking-operator"]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found[name] = distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            extra = "operator" if name == "booking-operator" else ""
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting.append(requirement.name)
    return found


def test_installed_versions_are_the_locked_ones() -> None:
    """Every version was reviewed: there are no unlocked dependencies."""
    locked = dict(
        re.findall(r"^([a-z0-9._-]+)==([^ ;\n]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    here = {name: found.version for name, found in installed().items() if name != "booking-operator"}
    assert len(here) < 40
    assert here == {name: locked.get(name) for name in here}


def test_every_licence_allows_redistribution() -> None:
    for name, found in installed().items():
        metadata = found.metadata.json
        classified = [text for text in metadata.get("classifier", ()) if text.startswith("License")]
        licence = str(metadata.get("license_expression") or metadata.get("license") or classified[0])
        for part in re.split(r" AND | OR ", licence.rpartition(" :: ")[2]):
            assert LICENCES.fullmatch(part), f"{name}: {licence}"


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = re.findall(
        r"`(tests/[a-z0-9_/]+\.py)(?:::([a-z0-9_]+))?`", (ROOT / "docs" / "security.md").read_text()
    )
    assert len(named) > 40
    for path, name in named:
        text = (ROOT / path).read_text()
        assert not name or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{path}::{name}"


def test_each_screenshot_is_linked_and_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    linked = {
        (page.parent / target).resolve()
        for page in pages
        for target in re.findall(r"\(([^()\s]+\.png)\)", page.read_text())
    }
    assert linked == set((ROOT / "docs" / "images").glob("*.png"))
