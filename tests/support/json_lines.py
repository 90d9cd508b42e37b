"""Reads the log of a process that runs."""

import json
from pathlib import Path
from typing import Any


def json_lines(log: Path) -> list[dict[str, Any]]:
    """The JSON objects in `log`, one per line; none if the file does not exist.

    Lines that are not JSON objects, such as a traceback, are left out. So is a last line without its
    end: the process may be writing it.
    """
    if not log.exists():
        return []
    lines = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
