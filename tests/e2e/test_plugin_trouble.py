"""`kubectl booking` in a cluster without the CRD, with 5,000 bookings, and while the API server restarts."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.population import NAMESPACE, fill, objects, stored
from booking_operator.api import crd
from booking_operator.api.kinds import BOOKING
from booking_operator.devcluster.playground import OwnPlayground, list_all_kinds
from tests.e2e.conftest import apiserver_killed
from tests.support.people import booking_body, condition, resource_body
from tests.support.plugin import Person

pytestmark = [pytest.mark.dedicated, pytest.mark.timeout(120)]

BOOKINGS, RESOURCES = 5_000, 50


@pytest.fixture
def ada(own_devcluster: OwnPlayground, tmp_path: Path) -> Iterator[Person]:
    own_devcluster.kubectl("create", "namespace", "people")
    yield Person(own_devcluster, "people", "ada", tmp_path)
    own_devcluster.kubectl("delete", "namespace", "people", "--wait=false")
    own_devcluster.kubectl("-n", "people", "delete", "resources,bookings", "--all")
    # No namespace controller runs here, so the namespace itself stays until it is finalized.
    finalized = json.dumps(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "people"}, "spec": {}}
    )
    own_devcluster.kubectl(
        "replace", "--raw", "/api/v1/namespaces/people/finalize", "-f", "-", stdin=finalized
    )


def test_a_cluster_without_the_crd_says_how_to_install_it(own_devcluster: OwnPlayground, ada: Person) -> None:
    list_all_kinds(own_devcluster.kubectl)
    own_devcluster.kubectl("delete", "crd", BOOKING.crd_name)
    try:
        said = ada.says("list", code=3)
    finally:
        own_devcluster.kubectl("apply", "-f", "-", stdin=crd.render(BOOKING))
        own_devcluster.kubectl("wait", "--for=condition=Established", "crd", BOOKING.crd_name)
    assert said == [
        "error: the cluster does not serve bookings.manager.kotaico.de",
        "hint: ask an administrator to install the booking operator: kubectl apply -k manifests/crds",
    ]


def test_5000_bookings_are_listed_and_booked_among(own_devcluster: OwnPlayground, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    made = objects(BOOKINGS, RESOURCES, now)
    waiting = ((kind, stored(kind, name, spec, now, settled=True)) for kind, name, spec in made)
    asyncio.run(fill(own_devcluster.control_plane, waiting))
    person = Person(own_devcluster, NAMESPACE, "grace", tmp_path)
    listed = person.says("list", "--all", "-o", "name", now="")
    assert len(listed) == BOOKINGS
    assert len(person.says("status", "-q", now="")) == RESOURCES + 1
    booked = person.says("book", "group-00000", "--duration", "1w", now="")
    assert booked[0].endswith(" created")
    assert booked[-1].startswith("  overlaps ")
    own_devcluster.kubectl("-n", NAMESPACE, "delete", "resources,bookings", "--all", "--wait=false")


def test_wait_survives_a_restart_of_the_api_server(own_devcluster: OwnPlayground, ada: Person) -> None:
    starting = condition("Ready", "False", "Starting", "0 of 2 instances are running; all are booked.")
    ada.apply(
        resource_body("analytics", "PENDING", 0, 2, [starting]),
        booking_body("now", "analytics", "ada", "14:02", "17:00"),
    )
    waiting = ada.start("wait", "analytics", "--timeout", "60s")
    assert waiting.stderr is not None
    assert "BOOKING_NOW" in waiting.stderr.readline()
    assert "0 of 2 run" in waiting.stderr.readline()
    with apiserver_killed(own_devcluster):
        pass
    ada.apply(resource_body("analytics", "RUNNING", 2, 2))
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert out.startswith("analytics: 2 of 2 run, after ")
