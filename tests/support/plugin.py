"""Runs the installed script `kubectl-booking` as a user with limited permissions."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from booking_operator.devcluster.playground import Playground

SCRIPT = Path(sys.executable).with_name("kubectl-booking")
ROOT = Path(__file__).parents[2]
FROZEN = "2026-11-24T13:03:00Z"
ROLES = ("view", "edit", "admin")
CONTEXT = "prod-eu"


class Person:
    """A user of one namespace, with the roles of manifests/components/tenant-roles.

    Args:
        devcluster: the cluster.
        namespace: the namespace of the kubeconfig context.
        name: the name of the user. An administrator impersonates the user.
        roles: the roles of the user in the namespace: `view`, `edit`, `admin`.
        directory: where the kubeconfig is written.
    """

    def __init__(
        self,
        devcluster: Playground,
        namespace: str,
        name: str,
        directory: Path,
        roles: Sequence[str] = ("view", "edit"),
    ) -> None:
        self.namespace, self.name = namespace, name
        self._cluster = devcluster
        self.kubeconfig = directory / f"kubeconfig-{name}"
        config = yaml.safe_load(devcluster.kubeconfig.read_text())
        context = next(item for item in config["contexts"] if item["name"] == config["current-context"])
        context["name"] = config["current-context"] = CONTEXT
        context["context"]["namespace"] = namespace
        self.kubeconfig.write_text(yaml.safe_dump(config))
        for role in roles:
            file = ROOT / "manifests" / "components" / "tenant-roles" / f"{role}.yaml"
            devcluster.kubectl("apply", "-f", str(file))
            binding = (f"{name}-{role}", f"--clusterrole=booking-operator-{role}", f"--user={name}")
            devcluster.kubectl("-n", namespace, "create", "rolebinding", *binding)

    def environ(self, now: str = FROZEN, **more: str) -> dict[str, str]:
        """The environment of the script: the present time is `now`; the real one if it is empty."""
        kept = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "TZ"}}
        frozen = {"BOOKING_NOW": now} if now else {}
        return {**kept, "KUBECONFIG": str(self.kubeconfig), "BOOKING_TZ": "Europe/Berlin", **frozen, **more}

    def command(self, *arguments: str) -> list[str]:
        """The command line of the script."""
        return [str(SCRIPT), *arguments, "--as", self.name]

    def run(self, *arguments: str, now: str = FROZEN, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run the script to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environ(now, **environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def says(self, *arguments: str, code: int = 0, now: str = FROZEN, **environ: str) -> list[str]:
        """Run the script, compare its exit code, and return the lines of stdout and then of stderr.

        The warning about the frozen time is left out.
        """
        done = self.run(*arguments, now=now, **environ)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
        return [line for line in lines if "BOOKING_NOW" not in line]

    def apply(self, *bodies: Mapping[str, Any]) -> None:
        """Create objects as an administrator, with their status."""
        for body in bodies:
            placed = {**body, "metadata": {"name": body["metadata"]["name"], "namespace": self.namespace}}
            plain = {key: value for key, value in placed.items() if key != "status"}
            self._cluster.kubectl("apply", "-f", "-", stdin=json.dumps(plain))
            if body.get("status"):
                kind, name = body["kind"].lower(), body["metadata"]["name"]
                change = json.dumps({"status": body["status"]})
                target = (kind, name, "--subresource=status", "--type=merge", "-p", change)
                self._cluster.kubectl("-n", self.namespace, "patch", *target)

    def label(self, kind: str, name: str, label: str) -> None:
        """Label an object as an administrator."""
        self._cluster.kubectl("-n", self.namespace, "label", kind, name, label)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object, read by an administrator."""
        found: dict[str, Any] = json.loads(
            self._cluster.kubectl("-n", self.namespace, "get", kind, name, "-o", "json")
        )
        return found
