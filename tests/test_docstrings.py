"""The names that docstrings describe exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "booking_operator"
WRONG = '''
class Order:
    """An order.

    Args:
        due: when.

    Attributes:
        ids, old: which.
    """

    def __init__(self, at):
        self.ids = at
'''
ENTRY = re.compile(r"^    (?P<names>\**\w+(?:, \**\w+)*): ", re.MULTILINE)


def described(node: ast.AST, section: str) -> set[str]:
    """The names that a section of the docstring of a class or function describes."""
    docstring = ast.get_docstring(node) or ""  # type: ignore[arg-type]
    found = re.search(rf"^{section}:\n(?P<entries>(?: +.*\n?|\n)+)", docstring, re.MULTILINE)
    names = ENTRY.findall(found["entries"]) if found else []
    return {name.strip().lstrip("*") for entry in names for name in entry.split(",")}


def parameters(node: ast.AST) -> set[str]:
    """The parameters of a function, or of the constructor of a class."""
    if isinstance(node, ast.ClassDef):
        constructors = [item for item in functions(node) if item.name == "__init__"]
        return {name for item in constructors for name in parameters(item)} | attributes(node)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {item.arg for item in every if item}


def functions(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]


def attributes(node: ast.AST) -> set[str]:
    """The fields and properties of a class, and what its methods assign to `self`."""
    assert isinstance(node, ast.ClassDef)
    names = {item.name for item in functions(node)}
    for item in node.body:
        targets = [item.target] if isinstance(item, ast.AnnAssign) else getattr(item, "targets", [])
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    stored = (item for item in ast.walk(node) if isinstance(item, ast.Attribute))
    return names | {item.attr for item in stored if isinstance(item.ctx, ast.Store)}


def wrong_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            wrong = described(node, "Attributes") - attributes(node)
            wrong |= described(node, "Args") - parameters(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            wrong = described(node, "Args") - parameters(node)
        else:
            continue
        yield from (f"{node.name}: {name}" for name in sorted(wrong))


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name)
def test_each_name_that_a_docstring_describes_exists(path: Path) -> None:
    assert list(wrong_names(path)) == []


def test_a_wrong_name_is_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(WRONG)
    assert list(wrong_names(path)) == ["Order: due", "Order: old"]
