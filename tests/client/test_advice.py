"""Each reason of a condition in the code has an advice, and each advice belongs to a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import booking_operator
from booking_operator.client.advice import ADVICE, Fixer, advice_for
from booking_operator.domain.power import GraceReason

PACKAGE = Path(booking_operator.__file__).parent
REASON_ARGUMENT = {
    "Failure": 0,
    "CloudError": 0,
    "DeliveryError": 0,
    "with_retry_time": 0,
    "report_invalid": 1,
    "ConditionUpdate": 2,
}
"""The position of the reason among the arguments of each function that takes one."""


def constants(node: ast.AST) -> Iterator[str]:
    """Yield the strings that an expression may have as its value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)


def reasons_in(tree: ast.Module) -> Iterator[str]:
    names = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from passed_reasons(node, names)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            yield from assigned_reasons(node, node.value)
        elif isinstance(node, ast.FunctionDef):
            yield from returned_reasons(node)


def passed_reasons(call: ast.Call, names: dict[str, ast.expr]) -> Iterator[str]:
    """Yield the reasons that a call has as its argument. `names` are the constants of the module."""
    function = call.func
    place = REASON_ARGUMENT.get(
        function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    )
    if place is not None and len(call.args) > place:
        argument = call.args[place]
        yield from constants(names.get(argument.id, argument) if isinstance(argument, ast.Name) else argument)


def assigned_reasons(node: ast.Assign, values: ast.Tuple) -> Iterator[str]:
    """Yield the reasons that an assignment of several variables gives to `reason`."""
    for target in node.targets:
        if isinstance(target, ast.Tuple):
            for variable, value in zip(target.elts, values.elts, strict=False):
                if isinstance(variable, ast.Name) and variable.id == "reason":
                    yield from constants(value)


def returned_reasons(function: ast.FunctionDef) -> Iterator[str]:
    """Yield the reasons in the tuples that a function returns, if its result is a reason with other parts."""
    annotation = ast.unparse(function.returns) if function.returns else ""
    place = 1 if annotation.startswith("_Verdict") else 0 if "invalid_re" in function.name else None
    if place is None:
        return
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            yield from constants(node.value.elts[place])


def all_reasons() -> set[str]:
    sources = [path.read_text() for path in PACKAGE.rglob("*.py") if "client" not in path.parts]
    found = {reason for source in sources for reason in reasons_in(ast.parse(source))}
    return found | {str(reason.value) for reason in GraceReason}


def test_each_reason_has_an_advice_and_each_advice_a_reason() -> None:
    assert all_reasons() == set(ADVICE)


def test_a_new_reason_would_be_found() -> None:
    source = """
QUOTA = "Quota"
def f(it) -> _Verdict | None:
    synced, reason, message = False, "Assigned", ""
    raise CloudError("Raised", "text")
    Failure(QUOTA, "text")
    conditions.ConditionUpdate("Ready", False, "A" if it else "B", "")
    return False, "Returned", "message"
"""
    assert set(reasons_in(ast.parse(source))) == {"Quota", "Assigned", "Raised", "A", "B", "Returned"}


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("InsufficientInstanceCapacity", "wait for capacity"),
        ("VcpuLimitExceeded", "higher quota"),
        ("InvalidInstanceIDNotFound", "from AWS"),
    ],
)
def test_an_error_code_of_aws_has_an_advice_too(reason: str, part: str) -> None:
    assert part in advice_for(reason).text


def test_an_advice_for_a_problem_says_what_to_do() -> None:
    silent = [
        reason
        for reason, advice in ADVICE.items()
        if advice.fixer is not Fixer.NOBODY
        and not (advice.text or advice.patch or advice.delete or advice.edit)
    ]
    assert silent == []
