"""`booking-operator devcluster`: a control plane with our CRDs and a fake AWS, to play with until Ctrl-C."""

import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from booking_operator.api import crd
from booking_operator.api.kinds import ALL_KINDS
from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.errors import DevclusterError
from booking_operator.devcluster.instances import Databases, Instances, ScaledGroups, Services
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.moto import CREDENTIALS, MotoServer
from booking_operator.devcluster.prepare import prepare, tell
from booking_operator.devcluster.process import interrupted_once

GROUPS = {"analytics": 2, "reporting": 1}
"""Groups of the playground, and how many instances each has."""
BORROWED = "booking-operator-demo"
"""The namespace of the demo in a cluster of the user."""


@dataclass(frozen=True, slots=True)
class Playground:
    """An API server with the CRDs of the operator, a fake AWS, and clients of both.

    Attributes:
        directory: where its logs are. It is removed at the end.
        namespace: the namespace that the operator serves; empty for all.
    """

    kubeconfig: Path
    kubectl: Kubectl
    moto: MotoServer
    instances: Instances
    databases: Databases
    scaled_groups: ScaledGroups
    services: Services
    directory: Path
    namespace: str

    @property
    def server(self) -> str:
        """URL of the API server."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        return str(config["clusters"][0]["cluster"]["server"])

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables by which the operator finds both."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "AWS_ENDPOINT_URL": self.moto.url,
            **CREDENTIALS,
        }


@dataclass(frozen=True, slots=True)
class OwnPlayground(Playground):
    """A playground whose API server and etcd can be stopped, since no other playground uses them."""

    control_plane: ControlPlane


@contextmanager
def control_plane(apiserver_flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """Run etcd and an API server with the CRDs of the operator.

    Args:
        apiserver_flags: additional flags of the API server.

    Raises:
        DevclusterError: a program is missing or does not start.
    """
    binaries, kubectl = prepare()
    with ControlPlane(binaries, apiserver_flags) as plane, tempfile.TemporaryDirectory() as directory:
        _install_crds(Kubectl(kubectl, plane.kubeconfig), Path(directory))
        yield plane


def _install_crds(kubectl: Kubectl, directory: Path) -> None:
    files = [argument for path in crd.write(directory) for argument in ("-f", str(path))]
    kubectl("apply", *files)
    kubectl("wait", "--for=condition=Established", *files)


@contextmanager
def joined_playground(kubeconfig: Path, namespace: str = "") -> Iterator[Playground]:
    """Run a fake AWS beside an API server that runs already and has the CRDs.

    Args:
        kubeconfig: the kubeconfig of an administrator.
        namespace: the namespace that the operator serves; empty for all.

    Raises:
        DevclusterError: a program is missing or does not start.
    """
    program = find_kubectl(tell)
    with tempfile.TemporaryDirectory(prefix="booking-operator-") as name, MotoServer(Path(name)) as moto:
        kubectl = Kubectl(program, kubeconfig)
        yield Playground(
            kubeconfig,
            kubectl,
            moto,
            Instances(moto.url),
            Databases(moto.url),
            ScaledGroups(moto.url),
            Services(moto.url),
            Path(name),
            namespace,
        )


@contextmanager
def borrowed_playground(context: str) -> Iterator[Playground]:
    """Run a fake AWS beside the cluster of a context of the user's kubeconfig.

    The CRDs and the namespace `BORROWED` exist for the length of the context.

    Raises:
        DevclusterError: the context does not exist or needs a program to sign in, kubectl fails, or the
            cluster has the CRDs or the namespace already.
    """
    with interrupted_once(), tempfile.TemporaryDirectory(prefix="booking-operator-") as name:
        kubeconfig, program = Path(name) / "kubeconfig", find_kubectl(tell)
        kubeconfig.write_text(_only_context(program, context))
        kubectl = Kubectl(program, kubeconfig)
        _check_unused(kubectl, context)
        tell(f"Installing the CRDs and the namespace {BORROWED} into the cluster of the context {context}.")
        try:
            _install_crds(kubectl, Path(name) / "crds")
            kubectl("create", "namespace", BORROWED)
            with joined_playground(kubeconfig, BORROWED) as ground:
                yield ground
        finally:
            tell("Removing the CRDs and the namespace again.")
            _remove(kubectl)


def _only_context(program: Path, context: str) -> str:
    """Return a kubeconfig with one context of the user's, whose default namespace is `BORROWED`."""
    view = ("config", "view", "--raw", "--minify", "--flatten", f"--context={context}")
    shown = subprocess.run([str(program), *view], capture_output=True, text=True, check=False)
    if shown.returncode:
        raise DevclusterError(f"--context {context!r}: {shown.stderr.strip()}")
    whole = yaml.safe_load(shown.stdout)
    if "exec" in whole["users"][0]["user"]:
        raise DevclusterError(
            f"the user of the context {context!r} signs in by a program, which would get the fake AWS "
            "credentials of the demo; use a context with a certificate or a token, such as that of kind"
        )
    whole["contexts"][0]["context"]["namespace"] = BORROWED
    return yaml.safe_dump(whole)


