"""The operator as users install it: `kubectl apply -k` on an overlay of their own."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import yaml

from booking_operator.devcluster.kubectl import Kubectl
from tests.support.images import ROOT

NAMESPACE = "booking-operator-system"
NAME = "booking-operator"
REPOSITORY = "registry.invalid/platform/booking-operator"
LEASE_SECONDS = 30
READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Installation:
    """One overlay, and the actions of an administrator."""

    kubectl: Kubectl
    overlay: Path
    environ: Mapping[str, str]

    def apply(self, tag: str, config: Mapping[str, Any] | None = None, **environ: str) -> None:
        """Write the overlay with the image of that tag and the operator's configuration; apply it."""
        literals = [f"{name}={value}" for name, value in {**self.environ, **environ}.items()]
        maps = [{"name": "booking-operator-env", "literals": literals}]
        if config:
            (self.overlay / "config.yaml").write_text(yaml.safe_dump(config))
            maps.append({"name": "booking-operator-config", "files": ["config.yaml"]})
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [os.path.relpath(ROOT / "manifests", self.overlay)],
            "images": [{"name": NAME, "newName": REPOSITORY, "newTag": tag}],
            "configMapGenerator": maps,
            "secretGenerator": [
                {
                    "name": "booking-operator-aws",
                    "literals": ["AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=secret"],
                }
            ],
        }
        (self.overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
        self.kubectl("apply", "-k", str(self.overlay))

    @contextmanager
    def component(self, name: str, directory: Path) -> Iterator[None]:
        """Install a component with the image of the operator, and remove it at the end of the block."""
        image = json.loads(self("get", "deployment", NAME, "--output=json"))
        _, _, tag = image["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "components": [os.path.relpath(ROOT / "manifests" / "components" / name, directory)],
            "images": [{"name": NAME, "newName": REPOSITORY, "newTag": tag}],
        }
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(content))
        self.kubectl("apply", "-k", str(directory))
        try:
            yield
        finally:
            self.kubectl("delete", "-k", str(directory), "--wait=false")

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
        log = self.overlay / f"{pod}.log"
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
