"""The chart on a real API server: installation, upgrade, uninstallation, and the way from the kustomization.

The controllers of Kubernetes do not run here, so there are no pods. `tests/cluster` has them.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from booking_operator.devcluster.controlplane import ControlPlane
from booking_operator.devcluster.kubectl import Kubectl
from booking_operator.devcluster.prepare import prepare
from tests.support.code_blocks import commands
from tests.support.helm import CHART, HelmError, helm
from tests.support.kustomize import MANIFESTS, SYSTEM
from tools.project import VERSION

pytestmark = pytest.mark.dedicated

RESOURCE = {
    "apiVersion": "manager.kotaico.de/v1",
    "kind": "Resource",
    "metadata": {"name": "analytics", "namespace": "default"},
    "spec": {"tag": "analytics", "type": "ec2", "suspend_until": "2026-01-31T20:00:00Z"},
}


class Cluster:
    """An API server without the CRDs, kubectl and helm."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def helm(self, *arguments: str, **values: Any) -> str:
        """Run helm in the namespace of the operator, with values if it renders the chart."""
        options = ("--kubeconfig", str(self.kubectl.kubeconfig), "--namespace", SYSTEM)
        reads = ("--values", "-") if arguments[0] in {"install", "upgrade"} else ()
        return helm(*arguments, *options, *reads, stdin=json.dumps(values))

    def get(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output=json"))
        return found

    def fields(self) -> set[str]:
        """The fields of the spec of a Resource."""
        crd = self.get("crd", "resources.manager.kotaico.de")
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return set(schema["properties"]["spec"]["properties"])

    def deployment(self) -> dict[str, Any]:
        """The spec of the Deployment of the operator."""
        spec: dict[str, Any] = self.get("deployment", "booking-operator", "-n", SYSTEM)["spec"]
        return spec

    def image(self) -> str:
        return str(self.deployment()["template"]["spec"]["containers"][0]["image"])

    def replicas(self) -> int:
        return int(self.deployment()["replicas"])

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(objects))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    binaries, kubectl = prepare()
    with ControlPlane(binaries) as plane:
        yield Cluster(Kubectl(kubectl, plane.kubeconfig))


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The chart of an older version, whose Resources have no `suspend_until` yet."""
    chart = shutil.copytree(CHART, tmp_path / "booking-operator")
    text = (chart / "Chart.yaml").read_text()
    (chart / "Chart.yaml").write_text(
        re.sub(r"^((?:appV|v)ersion): .*", r"\1: 0.0.9", text, flags=re.MULTILINE)
    )
    path = chart / "files" / "crds" / "manager.kotaico.de_resources.yaml"
    crd = yaml.safe_load(path.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["suspend_until"]
    spec["x-kubernetes-validations"] = [
        rule for rule in spec["x-kubernetes-validations"] if "suspend_until" not in rule["rule"]
    ]
    path.write_text(yaml.safe_dump(crd))
    return chart


def test_an_upgrade_updates_the_crds_and_keeps_the_objects(cluster: Cluster, previous: Path) -> None:
    cluster.helm("install", "booking-operator", str(previous), "--create-namespace")
    assert "suspend_until" not in cluster.fields()
    old = {**RESOURCE, "spec": {"tag": "analytics", "type": "ec2"}}
    cluster.apply(old)
    before = cluster.get("resource", "analytics", "-n", "default")
    assert cluster.image() == "booking-operator:0.0.9"

    cluster.helm("upgrade", "booking-operator", str(CHART))
    assert "suspend_until" in cluster.fields()
    before["spec"]["suspend_until"] = ""  # the API server adds the default of the new field when it reads
    assert cluster.get("resource", "analytics", "-n", "default") == before
    cluster.apply(RESOURCE)  # strict validation refuses a field that the CRD does not have
    assert cluster.image() == f"booking-operator:{VERSION}"


def test_a_rollback_brings_back_the_older_crds(cluster: Cluster, previous: Path) -> None:
    cluster.helm("install", "booking-operator", str(previous), "--create-namespace")
    cluster.helm("upgrade", "booking-operator", str(CHART))
    cluster.apply(RESOURCE)
    cluster.helm("rollback", "booking-operator")
    assert "suspend_until" not in cluster.fields()
    assert cluster.image() == "booking-operator:0.0.9"
    spec = cluster.get("resource", "analytics", "-n", "default")["spec"]
    assert spec["tag"] == "analytics"
    assert "suspend_until" not in spec


def test_from_two_replicas_to_one_by_scaling_to_zero(cluster: Cluster, tmp_path: Path) -> None:
    to_zero, upgrade = (
        shlex.split(line.replace("booking-operator/charts/booking-operator", str(CHART)))
        for line in commands("docs/operations.md", "One replica or two", ["helm"])
    )
    values = tmp_path / "values.yaml"
    values.write_text("env: {AWS_REGION: eu-central-1}")
    files = ("--kubeconfig", str(cluster.kubectl.kubeconfig))

    def run(command: list[str]) -> None:
        program, *arguments = [str(values) if word == values.name else word for word in command]
        assert program == "helm"
        helm(*arguments, *files)

    run([*upgrade, "--install", "--create-namespace"])
    assert cluster.replicas() == 2
    values.write_text("{env: {AWS_REGION: eu-central-1}, replicaCount: 1, leaderElection: {enabled: false}}")
    run(to_zero)
    assert cluster.replicas() == 0
    run(upgrade)
    assert cluster.replicas() == 1


def test_an_uninstallation_leaves_crds_and_objects_for_the_next_release(
    cluster: Cluster,
) -> None:
    cluster.helm("install", "booking-operator", str(CHART), "--create-namespace")
    cluster.apply(RESOURCE)
    cluster.helm("uninstall", "booking-operator")
    left = cluster.get("crds")["items"]
    assert len(left) == 6
    assert cluster.get("resource", "analytics", "-n", "default")["spec"]["tag"] == "analytics"
    assert cluster.get("deployments,clusterroles", "-n", SYSTEM, "-l", "helm.sh/chart")["items"] == []

    cluster.helm("install", "booking-operator", str(CHART))
    assert cluster.replicas() == 2


def test_the_crds_go_with_the_release_if_keep_is_false(cluster: Cluster) -> None:
    cluster.helm("install", "booking-operator", str(CHART), "--create-namespace", crds={"keep": False})
    cluster.helm("uninstall", "booking-operator")
    # The API server deletes the objects of each kind first, which takes a while.
    assert all("deletionTimestamp" in crd["metadata"] for crd in cluster.get("crds")["items"])


def test_from_the_kustomization_to_the_chart(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-k", str(MANIFESTS))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "resources.manager.kotaico.de")
    cluster.apply(RESOURCE)
    before = cluster.get("resource", "analytics", "-n", "default")
    with pytest.raises(HelmError, match="cannot be imported into the current release"):
        cluster.helm("install", "booking-operator", str(CHART))
    cluster.kubectl("-n", SYSTEM, "delete", "deployment", "booking-operator", "--wait=false")
    cluster.helm("install", "booking-operator", str(CHART), "--take-ownership", "--force-conflicts")
    assert cluster.get("resource", "analytics", "-n", "default") == before
    labels = cluster.get("clusterrole", "booking-operator")["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_two_operators_with_one_set_of_crds(cluster: Cluster) -> None:
    cluster.helm("install", "booking-operator", str(CHART), "--create-namespace")
    with pytest.raises(HelmError, match="cannot be imported into the current release"):
        cluster.helm("install", "second", str(CHART), singleNamespace=True)
    cluster.helm("install", "second", str(CHART), singleNamespace=True, crds={"enabled": False})
    assert cluster.get("deployment", "second-booking-operator", "-n", SYSTEM)["spec"]["replicas"] == 2
