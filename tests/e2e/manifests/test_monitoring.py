"""The alerts, installed together with the operator."""

from booking_operator.devcluster.playground import Playground
from tests.e2e.manifests.conftest import Overlay, rendered
from tests.e2e.manifests.test_install import LABELS
from tests.support.kustomize import SYSTEM
from tests.support.promql import spec


def test_alerts_and_service_monitor_are_in_the_same_namespace(
    devcluster: Playground, overlay: Overlay
) -> None:
    found = rendered(devcluster, overlay("servicemonitor", "../monitoring"))
    rules, monitor = found["PrometheusRule", "booking-operator"], found["ServiceMonitor", "booking-operator"]
    assert rules["apiVersion"] == monitor["apiVersion"]
    assert rules["metadata"]["namespace"] == monitor["metadata"]["namespace"] == SYSTEM
    assert rules["metadata"]["labels"] == LABELS
    assert rules["spec"] == spec()
