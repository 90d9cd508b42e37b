"""The Helm chart, rendered by real helm. It makes the same objects as the kustomization."""

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from booking_operator.devcluster.binaries import find_kubectl
from booking_operator.devcluster.kubectl import Kubectl
from tests.support.code_blocks import blocks
from tests.support.helm import CHART, HelmError, helm, template
from tests.support.kustomize import MANIFESTS, SYSTEM, Objects, rendered, write_overlay
from tools.project import ROOT

pytestmark = pytest.mark.tooling

OWN = frozenset(
    {
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/version",
        "checksum/config",
        "helm.sh/chart",
        "helm.sh/resource-policy",
    }
)
"""Labels and annotations that say which tool has installed an object, and in which version."""
COMPONENTS: dict[str, dict[str, Any]] = {
    "board": {"board": {"enabled": True}},
    "cilium": {"networkPolicy": {"cilium": True}},
    "openshift": {"openshift": True},
    "pin-user": {"pinUser": {"enabled": True}},
    "servicemonitor": {"monitoring": {"serviceMonitor": {"enabled": True}}},
    "single-namespace": {"singleNamespace": True, "crds": {"enabled": False}},
    "single-replica": {"replicaCount": 1, "leaderElection": {"enabled": False}},
    "tenant-roles": {"tenantRoles": {"enabled": True}},
}
"""The values that correspond to each component of the kustomization."""
NAME = "booking-operator"
CRD = "CustomResourceDefinition"
MONITORING = {"monitoring": {"alerts": {"enabled": True}}}


def kustomized(kubectl: Kubectl, directory: Path, **content: Any) -> Objects:
    """Return what an overlay on the kustomization makes, by kind and name."""
    return rendered(kubectl, write_overlay(directory, **content))


def compared(objects: Objects) -> Objects:
    """Return the objects without what names the tool. Helm itself creates the namespace of a release.

    kustomize does not know that admission policies have no namespace, and writes one. kubectl ignores it.
    """
    kept = {key: _without(item) for key, item in objects.items() if key[0] != "Namespace"}
    for (kind, _), item in kept.items():
        if kind.startswith("ValidatingAdmissionPolicy"):
            item["metadata"].pop("namespace", None)
    return kept


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without(item) for key, item in value.items() if key not in OWN}
        return {key: item for key, item in kept.items() if not (key == "annotations" and not item)}
    return [_without(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def kubectl() -> Kubectl:
    return Kubectl(find_kubectl(print), Path("/dev/null"))


def test_each_component_has_its_values() -> None:
    assert sorted(COMPONENTS) == sorted(path.name for path in (MANIFESTS / "components").iterdir())


def test_chart_and_kustomization_make_the_same_objects(kubectl: Kubectl, tmp_path: Path) -> None:
    assert compared(template()) == compared(kustomized(kubectl, tmp_path, resources=[MANIFESTS]))


@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_each_component_makes_the_same_objects_as_its_values(
    kubectl: Kubectl, tmp_path: Path, component: str
) -> None:
    namespace = "team-a" if component == "single-namespace" else SYSTEM
    overlay = kustomized(
        kubectl,
        tmp_path,
        namespace=namespace,
        resources=[MANIFESTS],
        components=[MANIFESTS / "components" / component],
    )
    assert compared(template(COMPONENTS[component], namespace=namespace)) == compared(overlay)


def test_openshift_with_the_board_is_the_same_in_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    components = [MANIFESTS / "components" / name for name in ("board", "openshift")]
    overlay = kustomized(kubectl, tmp_path, namespace=SYSTEM, resources=[MANIFESTS], components=components)
    made = template({"openshift": True, "board": {"enabled": True}})
    assert compared(made) == compared(overlay)
    assert (
        "runAsUser"
        not in made["Deployment", "booking-operator-board"]["spec"]["template"]["spec"]["securityContext"]
    )


def test_alerts_are_those_of_the_component_monitoring(kubectl: Kubectl, tmp_path: Path) -> None:
    overlay = kustomized(
        kubectl, tmp_path, namespace=SYSTEM, resources=[MANIFESTS], components=[MANIFESTS / "monitoring"]
    )
    assert compared(template(MONITORING)) == compared(overlay)


def test_everything_at_once_is_accepted_by_lint(tmp_path: Path) -> None:
    everything: dict[str, Any] = {**MONITORING["monitoring"], **COMPONENTS["servicemonitor"]["monitoring"]}
    values = {
        **COMPONENTS["board"],
        **COMPONENTS["pin-user"],
        **COMPONENTS["tenant-roles"],
        "monitoring": everything,
        "openshift": True,
    }
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    for options in ([], ["--values", str(tmp_path / "values.yaml")]):
        assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), *options)


