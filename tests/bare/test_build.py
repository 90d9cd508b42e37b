"""The first command of the README, run to its end on a machine that has only Python."""

import pytest

from tests.bare.machine import Machine, readme_commands

pytestmark = [pytest.mark.bare_build, pytest.mark.timeout(7200)]


def test_the_first_command_builds_everything_and_shows_the_demo(machine: Machine) -> None:
    assert machine.programs_present() == []
    venv = machine.venv("venv")
    with machine.command(venv, readme_commands()[0]) as command:
        code = command.wait(7000)
    assert code == 0, command.output
    assert "Subject: Booking reporting-demo of rds.reporting ends at" in command.output
    assert "ACCEPTED AFTER" in command.output
    assert ".tox/demo/bin/booking-operator devcluster" in command.output.partition("What to type next:")[2]
    assert machine.processes() == {}
    assert list(machine.temporary.iterdir()) == []
    built = {path.name for path in machine.cache.glob("booking-operator/devcluster/*/*")}
    assert built == {"build.log", "etcd", "go-package", "kube-apiserver", "kubectl-package", "lock"}
    prepared = machine.check(venv, ".tox/demo/bin/booking-operator devcluster --prepare")
    assert prepared == ""
