"""Child processes: started, waited for, and never left behind."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from time import monotonic, sleep

import pytest

from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.process import ChildProcess, free_port, listens


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = monotonic() + 10
    while lives(pid):
        assert monotonic() < deadline
        sleep(0.01)


def python(code: str, log: Path) -> ChildProcess:
    return ChildProcess("probe", [sys.executable, "-c", textwrap.dedent(code)], log)


def test_it_is_stopped_by_sigterm(tmp_path: Path) -> None:
    with python("import time; print('up', flush=True); time.sleep(60)", tmp_path / "log") as child:
        child.wait_until(lambda: "up" in child.log.read_text())
        pid = child.pid
    assert pid is not None
    assert not lives(pid)


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("up", flush=True)
        time.sleep(60)
    """
    child = python(code, tmp_path / "log")
    child.start()
    child.wait_until(lambda: "up" in child.log.read_text())
    began, pid = monotonic(), child.pid
    assert pid is not None
    child.stop(patience=0.2)
    assert monotonic() - began < 5
    assert not lives(pid)


def test_one_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    with (
        python("raise SystemExit('no such port')", tmp_path / "log") as child,
        pytest.raises(DevclusterError, match=r"(?s)probe ended at its start.*no such port"),
    ):
        child.wait_until(lambda: False)


def test_one_that_is_never_ready_says_so(tmp_path: Path) -> None:
    with (
        python("import time; time.sleep(60)", tmp_path / "log") as child,
        pytest.raises(DevclusterError, match="not ready after 0 s"),
    ):
        child.wait_until(lambda: False, patience=0.1)


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from booking_operator.devcluster.process import ChildProcess
        sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
        child = ChildProcess("c", sleeper, Path({str(tmp_path / "c")!r}))
        child.start()
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert lives(pid)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until_gone(pid)


def test_ports() -> None:
    assert not listens(free_port())