def test_settings_reach_the_pod() -> None:
    made = template(
        {
            "image": {"repository": "registry.example.com/booking-operator", "tag": "v2"},
            "imagePullSecrets": [{"name": "registry"}],
            "env": {"AWS_REGION": "eu-central-1", "SMTP_PORT": 587, "LOCK_TAGS": False},
            "config": {"accounts": {"acme": {"role_arn": "arn:aws:iam::123456789012:role/booking-operator"}}},
            "dryRun": True,
            "extraArgs": ["--log-level=debug"],
            "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
            "resources": {"limits": {"memory": "1Gi", "ephemeral-storage": None}},
            "podLabels": {"team": "platform"},
            "podAnnotations": {"note": "yes"},
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [{"maxSkew": 2}],
            "priorityClassName": "system-cluster-critical",
        }
    )
    pod = made["Deployment", "booking-operator"]["spec"]["template"]
    spec, [container] = pod["spec"], pod["spec"]["containers"]
    assert container["image"] == "registry.example.com/booking-operator:v2"
    assert container["args"] == ["run", "--leader-elect", "--dry-run", "--log-level=debug"]
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    assert made["ConfigMap", "booking-operator-env"]["data"] == {
        "AWS_REGION": "eu-central-1",
        "SMTP_PORT": "587",
        "LOCK_TAGS": "false",
    }
    config = yaml.safe_load(made["ConfigMap", "booking-operator-config"]["data"]["config.yaml"])
    assert set(config["accounts"]) == {"acme"}
    assert made["ServiceAccount", "booking-operator"]["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn"
    }
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["metadata"]["annotations"]["note"] == "yes"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "system"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert spec["topologySpreadConstraints"] == [{"maxSkew": 2}]
    assert spec["priorityClassName"] == "system-cluster-critical"


def test_numbers_and_names_that_look_like_numbers_stay_texts() -> None:
    made = template(
        {"env": {"A": 1000000, "B": 0.5, "C": True}, "envSecret": "123", "priorityClassName": "0"},
        release="1",
    )
    names = {kind: name for kind, name in made if kind == "ConfigMap"}
    assert made["ConfigMap", names["ConfigMap"]]["data"] == {"A": "1000000", "B": "0.5", "C": "true"}
    made = template({"envSecret": "123", "priorityClassName": "0", "fullnameOverride": "123"}, release="true")
    spec = made["Deployment", "123"]["spec"]["template"]["spec"]
    assert (spec["priorityClassName"], spec["serviceAccountName"]) == ("0", "123")
    assert {"secretRef": {"name": "123", "optional": True}} in spec["containers"][0]["envFrom"]
    assert made["Deployment", "123"]["metadata"]["labels"]["app.kubernetes.io/instance"] == "true"


def test_labels_and_annotations_of_users_do_not_replace_those_of_the_chart() -> None:
    own = {"app.kubernetes.io/name": "x", "kubectl.kubernetes.io/default-container": "x", "team": "a"}
    made = template({"podLabels": own, "podAnnotations": own, "board": {"enabled": True}})
    for name, container in (("booking-operator", NAME), ("booking-operator-board", "board")):
        metadata = made["Deployment", name]["spec"]["template"]["metadata"]
        assert (metadata["labels"]["app.kubernetes.io/name"], metadata["labels"]["team"]) == (name, "a")
        assert metadata["annotations"]["kubectl.kubernetes.io/default-container"] == container


def test_without_a_network_policy_there_is_none_for_cilium() -> None:
    """A policy of one kind alone would refuse all other connections."""
    made = template({"networkPolicy": {"enabled": False, "cilium": True}})
    assert {kind for kind, _ in made if "NetworkPolicy" in kind} == set()


