"""Boundaries of bookings during all disruptions that an administrator may cause."""

import json
import os
import signal
from datetime import timedelta

import pytest

from booking_operator.devcluster.errors import DevclusterError
from tests.cluster.conftest import TAGS, Team
from tests.cluster.installation import NAME, REPOSITORY, Installation, is_ready, until
from tests.cluster.kernel import processes
from tests.e2e.conftest import soon
from tests.support.node.kubelet import NODE

ACME = "210987654321"
"""An account other than the operator's own."""

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]  # the first one builds image and cluster


def test_a_deleted_leader_hands_over_and_stops_cleanly(operator: Installation) -> None:
    leader = operator.leader()
    with operator.following(leader) as log:
        operator("delete", "pod", leader, "--wait=false")
        until(lambda: operator.leader() not in {leader, ""}, 10, operator.situation)
        until(lambda: leader not in {pod["metadata"]["name"] for pod in operator.pods()}, 20)
    lines = log.read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "stopped"
    assert not [line for line in lines if "Traceback" in line]


def test_a_crashed_leader_is_replaced_and_restarted(operator: Installation, team: Team) -> None:
    ids, leader = team.group(), operator.leader()
    begin = soon(5)
    team.book("afternoon", begin, begin + timedelta(hours=1))
    (crashed,) = (pod for pod in operator.pods() if pod["metadata"]["name"] == leader)
    for pid in processes(crashed):
        os.kill(pid, signal.SIGKILL)
    team.kept("StartInstances", ids, begin)
    operator.settled()
    (again,) = (pod for pod in operator.pods() if pod["metadata"]["name"] == leader)
    (status,) = again["status"]["containerStatuses"]
    assert status["restartCount"] == crashed["status"]["containerStatuses"][0]["restartCount"] + 1
    assert status["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGKILL


def test_a_force_deleted_leader_is_replaced(operator: Installation, team: Team) -> None:
    ids, leader = team.group(), operator.leader()
    begin = soon(6)
    team.book("afternoon", begin, begin + timedelta(hours=1))
    operator("delete", "pod", leader, "--grace-period=0", "--force")
    team.kept("StartInstances", ids, begin)
    assert operator.leader() != leader
    operator.settled()


def test_a_drain_leaves_one_pod_running(operator: Installation, team: Team) -> None:
    """The only node has no place for another pod, so the PodDisruptionBudget protects the last one."""
    ids = team.group()
    begin = soon(10)
    team.book("afternoon", begin, begin + timedelta(hours=1))
    try:
        with pytest.raises(DevclusterError, match="disruption budget"):
            operator("drain", NODE, "--timeout=15s", "--ignore-daemonsets", "--delete-emptydir-data")
        team.kept("StartInstances", ids, begin)
        assert len([pod for pod in operator.pods() if is_ready(pod)]) == 1
    finally:
        operator("uncordon", NODE)
    operator.settled()


def test_an_upgrade_keeps_a_boundary_and_two_ready_pods(operator: Installation, team: Team) -> None:
    ids = team.group()
    (before,) = {pod["spec"]["containers"][0]["image"] for pod in operator.pods()}
    after = next(tag for tag in TAGS if not before.endswith(f":{tag}"))
    begin = soon(5)
    team.book("afternoon", begin, begin + timedelta(hours=1))
    operator.apply(after)
    fewest = 2

    def upgraded() -> bool:
        nonlocal fewest
        pods = operator.pods()
        fewest = min(fewest, len([pod for pod in pods if is_ready(pod)]))
        images = {pod["spec"]["containers"][0]["image"] for pod in pods}
        return images == {f"{REPOSITORY}:{after}"}

    until(upgraded, 120, operator.situation)
    operator.rolled_out()
    team.kept("StartInstances", ids, begin)
    assert fewest == 2


def test_changed_settings_roll_out(operator: Installation, team: Team) -> None:
    """Change the ConfigMap of the environment, and add the ConfigMap of the configuration file."""
    revision = {pod["metadata"]["labels"]["pod-template-hash"] for pod in operator.pods()}
    role = f"arn:aws:iam::{ACME}:role/booking-operator"
    operator.apply(TAGS[0], {"accounts": {"acme": {"role_arn": role}}}, NOTIFY_BEFORE="11m")
    operator.rolled_out()
    operator.settled()
    assert revision.isdisjoint(pod["metadata"]["labels"]["pod-template-hash"] for pod in operator.pods())
    assert operator("exec", operator.leader(), "--", "printenv", "NOTIFY_BEFORE").strip() == "11m"
    ids = team.cloud.create(team.name, 2, ACME)
    team.apply("Resource", "theirs", type="ec2", tag=team.name, account="acme")
    team.book("afternoon", soon(0), soon(3600), "theirs")
    until(lambda: team.cloud.accepted("StartInstances", ids), 30, operator.situation)
    # other tests install the operator without this account
    team("delete", "bookings,resources", "--all", "--timeout=30s")


def test_boundaries_while_no_pod_runs_are_handled_after_the_start(operator: Installation, team: Team) -> None:
    begun, ended = team.group("begun"), team.group("ended")
    over = soon(45)
    team.book("ends-meanwhile", soon(0), over, "ended")
    until(lambda: team.cloud.states(ended) == ["running", "running"], 20, operator.situation)
    operator("scale", f"deployment/{NAME}", "--replicas=0")
    until(lambda: not operator.pods(), 40, operator.situation)
    begin = soon(1)
    team.book("begins-meanwhile", begin, begin + timedelta(hours=1), "begun")
    until(lambda: soon(0) > max(over, begin), 70)
    assert not team.cloud.accepted("StopInstances", ended)
    operator("scale", f"deployment/{NAME}", "--replicas=2")
    back = soon(0)
    team.kept("StartInstances", begun, begin, within=60)
    team.kept("StopInstances", ended, over, within=60)
    assert min(team.cloud.accepted("StartInstances", begun)) >= back
    operator.settled()
