"""The command line: help, invalid input, and messages with the fix."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from booking_operator.api.kinds import ALL_KINDS

UNSERVED = ("--metrics-bind-address=0", "--health-probe-bind-address=0")


def booking_operator(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "booking_operator", *arguments],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_lists_every_command() -> None:
    answer = booking_operator("--help")
    assert answer.returncode == 0
    for command in ("run", "crds", "devcluster", "demo"):
        assert command in answer.stdout


def test_crds_are_written_and_printed(tmp_path: Path) -> None:
    printed = booking_operator("crds").stdout
    assert booking_operator("crds", "--output", str(tmp_path)).returncode == 0
    written = sorted(path.read_text() for path in tmp_path.iterdir())
    assert len(written) == len(ALL_KINDS)
    assert all(text in printed for text in written)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AWS_REGION": "eu-west-1"}, "no cluster configured: use --kubeconfig, set KUBECONFIG"),
        ({"AWS_REGION": "eu-west-1", "KUBECONFIG": "/nowhere"}, "kubeconfig /nowhere does not exist"),
        ({"KUBECONFIG": "/nowhere"}, "no AWS region configured; use --region or set AWS_REGION"),
        (
            {"AWS_REGION": "eu-wst-1"},
            "--region or AWS_REGION: 'eu-wst-1' is not a known AWS region; did you",
        ),
        (
            {"AWS_REGION": "eu-west-1", "AWS_ASSUME_ROLE_ARN": "operator"},
            "AWS_ASSUME_ROLE_ARN: 'operator' is not the ARN of a role; use a value like arn:aws:iam::",
        ),
        ({"AWS_REGION": "eu-west-1", "SMTP_HOST": "mail"}, "SMTP_SENDER='' is not an email address"),
        (
            {"AWS_REGION": "eu-west-1", "BOOKING_OPERATOR_CONFIG": "/nowhere.yaml"},
            "/nowhere.yaml: No such file or directory",
        ),
    ],
)
def test_missing_settings_are_reported_in_one_line(
    environ: dict[str, str], words: str, tmp_path: Path
) -> None:
    answer = booking_operator("run", "--log-format=json", *UNSERVED, HOME=str(tmp_path), **environ)
    assert answer.returncode == 1
    [line] = answer.stderr.splitlines()
    entry = json.loads(line)
    assert entry["event"] == "startup_failed"
    assert words in entry["error"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "a: [",
        "token: hunter2: x",
        "kind: Config",
        "current-context: x\ncontexts: []\nclusters: []\nusers: []",
    ],
)
def test_a_malformed_kubeconfig_is_reported(content: str, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(content)
    answer = booking_operator(
        "run", "--log-format=json", *UNSERVED, "--region=eu-west-1", "--kubeconfig", str(kubeconfig)
    )
    assert answer.returncode == 1
    entry = json.loads(answer.stderr.splitlines()[-1])
    assert f"cannot use kubeconfig {kubeconfig}" in entry["error"]
    assert "hunter2" not in answer.stderr


def test_an_invalid_duration_is_refused_with_an_example() -> None:
    answer = booking_operator("run", "--notify-before", "soon")
    assert answer.returncode == 2
    assert "'soon' is not a duration; use a value like 90s, 10m or 1h30m" in answer.stderr


def test_node_without_prepare_is_refused() -> None:
    answer = booking_operator("devcluster", "--node")
    assert answer.returncode == 2
    assert "--node requires --prepare" in answer.stderr


def test_an_unknown_flag_is_refused() -> None:
    answer = booking_operator("run", "--speed=11")
    assert answer.returncode == 2
    assert "--speed" in answer.stderr


def test_sigterm_during_the_imports_ends_cleanly(tmp_path: Path) -> None:
    """Without a handler, process 1 of a container ignores SIGTERM."""
    command = [sys.executable, "-X", "importtime", "-m", "booking_operator", "run"]
    environ = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rstrip().endswith("click.core"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "startup_failed" not in rest
