"""The processes that the sweep regards as parts of a cluster, and kills."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.node.sweep import _processes


@contextmanager
def running(name: str, file: Path) -> Iterator[int]:
    """A program with that name that has a file open; yields its pid."""
    command = [name, "-f", str(file)]
    with subprocess.Popen(command, executable="/usr/bin/tail", stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"a line\n"  # the process has executed the program
            yield process.pid
        finally:
            process.kill()


def test_the_sweep_finds_programs_of_a_cluster_but_not_readers_of_its_logs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "etcd.log").write_text("a line\n")
    file, elsewhere = tmp_path / "a" / "etcd.log", tmp_path / "b" / "etcd.log"
    with running("/opt/etcd", file) as part, running("tail", file), running("etcd", elsewhere):
        assert list(_processes(tmp_path / "a")) == [part]
