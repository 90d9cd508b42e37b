"""`booking-operator devcluster`: a control plane with our CRDs and a fake AWS, to play with until Ctrl-C."""

import shlex
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from booking_operator.api import crd
from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.instances import Databases, Instances, ScaledGroups
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.moto import CREDENTIALS, MotoServer
from booking_operator.devcluster.prepare import prepare, tell
from booking_operator.devcluster.process import interrupted_once

GROUPS = {"analytics": 2, "reporting": 1}
"""Groups of the playground, and how many instances each has."""


@dataclass(frozen=True, slots=True)
class Playground:
    """An API server with the CRDs of the operator, a fake AWS, and clients of both.

    Attributes:
        directory: where its logs are. It is removed at the end.
    """

    kubeconfig: Path
    kubectl: Kubectl
    moto: MotoServer
    instances: Instances
    databases: Databases
    scaled_groups: ScaledGroups
    directory: Path

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
        call = Kubectl(kubectl, plane.kubeconfig)
        files = [argument for path in crd.write(Path(directory)) for argument in ("-f", str(path))]
        call("apply", *files)
        call("wait", "--for=condition=Established", *files)
        yield plane


@contextmanager
def joined_playground(kubeconfig: Path) -> Iterator[Playground]:
    """Run a fake AWS beside an API server that runs already and has the CRDs.

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
            Path(name),
        )


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
            ground.directory,
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