def _check_unused(kubectl: Kubectl, context: str) -> None:
    """Refuse a cluster in which another operator may act on the objects of the demo, with a real AWS."""
    crds = kubectl("get", "crds", "-o", "name")
    if any(kind.crd_name in crds for kind in ALL_KINDS):
        raise DevclusterError(
            f"the cluster of the context {context!r} has the CRDs of the operator already, and an operator "
            "there would act on the objects of the demo; use another cluster, or leave out --context"
        )
    if kubectl("get", "namespace", BORROWED, "--ignore-not-found", "-o", "name"):
        raise DevclusterError(
            f"the cluster of the context {context!r} has a namespace {BORROWED} already; wait until it is "
            f"gone, or delete it: kubectl --context {context} delete namespace {BORROWED}"
        )


def _remove(kubectl: Kubectl) -> None:
    """Remove what the demo has created. The finalizers of Resources have no operator any more."""
    resources = kubectl.attempt("get", "resources", "-o", "name").stdout.split()
    for resource in resources:
        kubectl.attempt("patch", resource, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')
    list_all_kinds(kubectl)
    for command in (
        ("delete", "crds", *(kind.crd_name for kind in ALL_KINDS), "--ignore-not-found", "--timeout=40s"),
        ("delete", "namespace", BORROWED, "--ignore-not-found", "--wait=false"),
    ):
        done = kubectl.attempt(*command)
        if done.returncode:
            tell(f"kubectl {' '.join(command[:2])}: {done.stderr.strip()}")


def list_all_kinds(kubectl: Kubectl) -> None:
    """List the objects of each kind, so that their CRDs can be deleted at once.

    Until a kind is listed for the first time, the API server may not be able to delete its objects, with the
    message "storage is (re)initializing". It then tries again after five minutes.
    """
    for kind in ALL_KINDS:
        kubectl.attempt("get", kind.crd_name, "--all-namespaces", "-o", "name")


@contextmanager
def playground(apiserver_flags: Sequence[str] = ()) -> Iterator[OwnPlayground]:
    """Run a control plane with the CRDs of the operator, and a fake AWS.

    Args:
        apiserver_flags: additional flags of the API server.

    Raises:
        DevclusterError: a program is missing or does not start.
    """
    with (
        interrupted_once(),
        control_plane(apiserver_flags) as plane,
        joined_playground(plane.kubeconfig) as ground,
    ):
        yield OwnPlayground(
            ground.kubeconfig,
            ground.kubectl,
            ground.moto,
            ground.instances,
            ground.databases,
            ground.scaled_groups,
            ground.services,
            ground.directory,
            ground.namespace,
            plane,
        )


def run() -> None:
    """Start a playground, print how to use it, and wait for Ctrl-C."""
    try:
        with playground() as ground:
            for tag, count in GROUPS.items():
                ground.instances.create(tag, count)
            groups = ", ".join(f"{tag} ({count})" for tag, count in GROUPS.items())
            tell(f"kube-apiserver and a fake AWS are running on loopback. Groups of instances: {groups}.")
            tell("In another terminal, run these two commands, and then `booking-operator run`:")
            for prefix in ("KUBECONFIG", "AWS_"):
                click.echo(_export(prefix, ground.environ))
            tell("Press Ctrl-C to stop it and remove all its files.")
            signal.pause()
    except KeyboardInterrupt:
        tell("Stopped.")


def _export(prefix: str, environ: dict[str, str]) -> str:
    values = {name: shlex.quote(value) for name, value in environ.items() if name.startswith(prefix)}
    return "export " + " ".join(f"{name}={value}" for name, value in values.items())
