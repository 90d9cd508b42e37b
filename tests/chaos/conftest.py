"""`--table`: what was measured goes into docs/reliability.md."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.table import PAGE, written
from tests.chaos.trial import SEED

_results: dict[str, Mapping[str, Any]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", action="store_true", help="write the table of docs/reliability.md")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Where several processes run the tests, the first of them hears of all."""
    if report.when == "call" and report.passed:
        for key, value in report.user_properties:
            if key == "chaos" and isinstance(value, Mapping):
                _results[value["fault"]] = value


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--table", default=False) or hasattr(session.config, "workerinput"):
        return
    if missing := {fault.name for fault in FAULTS} - _results.keys():
        pytest.exit(f"the table is not written: no result of {', '.join(sorted(missing))}", returncode=1)
    PAGE.write_text(written(PAGE.read_text(), _results, SEED))
