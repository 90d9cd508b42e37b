"""Completion: what `kubectl_complete-booking` answers."""

import stat
from pathlib import Path

import pytest

from booking_operator.cli.kubectl.completion import KINDS, answer
from booking_operator.cli.kubectl.main import cli


def candidates(*words: str) -> list[str]:
    lines = answer(words)
    assert lines[-1] == ":4"
    return [line.partition("\t")[0] for line in lines[:-1]]


def test_the_commands_are_completed_with_their_descriptions() -> None:
    assert candidates("") == sorted(cli.commands)
    assert answer(["boo"]) == ["book\tBook a Resource.", ":4"]


def test_options_and_their_values_are_completed() -> None:
    assert "--duration" in candidates("book", "analytics", "--d")
    assert candidates("status", "-o", "") == ["table", "wide", "json", "yaml", "name", "csv"]
    assert candidates("book", "analytics", "--duration", "4") == ["4h"]
    assert candidates("skip", "office", "t") == ["today", "tomorrow", "tue", "thu"]


def test_no_words_are_like_an_empty_one() -> None:
    assert answer([]) == answer([""])


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of kubectl that records its arguments."""
    program = tmp_path / "kubectl"
    rows = "analytics  RUNNING  2\\nreporting  STOPPED  0\\n"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nprintf "{rows}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return program


def test_the_names_come_from_kubectl_with_the_options_of_the_command(kubectl: Path) -> None:
    assert candidates("book", "-n", "team-a", "--context", "prod-eu", "ana") == ["analytics"]
    assert (kubectl.parent / "calls").read_text() == (
        "get resources.manager.kotaico.de --request-timeout=1s --no-headers "
        "--namespace=team-a --context=prod-eu\n"
    )


def test_the_names_of_several_kinds_come_from_one_call(kubectl: Path) -> None:
    rows = "resource.manager.kotaico.de/web  RUNNING\\n\\nbooking.manager.kotaico.de/afternoon  SCHEDULED\\n"
    kubectl.write_text(f'#!/bin/sh\nprintf "{rows}"\nexit 1\n')
    assert candidates("why", "") == ["web", "afternoon"]


@pytest.mark.parametrize("command", sorted(KINDS))
@pytest.mark.parametrize(
    "flags", [(), ("-n", "team-a"), ("--context=prod", "--namespace", "x", "--as", "ada")]
)
def test_kubectl_runs_once_for_each_command(kubectl: Path, command: str, flags: tuple[str, ...]) -> None:
    """The call that begins before click is imported is the one that the command needs."""
    candidates(command, *flags, "")
    [call] = (kubectl.parent / "calls").read_text().splitlines()
    assert call.split()[1] == ",".join(f"{kind}.manager.kotaico.de" for kind in KINDS[command])


@pytest.mark.parametrize(
    "words", [("boo",), ("book", "--d"), ("book", "web", "--duration", ""), ("when", "t")]
)
def test_kubectl_does_not_run_for_other_words(kubectl: Path, words: tuple[str, ...]) -> None:
    candidates(*words)
    assert not (kubectl.parent / "calls").exists()


@pytest.mark.usefixtures("kubectl")
def test_options_before_the_command_still_give_its_names() -> None:
    assert candidates("-n", "team-a", "book", "ana") == ["analytics"]


def test_a_failure_of_kubectl_completes_nothing(kubectl: Path) -> None:
    kubectl.write_text("#!/bin/sh\necho forbidden >&2\nexit 1\n")
    assert candidates("book", "") == []
    kubectl.unlink()
    assert candidates("book", "") == []