def test_the_service_account_of_another_tool_is_used() -> None:
    made = template(
        {"serviceAccount": {"create": False, "name": "from-eksctl"}, "pinUser": {"enabled": True}}
    )
    assert [name for kind, name in made if kind == "ServiceAccount"] == []
    assert (
        made["Deployment", "booking-operator"]["spec"]["template"]["spec"]["serviceAccountName"]
        == "from-eksctl"
    )
    subjects = [
        item["subjects"][0]["name"]
        for (kind, _), item in made.items()
        if kind.endswith("Binding") and "subjects" in item
    ]
    assert subjects == ["from-eksctl"] * 3


def test_volumes_are_added_to_that_of_the_configuration_file() -> None:
    volume, mount = {"name": "ca", "secret": {"secretName": "ca"}}, {"name": "ca", "mountPath": "/ca"}
    made = template({"extraVolumes": [volume], "extraVolumeMounts": [mount]})
    spec = made["Deployment", "booking-operator"]["spec"]["template"]["spec"]
    assert [item["name"] for item in spec["volumes"]] == ["config", "ca"]
    assert [item["name"] for item in spec["containers"][0]["volumeMounts"]] == ["config", "ca"]


def test_the_board_has_an_ingress_replicas_and_secrets() -> None:
    ingress = {"enabled": True, "className": "nginx", "host": "b.example.com", "tlsSecret": "cert"}
    made = template(
        {"board": {"enabled": True, "replicaCount": 2, "envSecret": "oauth2", "ingress": ingress}}
    )
    spec = made["Ingress", "booking-operator-board"]["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["b.example.com"], "secretName": "cert"}]
    [rule] = spec["rules"]
    service = rule["http"]["paths"][0]["backend"]["service"]
    ports = made["Service", service["name"]]["spec"]["ports"]
    assert (rule["host"], service["port"]["name"]) == ("b.example.com", ports[0]["name"])
    deployment = made["Deployment", "booking-operator-board"]["spec"]
    assert deployment["replicas"] == 2
    [container] = deployment["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "oauth2"}}]


def test_a_digest_takes_precedence_over_the_tag() -> None:
    digest = f"sha256:{'0' * 64}"
    made = template({"image": {"tag": "v2", "digest": digest}})
    [container] = made["Deployment", "booking-operator"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"booking-operator@{digest}"


def test_a_change_of_the_settings_replaces_the_pods() -> None:
    def revision(**values: Any) -> str:
        pod = template(values)["Deployment", "booking-operator"]["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/config"])

    one = revision(env={"AWS_REGION": "eu-central-1"})
    assert one == revision(env={"AWS_REGION": "eu-central-1"})
    assert one != revision(env={"AWS_REGION": "eu-west-1"})
    assert one != revision(env={"AWS_REGION": "eu-central-1"}, config={"limits": {}, "accounts": {"a": {}}})


def test_the_configuration_file_may_be_in_a_secret() -> None:
    made = template({"configSecret": "mine", "envSecret": ""})
    spec = made["Deployment", "booking-operator"]["spec"]["template"]["spec"]
    assert spec["volumes"] == [{"name": "config", "secret": {"secretName": "mine"}}]
    assert [source for source in spec["containers"][0]["envFrom"] if "secretRef" in source] == []


def test_two_releases_in_one_namespace_select_their_own_pods() -> None:
    one, other = (template(release=name) for name in ("prod", "booking-operator"))
    names = {name for kind, name in one if kind != "CustomResourceDefinition"}
    assert all(name.startswith("prod-booking-operator") for name in names)
    assert names.isdisjoint(name for _, name in other)
    labels = other["Deployment", "booking-operator"]["spec"]["template"]["metadata"]["labels"]
    for (kind, _), item in one.items():
        spec = item.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector", {}))
        selector = selector.get("matchLabels", selector)
        if kind in {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}:
            assert not selector.items() <= labels.items(), kind
    # Each has a Lease of its own, or one of them would never lead.
    [container] = one["Deployment", "prod-booking-operator"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run", "--leader-elect", "--leader-election-id=prod-booking-operator"]
    _, rule = one["Role", "prod-booking-operator-leader-election"]["rules"]
    assert rule["resourceNames"] == ["prod-booking-operator"]


def test_crds_survive_an_uninstallation_unless_keep_is_false() -> None:
    def annotations(**values: Any) -> list[dict[str, str]]:
        made = template({"crds": values})
        return [item["metadata"].get("annotations", {}) for (kind, _), item in made.items() if kind == CRD]

    assert annotations() == [{"helm.sh/resource-policy": "keep"}] * 6
    assert annotations(keep=False) == [{}] * 6
    assert annotations(enabled=False) == []


def test_the_version_of_the_chart_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])
    assert project["description"].lower().endswith(chart["description"].lower())


def test_the_schema_knows_exactly_the_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema["properties"].pop("global")  # helm adds it

    def check(place: str, part: dict[str, Any], value: Any) -> None:
        if "properties" in part:
            assert part["additionalProperties"] is False, place
            if value:
                assert set(part["properties"]) == set(value), place
                for key, item in value.items():
                    check(f"{place}.{key}", part["properties"][key], item)

    check("values", schema, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"env": None}, "missing property 'env'"),
        ({"board": {"targetPort": None}}, "at '/board': missing property 'targetPort'"),
        (
            {"board": {"enabled": True}, "singleNamespace": True},
            "board.enabled and singleNamespace are both set, but the board serves all namespaces",
        ),
        ({"replicas": 2}, "additional properties 'replicas' not allowed"),
        ({"image": {"repository": ""}}, "at '/image/repository'"),
        ({"env": {"AWS_REGION": ["eu-central-1"]}}, "at '/env/AWS_REGION'"),
        ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of"),
        (
            {"leaderElection": {"enabled": False}},
            "set replicaCount to 1, or leaderElection.enabled to true",
        ),
        (
            {"config": {"accounts": {}, "limits": {}}, "configSecret": "x"},
            "config and configSecret are both set",
        ),
    ],
)
def test_invalid_values_are_refused_with_their_names(values: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmError) as refused:
        template(values)
    assert message in str(refused.value)


