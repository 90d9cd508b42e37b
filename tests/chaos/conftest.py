"""The option `--table`, which writes the results into docs/reliability.md."""

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
    """Collect the results. With several worker processes, the controller process receives all reports."""
    if report.when == "call" and report.passed:
        for key, value in report.user_properties:
            if key == "chaos" and isinstance(value, Mapping):
                _results[value["fault"]] = value


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.getoption("--table", default=False):
        return
    if missing := {fault.name for fault in FAULTS} - _results.keys():
        terminalreporter.write_line(
            f"The table is not written: {', '.join(sorted(missing))} have not passed."
        )
        return
    PAGE.write_text(written(PAGE.read_text(), _results, SEED))
    terminalreporter.write_line(f"The table is written: {PAGE}")
