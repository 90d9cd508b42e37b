"""What the tests read from the log of a process that runs."""

from pathlib import Path

from tests.support.json_lines import json_lines


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('Traceback:\n{"event": "started"}\n{"event": "sto')
    assert json_lines(log) == [{"event": "started"}]


def test_a_process_that_has_not_written_has_no_lines(tmp_path: Path) -> None:
    assert json_lines(tmp_path / "log") == []
