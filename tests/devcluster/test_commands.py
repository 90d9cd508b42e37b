"""`devcluster` and `demo` as a new user runs them."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.prepare import prepare


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_devcluster_prints_variables_and_leaves_nothing_behind(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "booking_operator", "devcluster"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        exported = process.stdout.readline() + process.stdout.readline()
        values = dict(re.findall(r"(\w+)=(\S+)", exported))
        assert values.keys() >= {"KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_REGION"}
        kubectl = Kubectl(find_kubectl(print), Path(values["KUBECONFIG"]))
        assert "bookings" in kubectl("api-resources", "--api-group=manager.kotaico.de")
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "run these two commands" in stderr
    assert stderr.endswith("Stopped.\n")
    directory = Path(values["KUBECONFIG"]).parent
    assert not directory.exists()


def test_the_demo_shows_the_life_of_bookings() -> None:
    began = monotonic()
    answer = subprocess.run(
        [sys.executable, "-m", "booking_operator", "demo"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert "kubectl get rm,bs,resources,bookings" in answer.stdout
    assert "Subject: Booking reporting-demo of rds.reporting ends at" in answer.stdout
    # This is no terminal, so no browser opens, and the demo ends by itself.
    assert re.search(r"^The board is at http://127\.0\.0\.1:\d+/#\S{43}$", answer.stderr, re.MULTILINE)
    for word in ("SCHEDULED", "IN PROGRESS", "FINISHED", "STOPPED", "RUNNING", "ACCEPTED AFTER"):
        assert word in answer.stdout
    assert len(re.findall(r"\d+\.\d ms", answer.stdout)) == 8  # a start and a stop of each type
    [program] = re.findall(
        r"^    (\S+) devcluster$", answer.stdout.partition("What to type next:")[2], re.MULTILINE
    )
    assert Path(program).is_file()
    assert monotonic() - began < 100


def test_the_demo_opens_the_board_on_a_terminal_with_a_browser(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\ncp "${{1#file://}}" {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o700)
    main, side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "booking_operator", "demo"],
        stdout=side,
        stderr=subprocess.PIPE,
        env=os.environ | {"BROWSER": f"{browser} %s &"},
        text=True,
    ) as process:
        os.close(side)
        reader = threading.Thread(target=drain, args=(main,))
        reader.start()
        assert process.stderr is not None
        said = ""
        while "Press Ctrl-C to end the demo" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        # The address of the redirect file is that of the message, and the board answers there.
        [address] = re.findall(r"^The board is at (\S+)$", said, re.MULTILINE)
        assert f"url={address}" in opened.read_text()
        with urllib.request.urlopen(address.partition("#")[0], timeout=10) as answer:  # noqa: S310 - loopback
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        reader.join()
    os.close(main)
    assert process.returncode == 0


def drain(terminal: int) -> None:
    """Read what a program writes to its terminal, until it ends."""
    with suppress(OSError):
        while os.read(terminal, 65536):
            pass


def test_an_interrupted_demo_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "booking_operator", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "kubectl get" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "No processes or temporary files remain" in stderr


@pytest.fixture
def cluster() -> Iterator[Kubectl]:
    """The cluster of a user, without the CRDs of the operator."""
    binaries, kubectl = prepare()
    with ControlPlane(binaries) as plane:
        yield Kubectl(kubectl, plane.kubeconfig)


def demo_in(cluster: Kubectl, context: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "booking_operator", "demo", "--context", context],
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_demo_runs_in_a_cluster_of_the_user_and_leaves_nothing_there(cluster: Kubectl) -> None:
    context = cluster("config", "current-context").strip()
    answer = demo_in(cluster, context)
    assert answer.returncode == 0, answer.stderr
    assert "What to type next" in answer.stdout
    assert cluster("get", "crds", "-o", "name") == ""
    namespace = cluster(
        "get", "namespace", "booking-operator-demo", "-o", "jsonpath={.metadata.deletionTimestamp}"
    )
    assert namespace  # the namespace controller, which does not run here, removes it


def test_the_demo_refuses_a_cluster_that_has_the_crds_already(cluster: Kubectl) -> None:
    context = cluster("config", "current-context").strip()
    cluster("apply", "-k", str(Path(__file__).parents[2] / "manifests" / "crds"))
    answer = demo_in(cluster, context)
    assert answer.returncode == 1
    assert "has the CRDs of the operator already" in answer.stderr
    assert len(cluster("get", "crds", "-o", "name").split()) == 6
    assert cluster("get", "namespace", "booking-operator-demo", "--ignore-not-found") == ""


def test_the_demo_refuses_a_namespace_that_exists_and_leaves_it(cluster: Kubectl) -> None:
    context = cluster("config", "current-context").strip()
    cluster("create", "namespace", "booking-operator-demo")
    answer = demo_in(cluster, context)
    assert answer.returncode == 1
    assert "has a namespace booking-operator-demo already" in answer.stderr
    found = cluster(
        "get", "namespace", "booking-operator-demo", "-o", "jsonpath={.metadata.deletionTimestamp}"
    )
    assert found == ""


def test_the_demo_refuses_a_user_who_signs_in_by_a_program(cluster: Kubectl) -> None:
    context = cluster("config", "current-context").strip()
    cluster(
        "config",
        "set-credentials",
        "cloud",
        "--exec-command=aws",
        "--exec-api-version=client.authentication.k8s.io/v1",
    )
    cluster("config", "set-context", context, "--user=cloud")
    answer = demo_in(cluster, context)
    assert answer.returncode == 1
    assert "signs in by a program" in answer.stderr


def test_the_demo_refuses_a_context_that_does_not_exist(cluster: Kubectl) -> None:
    answer = demo_in(cluster, "prod")
    assert answer.returncode == 1
    assert "--context 'prod': error: " in answer.stderr
