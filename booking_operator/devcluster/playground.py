"""`booking-operator devcluster`: a control plane with our CRDs and a fake AWS, to play with until Ctrl-C."""

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
"""Groups of the playground, and how many instances each has."""


@dataclass(frozen=True, slots=True)
class Playground:
    """A control plane with our CRDs, a fake AWS, and the means to use both."""

    control_plane: ControlPlane
    kubectl: Kubectl
    moto: MotoServer
    instances: Instances
    databases: Databases
    directory: Path

    @property
    def environ(self) -> dict[str, str]:
        """What the operator needs in its environment to use both."""
        return {
            "KUBECONFIG": str(self.control_plane.kubeconfig),
            "AWS_ENDPOINT_URL": self.moto.url,
            **CREDENTIALS,
        }


@contextmanager
def playground(apiserver_flags: Sequence[str] = ()) -> Iterator[Playground]:
    """Stand all of it up, and take all of it down.

    Args:
        apiserver_flags: more flags of the API server.

    Raises:
        DevclusterError: something is missing or does not start.
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
    """Stand a playground up, say how to use it, and wait."""
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
