"""The alerts, as they are installed with the rest."""

from booking_operator.devcluster.playground import Playground
from tests.e2e.manifests.conftest import SYSTEM, Overlay, rendered
from tests.e2e.manifests.test_install import LABELS
from tests.support.promql import spec


def test_the_alerts_come_beside_what_is_scraped(ground: Playground, overlay: Overlay) -> None:
    found = rendered(ground, overlay("servicemonitor", "../monitoring"))
    rules, monitor = found["PrometheusRule", "booking-operator"], found["ServiceMonitor", "booking-operator"]
    assert rules["apiVersion"] == monitor["apiVersion"]
    assert rules["metadata"]["namespace"] == monitor["metadata"]["namespace"] == SYSTEM
    assert rules["metadata"]["labels"] == LABELS
    assert rules["spec"] == spec()
