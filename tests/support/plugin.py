"""Runs the installed script `kubectl-booking` as a user with limited permissions."""

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
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


_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_CONFLICT = 409


class Administrator:
    """Requests of an administrator. Each takes milliseconds; a call of kubectl takes a fifth of a second."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server, self._token = cluster["server"], user["token"]
        self._trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Send a request and return its answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._server}{path}", data=data, method=method)  # noqa: S310 - loopback
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", content_type)
        with urllib.request.urlopen(request, timeout=30, context=self._trusted) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found

    def create(self, path: str, body: Mapping[str, Any]) -> None:
        """Create an object, unless one with its name exists."""
        try:
            self.request("POST", path, body)
        except urllib.error.HTTPError as error:
            if error.code != _CONFLICT:
                raise

    def apply(self, path: str, body: Mapping[str, Any]) -> None:
        """Create or replace an object."""
        target = f"{path}/{body['metadata']['name']}?fieldManager=test&force=true"
        self.request("PATCH", target, body, "application/apply-patch+yaml")

    def merge(self, path: str, change: Mapping[str, Any]) -> None:
        """Apply a merge patch."""
        self.request("PATCH", path, change, "application/merge-patch+json")


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
        self.administrator = administrator = Administrator(devcluster.kubeconfig)
        self.kubeconfig = directory / f"kubeconfig-{name}"
        config = yaml.safe_load(devcluster.kubeconfig.read_text())
        context = next(item for item in config["contexts"] if item["name"] == config["current-context"])
        context["name"] = config["current-context"] = CONTEXT
        context["context"]["namespace"] = namespace
        self.kubeconfig.write_text(yaml.safe_dump(config))
        for role in roles:
            file = ROOT / "manifests" / "components" / "tenant-roles" / f"{role}.yaml"
            administrator.create(f"{_RBAC}/clusterroles", yaml.safe_load(file.read_text()))
            binding = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": f"{name}-{role}"},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": f"booking-operator-{role}",
                },
            }
            administrator.create(f"{_RBAC}/namespaces/{namespace}/rolebindings", binding)

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

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the script, whose output the caller reads."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def administered(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the script as an administrator, without impersonation."""
        command = [str(SCRIPT), *arguments]
        return subprocess.run(
            command, env=self.environ(), capture_output=True, text=True, timeout=60, check=True
        )

    def says(self, *arguments: str, code: int = 0, now: str = FROZEN, **environ: str) -> list[str]:
        """Run the script, compare its exit code, and return the lines of stdout and then of stderr.

        The warning about the frozen time is left out, and so is `--as` in commands, which is there because
        the user is impersonated.
        """
        done = self.run(*arguments, now=now, **environ)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
        return [line.replace(f" --as {self.name}", "") for line in lines if "BOOKING_NOW" not in line]

    def _path(self, kind: str, name: str = "") -> str:
        tail = f"/{name}" if name else ""
        return f"/apis/manager.kotaico.de/v1/namespaces/{self.namespace}/{kind.lower()}s{tail}"

    def apply(self, *bodies: Mapping[str, Any]) -> None:
        """Create or replace objects as an administrator, with their status."""
        for body in bodies:
            kind, name = body["kind"], body["metadata"]["name"]
            plain = {key: value for key, value in body.items() if key != "status"}
            metadata = {"name": name, "labels": body["metadata"].get("labels", {})}
            self.administrator.apply(self._path(kind), plain | {"metadata": metadata})
            if body.get("status"):
                self.administrator.merge(f"{self._path(kind, name)}/status", {"status": body["status"]})

    def delete(self, kind: str, name: str) -> None:
        """Delete an object as an administrator."""
        self.administrator.request("DELETE", self._path(kind, name))

    def own(self, kind: str, name: str, owner: Mapping[str, Any]) -> None:
        """Make another object the controller of an object."""
        reference = {key: owner[key] for key in ("apiVersion", "kind")} | {"controller": True}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        self.administrator.merge(self._path(kind, name), {"metadata": {"ownerReferences": [reference]}})

    def see_all_namespaces(self) -> None:
        """Give the user the role `view` in all namespaces."""
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"{self.namespace}-{self.name}"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.name}],
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "booking-operator-view",
            },
        }
        self.administrator.create(f"{_RBAC}/clusterrolebindings", binding)

    def label(self, kind: str, name: str, label: str, value: str) -> None:
        """Label an object as an administrator."""
        self.administrator.merge(self._path(kind, name), {"metadata": {"labels": {label: value}}})

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object, read by an administrator."""
        return self.administrator.request("GET", self._path(kind, name))
