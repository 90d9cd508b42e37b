"""`booking-operator devcluster`: a control plane with the operator's CRDs and a fake AWS, until Ctrl-C."""

import shlex
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from booking_operator.api import crd
from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.instances import Databases, Instances
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.moto import CREDENTIALS, MotoServer
from booking_operator.devcluster.prepare import prepare, tell
from booking_operator.devcluster.process import interrupted_once

GROUPS = {"analytics": 2, "reporting": 1}
"""The groups of the playground, and the number of instances in each."""


@dataclass(frozen=True, slots=True)
class Playground:
    """A control plane with the operator's CRDs, a fake AWS, and clients for both."""

    control_plane: ControlPlane
    kubectl: Kubectl
    moto: MotoServer
    instances: Instances
    databases: Databases
    directory: Path

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables with which the operator uses both."""
        return {
            "KUBECONFIG": str(self.control_plane.kubeconfig),
            "AWS_ENDPOINT_URL": self.moto.url,
            **CREDENTIALS,
        }


@contextmanager
def playground(apiserver_flags: Sequence[str] = ()) -> Iterator[Playground]:
    """Start a control plane and a fake AWS, and stop both at the end of the context.

    Args:
        apiserver_flags: additional flags of the API server.

    Raises:
        DevclusterError: a program is missing or does not start.
    """
    with ExitStack() as stack:
        stack.enter_context(interrupted_once())
        binaries, kubectl = prepare()
        temporary = tempfile.TemporaryDirectory(prefix="booking-operator-")
        directory = Path(stack.enter_context(temporary))
        moto = stack.enter_context(MotoServer(directory))
        control_plane = stack.enter_context(ControlPlane(binaries, apiserver_flags))
        call = Kubectl(kubectl, control_plane.kubeconfig)
        paths = crd.write(directory / "crds")
        call("apply", "-f", str(directory / "crds"))
        call(
            "wait",
            "--for=condition=Established",
            *(argument for path in paths for argument in ("-f", str(path))),
        )
        yield Playground(control_plane, call, moto, Instances(moto.url), Databases(moto.url), directory)


def run() -> None:
    """Start a playground, print how to use it, and wait for Ctrl-C."""
    try:
        with playground() as ground:
            for tag, count in GROUPS.items():
                ground.instances.create(tag, count)
            groups = ", ".join(f"{tag} ({count})" for tag, count in GROUPS.items())
            tell(f"kube-apiserver and a fake AWS run on loopback, with groups of instances: {groups}.")
            tell("In another terminal, paste these two lines, then: booking-operator run")
            for prefix in ("KUBECONFIG", "AWS_"):
                click.echo(_export(prefix, ground.environ))
            tell("Ctrl-C ends it and leaves nothing behind.")
            signal.pause()
    except KeyboardInterrupt:
        tell("Stopped.")


def _export(prefix: str, environ: dict[str, str]) -> str:
    values = {name: shlex.quote(value) for name, value in environ.items() if name.startswith(prefix)}
    return "export " + " ".join(f"{name}={value}" for name, value in values.items())
