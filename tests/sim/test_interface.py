"""The simulation knows the operator by its public names: nobody can rename one of them unnoticed."""

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
INSIDE = (
    "__dict__",
    "__qualname__",
    "cr_frame",
    "f_locals",
    "get_referents",
    "monkeypatch",
    "setattr(",
    "vars(",
)
BY_KEY = re.compile(r"(dict|defaultdict|OrderedDict|Counter|set)\[(Key|K)[],]")
"""The type of an attribute that keeps something by the key of an object."""


def checked(place: str, source: str) -> str:
    """What ruff says about private names in a file at a place, by the settings of the project."""
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
def test_nothing_looks_inside_of_the_operator(path: Path) -> None:
    text = path.read_text()
    assert [name for name in INSIDE if name in text] == []


def test_no_private_name_of_another_object_is_used() -> None:
    assert "SLF001" in checked("tests/sim/any.py", "import json\n\nprint(json._decoder)\n")
    assert "SLF001" not in checked("tests/support/any.py", "import json\n\nprint(json._decoder)\n")


def classes() -> Iterator[tuple[str, dict[str, ast.FunctionDef]]]:
    """The classes of the operator, each with its methods."""
    for path in sorted(Path(booking_operator.__file__).parent.rglob("*.py")):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.ClassDef):
                yield item.name, {part.name: part for part in item.body if isinstance(part, ast.FunctionDef)}


def kept_by_key(method: ast.FunctionDef) -> Iterator[str]:
    for item in ast.walk(method):
        if isinstance(item, ast.AnnAssign) and BY_KEY.match(ast.unparse(item.annotation)):
            yield ast.unparse(item.target)


def test_all_that_is_kept_by_the_key_of_an_object_can_be_looked_at() -> None:
    """Otherwise the simulation would not notice that it outlives the object."""
    kept = [
        (name, attribute, "introspect" in methods and f"{attribute}." in ast.unparse(methods["introspect"]))
        for name, methods in classes()
        for method in methods.values()
        for attribute in kept_by_key(method)
        if attribute.startswith("self.")
    ]
    assert len(kept) > 10
    assert [(name, attribute) for name, attribute, shown in kept if not shown] == []


def test_the_operator_shows_all_that_its_parts_show() -> None:
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
    operator = next(made.operator for _, made in world.replicas() if made.leads)
    assert operator is not None
    shown = {name.partition(".")[2] for name in operator.introspect()}
    for made in world.everyone:
        made.process.kill()
    assert len(named) > 10
    assert named <= shown
