"""Two pods of the operator without disruption: their behaviour, and the restrictions that apply to them."""

import json
import shlex
import urllib.request

import pytest

from booking_operator.devcluster.errors import DevclusterError
from tests.cluster.conftest import Team
from tests.cluster.installation import NAME, Installation, until
from tests.cluster.kernel import memory
from tests.e2e.conftest import soon
from tests.support.code_blocks import commands

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]  # the first one builds image and cluster


def test_the_life_of_a_booking_as_its_user_sees_it(operator: Installation, team: Team) -> None:
    ids = team.group()
    begin, end = soon(15), soon(30)
    team.book("afternoon", begin, end)
    until(lambda: "SCHEDULED" in team("get", "bookings"), 14, operator.situation)
    team("wait", "--for=condition=Ready", "booking/afternoon", "--timeout=40s")
    assert "RUNNING" in team("get", "resources")
    assert "IN PROGRESS" in team("get", "bookings")
    team.kept("StartInstances", ids, begin, within=2)
    team.kept("StopInstances", ids, end, within=2)
    until(lambda: "FINISHED" in team("get", "bookings") and "STOPPED" in team("get", "resources"), 10)
    description = team("describe", "booking", "afternoon")
    assert "Started" in description
    assert len(team.cloud.accepted("StartInstances", ids)) == 1  # only one of the two pods acts
    assert len(team.cloud.accepted("StopInstances", ids)) == 1


def test_logs_show_the_leader_and_no_errors(operator: Installation) -> None:
    leader = operator.leader()
    lines = operator("logs", leader).splitlines()
    entries = [json.loads(line) for line in lines]
    assert any(leader in entry.get("identity", "") for entry in entries)
    assert not [entry for entry in entries if entry["level"] in {"error", "critical"}]


def test_both_pods_serve_metrics(operator: Installation) -> None:
    for pod in operator.pods():
        url = f"http://{pod['status']['podIP']}:8080/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            assert "booking_operator_" in reply.read().decode()


def test_pods_are_restricted(operator: Installation) -> None:
    with pytest.raises(DevclusterError, match='violates PodSecurity "restricted:latest"'):
        operator("run", "intruder", "--image=booking-operator.invalid/pause:1", "--privileged")
    pod = operator.leader()
    script = "import os; print(os.getuid(), os.access('/', os.W_OK), os.access('/tmp', os.W_OK))"
    assert operator("exec", pod, "--", "python3", "-c", script).split() == ["65532", "False", "False"]
    status = operator("exec", pod, "--", "cat", "/proc/1/status")
    held = {line.split()[1] for line in status.splitlines() if line.startswith("Cap")}
    assert held == {"0" * 16}


def test_policies_are_in_force(operator: Installation) -> None:
    policy = json.loads(operator("get", "networkpolicy", NAME, "--output=json"))
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}

    def allows_one() -> bool:
        status = json.loads(operator("get", "poddisruptionbudget", NAME, "--output=json"))["status"]
        return (status["expectedPods"], status["currentHealthy"], status["disruptionsAllowed"]) == (2, 2, 1)

    until(allows_one, 30, operator.situation)
    service = json.loads(operator("get", "endpointslices", "--output=json"))["items"]
    ready = [address for one in service for endpoint in one["endpoints"] for address in endpoint["addresses"]]
    assert sorted(ready) == sorted(pod["status"]["podIP"] for pod in operator.pods())


def test_the_board_serves_a_team(operator: Installation, team: Team) -> None:
    team.group()
    team.book("afternoon", soon(-60), soon(600))
    team("create", "serviceaccount", "dashboard")
    kinds = "resources.manager.kotaico.de,bookings.manager.kotaico.de"
    team("create", "role", "reader", "--verb=list", f"--resource={kinds}")
    team("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={team.name}:dashboard")
    with operator.board():
        operator("rollout", "status", f"deployment/{NAME}-board", "--timeout=60s")
        selector = f"--selector=app.kubernetes.io/name={NAME}-board"
        [pod] = json.loads(operator("get", "pods", selector, "--output=json"))["items"]
        url = f"http://{pod['status']['podIP']}:8080/api/timeline?ns={team.name}"
        token = team("create", "token", "dashboard").strip()
        signed_in = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(url, headers=signed_in)
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            [row] = json.load(reply)["rows"]
        assert row["resource"] == "machines"
        assert "afternoon, ada" in row["lanes"][0][0]["name"]


def test_uninstalling_leaves_booked_machines_running(operator: Installation, team: Team) -> None:
    """With a garbage collector, which deletes the bookings of a deleted scheduler."""
    ids, at = team.group(warm_up="10m"), soon(120)
    template = {"resource_name": "machines", "user_id": "ada"}
    daily = {"schedule": f"{at.minute} {at.hour} * * *", "duration": 60, "bookingTemplate": template}
    team.apply("BookingScheduler", "daily", **daily)
    until(lambda: team.cloud.states(ids) == ["running"] * len(ids), 20, operator.situation)
    [*deletes, _, _] = commands("docs/install.md", "Uninstall")
    assert len(deletes) == 3
    for command in deletes:
        team.kubectl(*shlex.split(command)[1:], "--timeout=120s")
    until(lambda: not team("get", "bookings,bookingschedulers,resources", "--output=name"), 20)
    assert team.cloud.states(ids) == ["running"] * len(ids)
    assert team.cloud.accepted("StopInstances", ids) == []


@pytest.mark.parametrize(("policy", "state"), [("Leave", "running"), ("Stop", "stopped")])
def test_the_deletion_of_a_namespace_follows_the_deletion_policy(
    operator: Installation, team: Team, policy: str, state: str
) -> None:
    """With a namespace controller, which deletes the objects in an order of its own."""
    ids = team.group(deletion_policy=policy)
    team.book("afternoon", soon(1), soon(600))
    until(lambda: team.cloud.states(ids) == ["running"] * len(ids), 20, operator.situation)
    team.kubectl("delete", "namespace", team.name, "--timeout=120s")
    until(lambda: team.cloud.states(ids) == [state] * len(ids), 20, operator.situation)


def test_memory_stays_within_the_limit(operator: Installation, team: Team) -> None:
    """With three hundred bookings, as measured by the kernel."""
    ids = team.group()
    begin = soon(15)
    bookings = []
    for number in range(300):
        start, end = begin if number == 0 else soon(3600 + 60 * number), soon(3630 + 60 * number)
        spec = {"resource_name": "machines", "user_id": "ada"}
        spec |= {"start_at": start.isoformat(), "end_at": end.isoformat()}
        kind = {"apiVersion": "manager.kotaico.de/v1", "kind": "Booking"}
        bookings.append({**kind, "metadata": {"name": f"b{number}"}, "spec": spec})
    team("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": bookings}))
    team.kept("StartInstances", ids, begin)
    for pod in operator.pods():
        used, limit = memory(pod)
        assert 20 * 2**20 < used < limit * 0.75
        for status in pod["status"]["containerStatuses"]:
            assert status.get("lastState", {}).get("terminated", {}).get("reason") != "OOMKilled"
    team("delete", "bookings", "--all", "--wait=false")  # later tests do not have to wait for the deletion
