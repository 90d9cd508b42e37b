"""Commands that need an extra, when it is not installed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from booking_operator import extras

ROOT = Path(__file__).parents[1]
HIDE = """
import sys
sys.modules.update(dict.fromkeys({modules!r}))  # Python treats a module that is None there as not installed.
from booking_operator.__main__ import main
main()
"""


def without(extra: str, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command line in a Python that does not find the modules of an extra."""
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(modules=extras.MODULES[extra]), *arguments],
        env={"PATH": path, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "extra"), [("devcluster", "demo"), ("demo", "demo"), ("run", "operator")]
)
def test_the_message_has_the_command_that_installs_the_extra(command: str, extra: str) -> None:
    answer = without(extra, command)
    assert answer.returncode == 1
    assert answer.stdout == ""
    [line] = answer.stderr.splitlines()
    assert line.startswith(
        f"Error: this command needs the extra `{extra}`, which is not installed (missing: "
    )
    assert f"pip install 'booking-operator[{extra}]' (in a checkout: pip install '.[{extra}]')" in line


def test_prepare_works_without_the_extra(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    answer = without("demo", "devcluster", "--prepare", path=str(tmp_path))
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("module", ["change", "ical", "plan", "show", "timeline", "wait", "when"])
def test_the_plugin_works_without_the_extra_of_the_operator(module: str) -> None:
    hidden = (*extras.MODULES["operator"], "botocore", "boto3")
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))"
    code += f"; import booking_operator.cli.kubectl.{module}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("extra", ["operator", "demo"])
def test_the_modules_are_those_of_the_extra(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [text for text in project[extra] if not text.startswith("booking-operator[")]
    if extra == "demo":
        assert "booking-operator[operator]" in project["demo"]
        wanted += project["operator"]
    names = [re.split(r"[\[>=]", text)[0].replace("-", "_") for text in wanted]
    assert sorted(extras.MODULES[extra]) == sorted(names)
