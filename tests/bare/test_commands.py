"""The commands of the README on a machine that has only Python, until the long compilation starts.

Each test continues with the machine of the test before it. The second compilation uses the downloads of the
first one, and the last test removes pip.
"""

from pathlib import Path
from time import monotonic

import pytest

from tests.bare.machine import Command, Machine, readme_commands

pytestmark = [pytest.mark.bare, pytest.mark.timeout(1800)]

COMPILES = r"Building kube-apiserver \S+ \(once; .*\) \.\.\. \d+ s$"
MOST_SECONDS_TO_END = 10


def interrupt_the_compilation(machine: Machine, command: Command) -> int:
    """Interrupt a command while kube-apiserver compiles. It must end soon and leave nothing behind."""
    command.wait_for(COMPILES, 1500)
    assert any("/compile " in line for line in machine.processes().values()), machine.processes()
    began = monotonic()
    command.interrupt()
    code = command.wait(60)
    assert monotonic() - began < MOST_SECONDS_TO_END
    assert machine.processes() == {}
    assert "Traceback" not in command.output, command.output
    assert list(machine.temporary.iterdir()) == []
    assert list(machine.cache.glob("booking-operator/devcluster/*/*.partial")) == []
    return code


@pytest.fixture(scope="module")
def plain(machine: Machine) -> Path:
    """A virtual environment with the operator without extras."""
    venv = machine.venv("plain")
    machine.check(venv, "python3 -m pip install --quiet .")
    return venv


def test_the_machine_is_bare(machine: Machine) -> None:
    assert machine.programs_present() == []
    for directory in (machine.home, machine.cache, machine.temporary):
        assert list(directory.iterdir()) == []


def test_ctrl_c_ends_the_first_command_while_it_compiles(machine: Machine) -> None:
    demo, everything = readme_commands()
    assert "tox -e demo" in demo
    assert "tox " in everything
    with machine.command(machine.venv("venv"), demo) as command:
        interrupt_the_compilation(machine, command)
    said = command.output
    # What it does and how long it takes comes before anything is installed. This machine has no faster way.
    assert 0 < said.index("The first run takes 7 to 10 minutes") < said.index("demo: install_package_deps>")
    assert "--context" not in said
    assert "demo: exit 130 " in said
    assert "Stopped. No processes or temporary files remain." in said


def test_ctrl_c_ends_devcluster_prepare_while_it_compiles(machine: Machine, plain: Path) -> None:
    with machine.command(plain, "exec booking-operator devcluster --prepare") as command:
        code = interrupt_the_compilation(machine, command)
    assert code == 130
    assert command.output.endswith(
        "Stopped. The next run reuses the files that are already downloaded and compiled.\n"
    )


@pytest.mark.parametrize("name", ["devcluster", "demo"])
def test_without_the_extra_the_message_has_the_command_to_install_it(
    name: str, machine: Machine, plain: Path
) -> None:
    output = machine.check(plain, f"booking-operator {name}", fails=True)
    [line] = output.splitlines()
    assert "pip install 'booking-operator[demo]' (in a checkout: pip install '.[demo]')" in line


def test_without_pip_the_message_has_the_fix(machine: Machine, plain: Path) -> None:
    machine.check(plain, "python3 -m pip uninstall --quiet --yes pip")
    (machine.cache / "booking-operator").rename(machine.directory / "set-aside")
    output = machine.check(plain, "booking-operator devcluster --prepare", fails=True)
    assert "has no pip. Either put go on PATH, or install pip with" in output
    assert "Traceback" not in output
