"""Builds etcd and the Kubernetes programs from published Go modules, in a temporary Go module."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.process import run

KUBERNETES = "v1.36.3"
ETCD = "v3.6.8"
GO_VERSION = (1, 26, 0)
"""The oldest Go version that builds both, from the go.mod of KUBERNETES."""
_STAGING = KUBERNETES.replace("v1.", "v0.", 1)

_VERSION_FLAG = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"
_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "pause": "./pause",
}
_IMPORTS = [
    "go.etcd.io/etcd/server/v3/etcdmain",
    *(path for path in _PACKAGES.values() if path.startswith("k8s.io")),
]
_TOOLS = "\n".join(
    [
        "//go:build tools",
        "",
        "package tools",
        "",
        "import (",
        *(f'\t_ "{path}"' for path in _IMPORTS),
        ")",
        "",
    ]
)
_PAUSE = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
"""
"""The program of a pod's pause container. It holds the namespaces of the pod, and waits for SIGTERM."""
_BUILD_TIMES = {"etcd": "about a minute", "kube-apiserver": "5 to 7 minutes on 2 cores"}
_DEFAULT_BUILD_TIME = "1 to 3 minutes on 2 cores"
_TIMEOUT_SECONDS = 3600
_MAX_TAIL_LENGTH = 1500


def environ(go: Path) -> dict[str, str]:
    """Return the environment for the Go command `go`.

    GOROOT belongs to `go`, even if the user's environment names another Go. Go downloads no other Go version.
    """
    root = go.resolve().parent.parent
    result = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    result |= {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    if (root / "src" / "runtime").is_dir():
        result["GOROOT"] = str(root)
    return result


def build(go: Path, target: Path, programs: Sequence[str], progress: Callable[[str], None]) -> None:
    """Build programs into the directory `target`; each file is replaced atomically.

    Raises:
        DevclusterError: Go failed; the message contains the end of its output and the path of its log.
    """
    log = target / "build.log"
    with tempfile.TemporaryDirectory(
        prefix="booking-operator-build-", dir=os.environ.get("GOTMPDIR")
    ) as directory:
        gocall = _Go(go, Path(directory), log, progress)
        _write_module(gocall)
        for name in programs:
            partial = target / f"{name}.partial"
            advice = _BUILD_TIMES.get(name, _DEFAULT_BUILD_TIME)
            title = f"{name} {ETCD if name == 'etcd' else KUBERNETES}"
            flags = ["-trimpath", "-ldflags", f"-s -w {_VERSION_FLAG}", "-o", str(partial)]
            try:
                gocall(["build", *flags, _PACKAGES[name]], f"Building {title} (once; {advice})")
                partial.replace(target / name)
            finally:
                partial.unlink(missing_ok=True)


def _write_module(gocall: "_Go") -> None:
    """Create a module that requires all programs. It replaces each staging module of k8s.io/kubernetes."""
    gocall(["mod", "init", "booking-operator.invalid/devcluster"])
    told = gocall(["mod", "download", "-json", f"k8s.io/kubernetes@{KUBERNETES}"], "Downloading Kubernetes")
    upstream = json.loads(gocall(["mod", "edit", "-json", json.loads(told)["GoMod"]]))
    staging = [
        replace["Old"]["Path"]
        for replace in upstream.get("Replace") or []
        if replace["New"]["Path"].startswith("./")
    ]
    edits = [f"-require=k8s.io/kubernetes@{KUBERNETES}", f"-require=go.etcd.io/etcd/server/v3@{ETCD}"]
    edits += [f"-replace={path}={path}@{_STAGING}" for path in staging]
    gocall(["mod", "edit", *edits])
    (gocall.module / "tools.go").write_text(_TOOLS)
    (gocall.module / "pause").mkdir()
    (gocall.module / "pause" / "main.go").write_text(_PAUSE)
    gocall(["mod", "tidy"], "Downloading Go modules")


class _Go:
    """Runs go commands in the temporary module. All temporary files are in `directory`."""

    def __init__(self, go: Path, directory: Path, log: Path, progress: Callable[[str], None]) -> None:
        self.module = directory / "module"
        temporary = directory / "tmp"
        for path in (self.module, temporary):
            path.mkdir()
        self._go = go
        self._log = log
        self._progress = progress
        # A killed `go` leaves its temporary files. They are deleted together with `directory`.
        self._environ = environ(go) | {"GOTMPDIR": str(temporary), "TMPDIR": str(temporary)}

    def __call__(self, arguments: Sequence[str], task: str = "") -> str:
        """Run one command and return its standard output; report the duration of `task` every 15 s.

        Raises:
            DevclusterError: the command failed, or took longer than an hour.
        """

        def tick(elapsed: float) -> None:
            if elapsed > _TIMEOUT_SECONDS:
                raise DevclusterError(f"`go` timed out after {elapsed:.0f} s; see {self._log}")
            if task:
                self._progress(f"{task} ... {elapsed:.0f} s")

        if task:
            self._progress(f"{task} ...")
        with self._log.open("ab") as log:
            command = [str(self._go), *arguments]
            done = run(command, cwd=self.module, env=self._environ, stderr=log, tick=tick)
        if done.returncode != 0:
            tail = self._log.read_text(errors="replace")[-_MAX_TAIL_LENGTH:].strip()
            raise DevclusterError(
                f"`go {' '.join(arguments[:2])}` failed. End of its output in {self._log}:\n{tail}"
            )
        return done.stdout
