"""Child processes: they start, become ready, and never outlive the parent."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.process import ChildProcess, free_port, interrupted_once, listens, run


def lives(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
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


def test_a_child_is_stopped_by_sigterm(tmp_path: Path) -> None:
    with python("import time; print('up', flush=True); time.sleep(60)", tmp_path / "log") as child:
        child.wait_until(lambda: "up" in child.log.read_text())
        pid = child.pid
    assert pid is not None
    assert not lives(pid)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
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
    child.stop(timeout=0.2)
    assert monotonic() - began < 5
    assert not lives(pid)


def test_the_error_of_a_child_that_ends_at_its_start_has_its_log(tmp_path: Path) -> None:
    with (
        python("raise SystemExit('no such port')", tmp_path / "log") as child,
        pytest.raises(DevclusterError, match=r"(?s)probe exited during startup.*no such port"),
    ):
        child.wait_until(lambda: False)


def test_a_child_that_is_never_ready_raises(tmp_path: Path) -> None:
    with (
        python("import time; time.sleep(60)", tmp_path / "log") as child,
        pytest.raises(DevclusterError, match="not ready after 0 s"),
    ):
        child.wait_until(lambda: False, timeout=0.1)


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


def test_a_free_port_is_not_in_use() -> None:
    assert not listens(free_port())


def test_a_run_returns_the_output_and_the_exit_code() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"], tick=lambda _: None)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_an_interrupted_run_kills_the_processes_that_the_program_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def tick(_: float) -> None:
        if pids.exists() and pids.read_text().count("\n") == 2:
            raise KeyboardInterrupt

    script = f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; wait"
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", script], tick=tick, every=0.02)
    for pid in pids.read_text().split():
        wait_until_gone(int(pid))


def test_a_run_has_a_session_of_its_own() -> None:
    done = run([sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"], tick=lambda _: None)
    assert done.stdout == "True\n"


@pytest.fixture
def _no_handlers() -> Iterator[None]:
    """Default signal handlers. A playground of another test may have set others."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_no_handlers")
def test_a_second_interrupt_does_not_abort_the_clean_up() -> None:
    before = signal.getsignal(signal.SIGINT)
    cleaned_up = False
    with interrupted_once():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned_up = True
    assert cleaned_up
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("_no_handlers")
def test_two_interrupts_at_the_same_time_are_one() -> None:
    both = {signal.SIGINT, signal.SIGTERM}
    with interrupted_once():
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        for number in both:
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
