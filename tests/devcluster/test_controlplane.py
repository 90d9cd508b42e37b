"""The control plane starts, restarts, and leaves nothing behind."""

import os
from pathlib import Path

import pytest

from booking_operator.devcluster.binaries import Binaries, find_kubectl, find_or_build
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.kubectl import Kubectl


def processes_of(directory: Path) -> list[str]:
    """The command lines that contain a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(directory) in command and str(os.getpid()) != entry.parent.name:
            found.append(command)
    return found


def test_the_control_plane_starts_restarts_and_leaves_nothing_behind() -> None:
    with ControlPlane(find_or_build(print)) as plane:
        kubectl = Kubectl(find_kubectl(print), plane.kubeconfig)
        assert kubectl("get", "--raw", "/readyz") == "ok"
        url, directory = plane.url, plane.directory
        assert len(processes_of(directory)) == 2
        kubectl("create", "namespace", "kept")
        plane.stop_apiserver(kill=True)
        with pytest.raises(DevclusterError, match="kubectl get"):
            kubectl("get", "--raw", "/readyz")
        plane.start_apiserver()
        assert plane.url == url
        assert "kept" in kubectl("get", "namespaces")
        plane.stop_etcd(kill=True)
        plane.start_etcd()
        plane.pause_etcd()
        plane.resume_etcd()
        assert "kept" in kubectl("get", "namespaces")
    assert processes_of(directory) == []
    assert not directory.exists()


def test_a_program_that_cannot_run_is_reported(tmp_path: Path) -> None:
    broken = tmp_path / "etcd"
    broken.write_text("#!/bin/sh\necho 'cannot bind' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(DevclusterError, match=r"(?s)etcd exited during startup.*cannot bind"):
        ControlPlane(Binaries(broken, broken)).__enter__()