def notes(**values: Any) -> str:
    command = ("install", "mine", str(CHART), "--dry-run=client", "--namespace", "team-a", "--values", "-")
    return helm(*command, stdin=json.dumps(values)).partition("NOTES:\n")[2]


def test_the_notes_print_the_first_commands() -> None:
    said = notes()
    assert "kubectl --namespace team-a rollout status deployment/mine-booking-operator" in said
    assert "AWS_REGION is not set" in said
    assert "dryRun" not in said
    said = notes(dryRun=True, env={"AWS_REGION": "eu-central-1"})
    assert "AWS_REGION is not set" not in said
    assert "dryRun" in said


def patches(page: str) -> list[tuple[str, str]]:
    """The patches of a page, each with the values of the chart that follow it."""
    return [(patch, values) for patch, values in pairwise(blocks(page)) if patch.startswith("patches:")]


PAGES = ("docs/install.md", "docs/operations.md", "docs/teams.md", "docs/board.md")
SETTINGS = [pair for page in PAGES for pair in patches(page)]


@pytest.mark.parametrize(
    ("patch", "values"), SETTINGS, ids=[values.partition("\n")[0] for _, values in SETTINGS]
)
def test_each_patch_of_the_documentation_makes_the_same_objects_as_its_values(
    kubectl: Kubectl, tmp_path: Path, patch: str, values: str
) -> None:
    overlay = kustomized(
        kubectl,
        tmp_path,
        resources=[MANIFESTS],
        components=[MANIFESTS / "components" / name for name in ("tenant-roles", "board")],
        **yaml.safe_load(patch),
    )
    common = {"tenantRoles": {"enabled": True}, "board": {"enabled": True}}
    assert compared(template(common | yaml.safe_load(values))) == compared(overlay)


def test_the_table_of_components_has_the_values_of_these_tests() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| `(.*?)` \|", (ROOT / "docs/install.md").read_text(), re.MULTILINE)
    assert {name: yaml.safe_load(values) for name, values in rows} == COMPONENTS


def test_the_configuration_of_the_documentation_is_accepted_as_values() -> None:
    [config] = [text for text in blocks("docs/operations.md", "Configuration file") if "accounts:" in text]
    made = template({"config": yaml.safe_load(config)})
    written = yaml.safe_load(made["ConfigMap", "booking-operator-config"]["data"]["config.yaml"])
    assert written == yaml.safe_load(config)
