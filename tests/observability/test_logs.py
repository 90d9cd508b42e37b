"""Logs have one line for each fact, whatever texts users write, and no secrets in tracebacks."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from booking_operator.observability.logs import Format, configure

FORMATS: tuple[Format, ...] = ("json", "console")
EVIL = "ada\n2026-01-01T00:00:00Z [info] forged\r\x1b[2J\x1b]0;title\x07\x85\u2028\u202e"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.split("\n") if line]


@pytest.mark.parametrize("format_", FORMATS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
@example(text=EVIL)
def test_no_text_adds_a_line_or_a_control_character(
    capsys: pytest.CaptureFixture[str], format_: Format, text: str
) -> None:
    configure(format_, "debug")
    structlog.get_logger().info("booking_told", user=text, all=[text], by={text: 1})
    logging.getLogger("library").warning("about %s", text)
    found = lines(capsys)
    assert len(found) == 2
    assert all(line.isprintable() for line in found)
    if format_ == "json":
        assert json.loads(found[0])["user"] == text


@pytest.mark.parametrize("format_", FORMATS)
def test_a_traceback_has_no_values_of_variables(capsys: pytest.CaptureFixture[str], format_: Format) -> None:
    def fail(password: str) -> None:
        raise ValueError(f"{len(password)} letters; {EVIL}")

    configure(format_, "debug")
    for log in (structlog.get_logger(), logging.getLogger("library")):
        try:
            fail("hunter" + "2")
        except ValueError:
            log.exception("reconcile_failed")
    found = lines(capsys)
    assert "hunter2" not in "\n".join(found)
    assert "hunter" not in found[0]
    assert all(line.isprintable() for line in found)
    if format_ == "json":
        assert len(found) == 2
        assert json.loads(found[0])["exception"][0]["frames"]
    else:
        assert [line for line in found if not line.startswith(" ")] == [
            line for line in found if "reconcile_failed" in line
        ]
        assert any("raise ValueError" in line for line in found)
