"""The operator as users install it: `kubectl apply -k` on an overlay of their own, or the Helm chart."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml

from booking_operator.devcluster.kubectl import Kubectl
from tests.support.helm import CHART, helm
from tests.support.images import ROOT

NAMESPACE = "booking-operator-system"
NAME = "booking-operator"
REPOSITORY = "registry.invalid/platform/booking-operator"
SECRET = "booking-operator-aws"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
LEASE_SECONDS = 30
READY_SECONDS = 120


@dataclass(frozen=True)
class Installation(ABC):
    """One installation, and the actions of an administrator.

    Attributes:
        kubectl: kubectl as administrator.
        directory: the files of the administrator, and logs.
        environ: the environment variables of the operator.
    """

    kubectl: Kubectl
    directory: Path
    environ: Mapping[str, str]

    @abstractmethod
    def apply(self, tag: str, config: Mapping[str, Any] | None = None, **environ: str) -> None:
        """Install the image of that tag with the operator's configuration, or change the installation."""

    @abstractmethod
    def board(self) -> AbstractContextManager[None]:
        """Install the board with the image of the operator, and remove it at the end of the block."""

    def tag(self) -> str:
        """The tag of the operator's image."""
        found = json.loads(self("get", "deployment", NAME, "--output=json"))
        image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
        return image.rpartition(":")[2]

    def rolled_out(self) -> None:
        """Wait until all replicas have the last revision and are Ready."""
        self("rollout", "status", f"deployment/{NAME}", f"--timeout={READY_SECONDS // 3}s")

    def settled(self) -> None:
        """Wait until there are exactly two pods, both are Ready, and one of them leads."""

        def check() -> bool:
            pods = self.pods()
            ready = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
            return len(pods) == len(ready) == 2 and self.leader() in ready

        until(check, READY_SECONDS, self.situation)

    def pods(self) -> list[dict[str, Any]]:
        """All pods of the operator."""
        selector = f"--selector=app.kubernetes.io/name={NAME}"
        found: list[dict[str, Any]] = json.loads(self("get", "pods", selector, "--output=json"))["items"]
        return found

    def leader(self) -> str:
        """The name of the pod that holds the Lease; an empty string without a holder."""
        found = self.kubectl.attempt("-n", NAMESPACE, "get", "lease", NAME, "--output=json")
        if found.returncode != 0:
            return ""
        holder: str = json.loads(found.stdout)["spec"].get("holderIdentity") or ""
        return holder.rpartition("_")[0]

    @contextmanager
    def following(self, pod: str) -> Iterator[Path]:
        """Write a pod's log into a file until the pod ends. The block ends after the pod."""
        log = self.directory / f"{pod}.log"
        with log.open("wb") as file, self.kubectl.start("-n", NAMESPACE, "logs", "-f", pod, to=file) as child:
            try:
                yield log
                child.wait(20)
            finally:
                child.kill()

    def situation(self) -> str:
        """The output of the commands with which an administrator would look for the cause of a failure."""
        looks = (
            ("get", "deployments,pods,leases", "--output=wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", f"--selector=app.kubernetes.io/name={NAME}", "--tail=15", "--prefix"),
        )
        return "\n".join(self.kubectl.attempt("-n", NAMESPACE, *look).stdout[-4000:] for look in looks)

    def __call__(self, *arguments: str) -> str:
        """Run kubectl in the operator's namespace."""
        return self.kubectl("-n", NAMESPACE, *arguments)


class Kustomization(Installation):
    """`kubectl apply -k` on an overlay."""

    def apply(self, tag: str, config: Mapping[str, Any] | None = None, **environ: str) -> None:
        """Write and apply the overlay."""
        overlay = self._overlay("operator")
        literals = [f"{name}={value}" for name, value in {**self.environ, **environ}.items()]
        maps = [{"name": "booking-operator-env", "literals": literals}]
        if config:
            (overlay / "config.yaml").write_text(yaml.safe_dump(config))
            maps.append({"name": "booking-operator-config", "files": ["config.yaml"]})
        secret = {"name": SECRET, "literals": [f"{name}={value}" for name, value in KEYS.items()]}
        paths = [os.path.relpath(ROOT / "manifests", overlay)]
        self._apply(overlay, tag, resources=paths, configMapGenerator=maps, secretGenerator=[secret])

    @contextmanager
    def board(self) -> Iterator[None]:
        """Apply an overlay with the component alone."""
        overlay = self._overlay("board")
        paths = [os.path.relpath(ROOT / "manifests" / "components" / "board", overlay)]
        self._apply(overlay, self.tag(), components=paths)
        try:
            yield
        finally:
            self.kubectl("delete", "-k", str(overlay), "--wait=false")

    def _overlay(self, name: str) -> Path:
        overlay = self.directory / name
        overlay.mkdir(exist_ok=True)
        return overlay

    def _apply(self, overlay: Path, tag: str, **content: Any) -> None:
        whole = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "images": [{"name": NAME, "newName": REPOSITORY, "newTag": tag}],
            **content,
        }
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(whole))
        self.kubectl("apply", "-k", str(overlay))


@dataclass(frozen=True)
class Chart(Installation):
    """`helm upgrade --install` with values.

    Attributes:
        values: the values of the last call.
    """

    values: dict[str, Any] = field(default_factory=dict)

    def apply(self, tag: str, config: Mapping[str, Any] | None = None, **environ: str) -> None:
        """Install or upgrade the release."""
        if not self.values:
            self._prepare()
        self.values["image"] = {"repository": REPOSITORY, "tag": tag}
        self.values["env"] = {**self.environ, **environ}
        self.values["config"] = dict(config or {})
        self._upgrade()

    @contextmanager
    def board(self) -> Iterator[None]:
        """Upgrade the release with the board, and then without it."""
        self.values["board"] = {"enabled": True}
        self._upgrade()
        try:
            yield
        finally:
            del self.values["board"]
            self._upgrade()

    def _prepare(self) -> None:
        """Create the namespace and the Secret, as docs/install.md shows."""
        self.kubectl("create", "namespace", NAMESPACE)
        self.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        literals = [f"--from-literal={name}={value}" for name, value in KEYS.items()]
        self("create", "secret", "generic", SECRET, *literals)

    def _upgrade(self) -> None:
        command = ("upgrade", "--install", NAME, str(CHART), "--namespace", NAMESPACE, "--values", "-")
        kubeconfig = ("--kubeconfig", str(self.kubectl.kubeconfig))
        helm(*command, *kubeconfig, stdin=json.dumps(self.values))


def is_ready(pod: dict[str, Any]) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def until(check: Callable[[], Any], seconds: float, situation: Callable[[], str] = str) -> Any:
    """Wait until `check` returns a true value; fail with the situation."""
    deadline = monotonic() + seconds
    while not (found := check()):
        if monotonic() > deadline:
            pytest.fail(f"did not come true within {seconds:.0f} s\n{situation()}")
        sleep(0.1)
    return found
