"""A complete cluster with the operator, once per run. Each test gets its own namespace and group."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from booking_operator.devcluster.kubectl import Kubectl
from tests.cluster.aws import Aws, aws
from tests.cluster.installation import LEASE_SECONDS, REPOSITORY, Chart, Installation, Kustomization, until
from tests.e2e.conftest import manifest, soon
from tests.support.images import Store, store
from tests.support.node.cluster import Cluster, cluster
from tests.support.node.requirements import IMAGES, NODES, missing

TAGS = ("0.1.0", "0.1.1")
"""The tags of two releases of the operator's image. Both have the same content; Kubernetes compares only the
tags."""
WAYS: dict[str, type[Installation]] = {"chart": Chart, "kustomization": Kustomization}
_numbers = count(1)


@pytest.fixture(scope="session")
def images() -> Store:
    if lack := missing(IMAGES | NODES):
        pytest.fail(f"for a cluster to run on this machine, {lack}")
    return store()


@pytest.fixture(scope="session")
def node(images: Store) -> Iterator[Cluster]:
    image = images.operator()
    with cluster(images) as stands:
        for tag in TAGS:
            stands.runtime.load(images.archive(image, f"{REPOSITORY}:{tag}"))
        yield stands


@pytest.fixture(scope="session")
def cloud(node: Cluster) -> Iterator[Aws]:
    with aws(node.logs) as runs:
        yield runs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--install", choices=sorted(WAYS), default="kustomization", help="how to install")


@pytest.fixture(scope="session")
def installed(
    node: Cluster, cloud: Aws, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Installation:
    way = WAYS[pytestconfig.getoption("install")]
    installation = way(node.kubectl, tmp_path_factory.mktemp("installation"), cloud.environ)
    installation.apply(TAGS[0])
    installation.settled()
    return installation


@pytest.fixture
def operator(installed: Installation) -> Installation:
    """The operator with two Ready pods, regardless of what earlier tests did to it."""
    installed.settled()
    return installed


@dataclass(frozen=True, slots=True)
class Team:
    """A namespace, and the actions of its users with kubectl."""

    kubectl: Kubectl
    cloud: Aws
    name: str

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the team's namespace."""
        return self.kubectl("-n", self.name, *arguments, stdin=stdin)

    def group(self, name: str = "machines", **spec: Any) -> list[str]:
        """Create two stopped instances and their Resource; return the ids."""
        tag = f"{self.name}-{name}"
        ids = self.cloud.create(tag, 2)
        self.apply("Resource", name, tag=tag, type="ec2", **spec)
        return ids

    def book(self, name: str, start: datetime, end: datetime, resource: str = "machines") -> None:
        """Create a booking."""
        times = {"start_at": start.isoformat(), "end_at": end.isoformat()}
        self.apply("Booking", name, resource_name=resource, user_id="ada", **times)

    def apply(self, kind: str, name: str, **spec: Any) -> None:
        """Create an object."""
        self("apply", "-f", "-", stdin=json.dumps(manifest(kind, name, spec)))

    def kept(self, action: str, ids: list[str], due: datetime, within: float = LEASE_SECONDS) -> None:
        """Wait for the action on a group, and check that it was at most `within` seconds late, and not early.

        The check allows a few more seconds for machines that are busy with other tests.
        """
        until(lambda: self.cloud.accepted(action, ids), (due - soon(0)).total_seconds() + within + 10)
        late = min(self.cloud.accepted(action, ids)) - due
        assert timedelta(0) <= late <= timedelta(seconds=within + 3)
        state = "running" if action == "StartInstances" else "stopped"
        until(lambda: self.cloud.states(ids) == [state] * len(ids), 20)


@pytest.fixture
def team(node: Cluster, cloud: Aws) -> Team:
    name = f"team{next(_numbers)}"
    node.kubectl("create", "namespace", name)
    return Team(node.kubectl, cloud, name)
