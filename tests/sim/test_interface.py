"""The simulation uses only public names of the operator, and the operator exposes all that it keeps."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import booking_operator
from tests.sim.run import Run
from tests.sim.scenario import script

HERE = Path(__file__)
TOP = HERE.parents[2]
FORBIDDEN = (
    "__dict__",
    "__qualname__",
    "cr_frame",
    "f_locals",
    "get_referents",
    "monkeypatch",
    "setattr(",
    "vars(",
)
KEYED_BY_OBJECT = re.compile(r"(dict|defaultdict|OrderedDict|Counter|set)\[(Key|K)[],]")
"""Matches the type of an attribute whose entries are keyed by an object."""


def ruff_output(place: str, source: str) -> str:
    """Return the findings of ruff about private names, for a file at this path."""
    command = ["ruff", "check", "--select", "SLF001", "--output-format", "concise", "--stdin-filename", place]
    found = subprocess.run(
        [sys.executable, "-m", *command, "-"],
        input=source,
        cwd=TOP,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return found.stdout


@pytest.mark.parametrize(
    "path", sorted(path for path in HERE.parent.glob("*.py") if path != HERE), ids=lambda path: path.stem
)
def test_no_file_inspects_the_operator(path: Path) -> None:
    text = path.read_text()
    assert [name for name in FORBIDDEN if name in text] == []


def test_ruff_reports_private_names_in_this_folder_only() -> None:
    assert "SLF001" in ruff_output("tests/sim/any.py", "import json\n\nprint(json._decoder)\n")
    assert "SLF001" not in ruff_output("tests/support/any.py", "import json\n\nprint(json._decoder)\n")


def classes() -> Iterator[tuple[str, dict[str, ast.FunctionDef]]]:
    """Yield the classes of the operator with their methods."""
    for path in sorted(Path(booking_operator.__file__).parent.rglob("*.py")):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.ClassDef):
                yield item.name, {part.name: part for part in item.body if isinstance(part, ast.FunctionDef)}


def keyed_attributes(method: ast.FunctionDef) -> Iterator[str]:
    """Yield the attributes in a method that are annotated as collections keyed by an object."""
    for item in ast.walk(method):
        if isinstance(item, ast.AnnAssign) and KEYED_BY_OBJECT.match(ast.unparse(item.annotation)):
            yield ast.unparse(item.target)


def test_introspect_includes_each_collection_keyed_by_an_object() -> None:
    """Otherwise the simulation could not detect entries of deleted objects."""
    attributes = [
        (name, attribute, "introspect" in methods and f"{attribute}." in ast.unparse(methods["introspect"]))
        for name, methods in classes()
        for method in methods.values()
        for attribute in keyed_attributes(method)
        if attribute.startswith("self.")
    ]
    assert len(attributes) > 10
    assert [(name, attribute) for name, attribute, shown in attributes if not shown] == []


def test_the_operator_includes_the_collections_of_its_parts() -> None:
    named = {
        key.value
        for _, methods in classes()
        if "introspect" in methods
        for item in ast.walk(methods["introspect"])
        if isinstance(item, ast.Dict) and any(isinstance(value, ast.Call) for value in item.values)
        for key in item.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    world = Run(script(1)).world
    world.begin()
    world.kernel.run(60)
    operator = next(replica.operator for _, replica in world.replicas() if replica.is_leader)
    assert operator is not None
    shown = {name.partition(".")[2] for name in operator.introspect()}
    for replica in world.all_replicas:
        replica.process.kill()
    assert len(named) > 10
    assert named <= shown
