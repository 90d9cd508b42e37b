"""Each AWS error code in the code exists: AWS lists it, or botocore has it, or a comment names its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from botocore.retries.standard import ThrottledRetryableChecker
from botocore.session import get_session

from booking_operator import cloud
from booking_operator.cloud.aws import ec2, errors
from booking_operator.cloud.aws.clients import ClientName

PACKAGE = Path(cloud.__file__).parent
LIST = Path(__file__).parent / "error_codes.txt"
CODE = re.compile(r"[A-Z]\w*(\.[A-Z]\w*)?")
STATE_REASONS = ec2._NO_FAILURES
"""Codes of the state of an instance, which are no errors of a call."""


def published() -> set[str]:
    return {line for line in LIST.read_text().splitlines() if line and not line.startswith("#")}


def modelled() -> set[str]:
    """The codes in the service models of botocore, and those that its retries know as throttling."""
    checker: Any = ThrottledRetryableChecker
    session, found = get_session(), set(checker._THROTTLED_ERROR_CODES)
    for service in (*get_args(ClientName), "sts"):
        for shape in session.get_service_model(service).error_shapes:
            found.add(shape.metadata.get("error", {}).get("code", shape.name))
    return found


def own_reasons(module: ast.Module) -> Iterator[str]:
    """The reasons of errors that the operator itself creates."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "CloudError" and node.args:
            yield from literals(node.args[0])


def literals(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and CODE.fullmatch(part.value):
            yield part.value


def sets_of_codes(module: ast.Module) -> Iterator[str]:
    """The strings in the sets of a module, and those that it compares with the code of an error."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "frozenset":
            yield from literals(node)
        elif isinstance(node, ast.Compare) and re.search(r"\b(code|reason)$", ast.unparse(node.left)):
            for part in node.comparators:
                yield from literals(part)


def named() -> dict[str, set[Path]]:
    """The error codes that the code names, and the modules that name each."""
    modules = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    own = {reason for module in modules.values() for reason in own_reasons(module)}
    found: dict[str, set[Path]] = {}
    for path, module in modules.items():
        for code in sets_of_codes(module):
            if code not in STATE_REASONS and (code not in own or code in published()):
                found.setdefault(code, set()).add(path)
    return found


def test_the_lists_are_whole() -> None:
    assert len(published()) > 400
    assert {"IncorrectInstanceState", "InvalidInstanceID.NotFound"} <= published()
    assert {"InvalidDBInstanceState", "InvalidDBClusterStateFault", "ExpiredTokenException"} <= modelled()
    assert {"RequestLimitExceeded", "OperationNotPermitted", "ExpiredToken", "AccessDenied"} <= named().keys()


@pytest.mark.parametrize("code", sorted(named()))
def test_each_code_is_known_or_has_a_source(code: str) -> None:
    if code in published() | modelled():
        return
    for path in named()[code]:
        comments = re.findall(rf"^# .*\b{code}\b.*https://\S+$", path.read_text(), re.MULTILINE)
        assert comments, f"{path.name} names {code} without a source"


CAPACITY: Any = [
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientDBInstanceCapacity",
    "ReservationCapacityExceeded",
    "VcpuLimitExceeded",
]


@pytest.mark.parametrize("code", CAPACITY)
def test_the_codes_of_missing_capacity_exist(code: str) -> None:
    assert code in published() | modelled()
    assert code in errors._LIMITS or re.fullmatch("Insufficient.*Capacity", code)
