"""The objects of `kubectl apply -k manifests`, and the effect of the optional components."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from booking_operator.devcluster.playground import Playground
from tests.e2e.manifests.conftest import Overlay, read, rendered
from tests.support.kustomize import MANIFESTS, SYSTEM

LABELS = {
    "app.kubernetes.io/name": "booking-operator",
    "app.kubernetes.io/part-of": "booking-operator",
    "app.kubernetes.io/managed-by": "kustomize",
}
BESIDE = {"board"}
"""The components that run beside the operator."""
COMPONENTS = sorted(path.name for path in (MANIFESTS / "components").iterdir())

CILIUM_POLICIES: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "ciliumnetworkpolicies.cilium.io"},
    "spec": {
        "group": "cilium.io",
        "names": {"kind": "CiliumNetworkPolicy", "plural": "ciliumnetworkpolicies"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v2",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
"""Accepts every CiliumNetworkPolicy: Cilium itself is not part of the tests."""

SERVICE_MONITORS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "names": {"kind": "ServiceMonitor", "plural": "servicemonitors"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["endpoints", "selector"],
                                "properties": {
                                    "endpoints": {
                                        "type": "array",
                                        "items": {
                                            "type": "object",
                                            "properties": {
                                                "port": {"type": "string"},
                                                "path": {"type": "string"},
                                                "interval": {"type": "string"},
                                                "honorLabels": {"type": "boolean"},
                                            },
                                        },
                                    },
                                    "selector": {
                                        "type": "object",
                                        "properties": {
                                            "matchLabels": {
                                                "type": "object",
                                                "additionalProperties": {"type": "string"},
                                            }
                                        },
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}
"""The part of the Prometheus operator's CRD that the manifests use. Strict validation refuses all other
fields."""


def deployment(devcluster: Playground) -> dict[str, Any]:
    return read(devcluster, "deployment", "booking-operator", "-n", SYSTEM)


def template(devcluster: Playground) -> dict[str, Any]:
    found: dict[str, Any] = deployment(devcluster)["spec"]["template"]
    return found


def test_all_objects_exist_with_labels(devcluster: Playground) -> None:
    made = rendered(devcluster, MANIFESTS)
    assert {kind for kind, _ in made} == {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    }
    for (kind, name), item in made.items():
        stored = read(devcluster, kind, name, "-n", SYSTEM)
        assert stored["metadata"]["labels"].items() >= LABELS.items(), (kind, name)
        assert stored["metadata"].get("namespace") == item["metadata"].get("namespace")


def test_a_second_apply_changes_nothing(devcluster: Playground) -> None:
    devcluster.kubectl("apply", "-k", str(MANIFESTS))  # undoes changes by other tests
    said = devcluster.kubectl("apply", "-k", str(MANIFESTS)).splitlines()
    changed = {line.partition("/")[0] for line in said if not line.endswith(" unchanged")}
    # kubectl replaces the selector of a PodDisruptionBudget as a whole, and does not notice that it is equal.
    assert changed <= {"poddisruptionbudget.policy"}


def test_the_api_server_prints_no_warnings(devcluster: Playground) -> None:
    assert devcluster.kubectl.attempt("apply", "-k", str(MANIFESTS)).stderr == ""


def test_pods_are_admitted_by_the_level_restricted(devcluster: Playground) -> None:
    namespace = read(devcluster, "namespace", SYSTEM)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = {"apiVersion": "v1", "kind": "Pod", **template(devcluster)}
    pod["metadata"]["name"] = "as-shipped"
    create = ("create", "--dry-run=server", "-n", SYSTEM, "-f", "-")
    admitted = devcluster.kubectl.attempt(*create, stdin=json.dumps(pod))
    assert (admitted.returncode, admitted.stderr) == (0, "")
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    refused = devcluster.kubectl.attempt(*create, stdin=json.dumps(pod))
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


def test_pods_run_unprivileged_with_a_read_only_file_system(devcluster: Playground) -> None:
    spec = template(devcluster)["spec"]
    [container] = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (65532, 65532)
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    account = read(devcluster, "serviceaccount", "booking-operator", "-n", SYSTEM)
    assert (account["automountServiceAccountToken"], spec["automountServiceAccountToken"]) == (False, True)


def test_two_replicas_and_only_one_may_be_unavailable(devcluster: Playground) -> None:
    spec = deployment(devcluster)["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = read(devcluster, "poddisruptionbudget", "booking-operator", "-n", SYSTEM)["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= template(devcluster)["metadata"]["labels"].items()


def test_services_and_probes_use_the_names_of_the_ports(devcluster: Playground) -> None:
    [container] = template(devcluster)["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "metrics": 8080,
        "health": 8081,
    }
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"health"}
    assert [probe["path"] for probe in probes.values()] == ["/healthz", "/healthz", "/readyz"]
    [port] = read(devcluster, "service", "booking-operator-metrics", "-n", SYSTEM)["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("metrics", 8080, "metrics")
    rules = read(devcluster, "networkpolicy", "booking-operator", "-n", SYSTEM)["spec"]["ingress"]
    assert [port["port"] for port in chain(*(rule["ports"] for rule in rules))] == ["metrics", "health"]


def test_settings_in_a_users_overlay_take_effect(devcluster: Playground, overlay: Overlay) -> None:
    directory = overlay(
        namespace=SYSTEM,
        images=[{"name": "booking-operator", "newName": "example.com/booking-operator", "newTag": "v1"}],
        configMapGenerator=[
            {"name": "booking-operator-env", "literals": ["AWS_REGION=eu-central-1"]},
            {"name": "booking-operator-config", "literals": ["config.yaml=accounts: {}"]},
        ],
        secretGenerator=[{"name": "booking-operator-aws", "literals": ["AWS_ACCESS_KEY_ID=AKIA"]}],
    )
    made = rendered(devcluster, directory)
    spec = made["Deployment", "booking-operator"]["spec"]["template"]["spec"]
    [container], [volume] = spec["containers"], spec["volumes"]
    assert container["image"] == "example.com/booking-operator:v1"
    # Generated names contain a hash of the content, so that a change replaces the pods.
    names = [source.popitem()[1] for source in ({**item} for item in container["envFrom"])]
    assert {item["name"] for item in [*names, volume["configMap"]]} == {
        name for kind, name in made if kind in {"ConfigMap", "Secret"}
    }
    assert all(item["optional"] for item in [*names, volume["configMap"]])
    devcluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(directory))


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_is_accepted_by_the_api_server(
    devcluster: Playground, overlay: Overlay, component: str
) -> None:
    for crd in (SERVICE_MONITORS, CILIUM_POLICIES):
        devcluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(crd))
        name = crd["metadata"]["name"]
        devcluster.kubectl("wait", "--for=condition=Established", "crd", name)
    directory = overlay(component)
    devcluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(directory))
    for key, item in rendered(devcluster, directory).items():
        # The board is an application of its own: no selector of the operator may match its pods.
        own = {"app.kubernetes.io/name": f"booking-operator-{component}"} if component in BESIDE else {}
        labels = item["metadata"]["labels"].items()
        assert labels >= LABELS.items() or labels >= (LABELS | own).items(), key


def test_openshift_may_assign_the_user_of_the_pods(devcluster: Playground, overlay: Overlay) -> None:
    made = rendered(devcluster, overlay("openshift"))
    spec = made["Deployment", "booking-operator"]["spec"]["template"]["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    ports = [
        port["port"]
        for rule in made["NetworkPolicy", "booking-operator"]["spec"]["egress"]
        for port in rule["ports"]
    ]
    assert ports.count(5353) == 2


def test_cilium_lets_the_pods_reach_the_agent_of_pod_identity(
    devcluster: Playground, overlay: Overlay
) -> None:
    made = rendered(devcluster, overlay("cilium"))
    spec = made["CiliumNetworkPolicy", "booking-operator-credentials"]["spec"]
    pods = made["Deployment", "booking-operator"]["spec"]["template"]["metadata"]["labels"]
    assert spec["endpointSelector"]["matchLabels"].items() <= pods.items()
    (rule,) = spec["egress"]
    assert rule["toEntities"] == ["host"]


def test_ephemeral_storage_is_requested_and_limited(devcluster: Playground) -> None:
    [container] = template(devcluster)["spec"]["containers"]
    assert "ephemeral-storage" in container["resources"]["requests"]
    assert "ephemeral-storage" in container["resources"]["limits"]


def test_the_service_monitor_selects_the_service(devcluster: Playground, overlay: Overlay) -> None:
    made = rendered(devcluster, overlay("servicemonitor"))
    spec = made["ServiceMonitor", "booking-operator"]["spec"]
    service = made["Service", "booking-operator-metrics"]
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert spec["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_single_namespace_mode_has_no_objects_outside_the_namespace(
    devcluster: Playground, overlay: Overlay
) -> None:
    made = rendered(devcluster, overlay("single-namespace", namespace="team-a"))
    assert {item["metadata"].get("namespace") for item in made.values()} == {"team-a"}
    assert not any(kind.startswith("Cluster") for kind, _ in made)
    assert {item["roleRef"]["kind"] for (kind, _), item in made.items() if kind == "RoleBinding"} == {"Role"}
    [container] = made["Deployment", "booking-operator"]["spec"]["template"]["spec"]["containers"]
    [namespace] = [variable for variable in container["env"] if variable["name"] == "NAMESPACE"]
    assert namespace["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace"


def test_the_operator_may_impersonate_whatever_its_namespace(
    devcluster: Playground, overlay: Overlay
) -> None:
    made = rendered(devcluster, overlay("pin-user", namespace="elsewhere"))
    operator, group = made["ClusterRoleBinding", "booking-operator-impersonator"]["subjects"]
    assert (operator["name"], operator["namespace"]) == ("booking-operator", "elsewhere")
    assert group["name"] == "booking-operator:impersonators"


def test_a_single_replica_stops_before_its_successor_starts(devcluster: Playground, overlay: Overlay) -> None:
    spec = rendered(devcluster, overlay("single-replica"))["Deployment", "booking-operator"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["template"]["spec"]["containers"][0]["args"] == ["run"]


def test_tenant_roles_aggregate_into_view_edit_and_admin(devcluster: Playground, overlay: Overlay) -> None:
    made = rendered(devcluster, overlay("tenant-roles"))
    written: dict[str, set[str]] = {}
    for role in ("view", "edit", "admin"):
        item = made["ClusterRole", f"booking-operator-{role}"]
        aggregated = {label for label in item["metadata"]["labels"] if "aggregate-to" in label}
        assert aggregated == {f"rbac.authorization.k8s.io/aggregate-to-{role}"}
        [rule] = item["rules"]
        written[role] = set(rule["resources"]) if "create" in rule["verbs"] else set()
        # Only the operator writes a status, and a user who may impersonate could book in any name.
        assert not any("/" in resource for resource in rule["resources"])
        assert not {"*", "impersonate"} & set(rule["verbs"])
    # A Resource may name any tag, so that its authors control machines of other users.
    assert written == {
        "view": set(),
        "edit": {"bookings", "bookingschedulers", "calendarfeeds"},
        "admin": {"resources", "resourcemonitors"},
    }


def test_the_version_is_that_of_the_package() -> None:
    project = (MANIFESTS.parent / "pyproject.toml").read_text()
    version = project.partition('\nversion = "')[2].partition('"')[0]
    for folder in ("manager", "components/board"):
        manifest = (MANIFESTS / folder / "deployment.yaml").read_text()
        assert f"image: booking-operator:{version}\n" in manifest


def test_the_installation_contains_no_samples(devcluster: Playground) -> None:
    """An installation creates no Resource, because the operator stops unbooked instances of its group."""
    assert not Path(MANIFESTS / "samples" / "kustomization.yaml").exists()
    kinds = {kind for kind, _ in rendered(devcluster, MANIFESTS)}
    assert not kinds & {"Booking", "BookingScheduler", "Resource", "ResourceMonitor"}
