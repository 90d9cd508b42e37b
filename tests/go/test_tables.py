"""The committed tables are what the Go programs print."""

import os
import subprocess
from pathlib import Path

import pytest

from booking_operator.devcluster import gobuild
from booking_operator.devcluster.packages import GO

HERE = Path(__file__).parent
TABLES = {
    "cron": HERE.parent / "domain" / "cron.tsv",
    "httpproxy": HERE.parent / "engine" / "httpproxy.tsv",
}


@pytest.mark.parametrize("program", TABLES)
def test_a_committed_table_is_what_its_program_prints(program: str) -> None:
    go = GO.on_path(os.environ["PATH"], lambda _: None)
    if go is None:
        pytest.skip("there is no Go on PATH")
    command = [str(go), "run", f"./{program}"]
    environ = gobuild.environ(go)
    done = subprocess.run(
        command, cwd=HERE, env=environ, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == TABLES[program].read_text(), f"run in tests/go: go run ./{program}"
