"""Transitions between power states, which moto lacks: their duration, and stale Describe replies.

The machines of an Auto Scaling group and the tasks of an ECS service start and stop with the same duration.
"""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from tests.support.aws_fleet import CODES

_XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"
_SCALING_XMLNS = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
_SLICE = 16 * 1024
_COURSE = {"StartInstances": ("pending", "running"), "StopInstances": ("stopping", "stopped")}
_NOT_NOW = {
    "StartInstances": ("stopping", "The instance '{}' is not in a state from which it can be started."),
    "StopInstances": (
        "pending",
        "Instance '{}' cannot be stopped as it has never reached the 'running' state.",
    ),
}


@dataclass(frozen=True, slots=True)
class _Change:
    """A start or stop that moto carried out immediately, at `at` on the monotonic clock."""

    before: str
    during: str
    at: float


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of running tasks or machines before and after a change at `at` on the monotonic clock."""

    before: int
    after: int
    at: float

    def shown(self, now: float, seconds: float) -> int:
        return self.before if now < self.at + seconds else self.after


class Transitions:
    """Records starts and stops, and changes replies of moto so that they show transitions as EC2 does.

    Attributes:
        seconds: how long a started instance is `pending`, and a stopped one `stopping`.
        stale_seconds: how long after a start or stop a Describe still shows the state before it.
        check_seconds: how long after a start the status checks of a running instance are initializing.
        impaired: the ids of the instances whose instance status check fails.
    """

    def __init__(self, seconds: float, stale_seconds: float) -> None:
        self.seconds = seconds
        self.stale_seconds = stale_seconds
        self.check_seconds = 0.0
        self.impaired: set[str] = set()
        self._changes: dict[str, _Change] = {}
        self._tasks: dict[str, _Numbers] = {}
        self._machines: dict[str, _Numbers] = {}

    def refusal(self, action: str, ids: Collection[str]) -> str | None:
        """The error of EC2, which does not start a stopping instance, and does not stop a pending one."""
        state, message = _NOT_NOW.get(action, ("", ""))
        for id_ in ids:
            change = self._under_way(id_)
            if change is not None and change.during == state:
                return message.format(id_)
        return None

    def distort(self, action: str, body: bytes) -> bytes:
        """Change a reply of moto into the reply of EC2 or ECS."""
        if action in {"DescribeServices", "UpdateService"}:
            return self._show_tasks(action, json.loads(body))
        if action == "DescribeAutoScalingGroups":
            return self._show_machines(_parsed(body))
        if action == "DescribeInstanceStatus":
            root = _parsed(body)
            self._show_checks(root)
            ET.register_namespace("", _XMLNS)
            return ET.tostring(root)
        if action not in _COURSE and not (action == "DescribeInstances" and self._changes):
            return body
        root = _parsed(body)
        if action in _COURSE:
            self._remember(action, root)
        else:
            self._show(root)
        ET.register_namespace("", _XMLNS)
        return ET.tostring(root)

    def shown(self, id_: str, state: str) -> str:
        """The state that a Describe shows now for an instance with `state` in moto."""
        change, now = self._changes.get(id_), time.monotonic()
        if change is not None and now < change.at + self.stale_seconds:
            return change.before
        return change.during if change is not None and now < change.at + self.seconds else state

    def _under_way(self, id_: str) -> _Change | None:
        change = self._changes.get(id_)
        return change if change and time.monotonic() < change.at + self.seconds else None

    def _remember(self, action: str, root: ET.Element) -> None:
        for item in root.iterfind("{*}instancesSet/{*}item"):
            id_, before = item.findtext("{*}instanceId", ""), item.findtext("{*}previousState/{*}name", "")
            earlier = self._under_way(id_)
            if earlier is not None:
                before = earlier.during
                _set_state(item, "previousState", before)
            if before in _COURSE[action]:
                # The action is a no-op: EC2 answers with the current state.
                _set_state(item, "currentState", before)
            else:
                self._changes[id_] = _Change(before, _COURSE[action][0], time.monotonic())

    def _show(self, root: ET.Element) -> None:
        for item in root.iterfind("{*}reservationSet/{*}item/{*}instancesSet/{*}item"):
            state = item.findtext("{*}instanceState/{*}name", "")
            shown = self.shown(item.findtext("{*}instanceId", ""), state)
            if shown != state:
                _set_state(item, "instanceState", shown)

    def resize(self, group: str, desired: int) -> None:
        """Record a change of the size of an Auto Scaling group, before moto carries it out."""
        before = self._machines[group].after if group in self._machines else 0
        self._machines[group] = _Numbers(before, desired, time.monotonic())

    def _show_machines(self, root: ET.Element) -> bytes:
        """Show new machines as pending, and the ones before as terminating, until the transition is over."""
        now = time.monotonic()
        for group in root.iterfind(".//{*}AutoScalingGroups/{*}member"):
            name, machines = group.findtext("{*}AutoScalingGroupName", ""), group.find("{*}Instances")
            if machines is None:
                machines = ET.SubElement(group, f"{{{_SCALING_XMLNS}}}Instances")
            known = self._machines.get(name)
            if known is None:
                self._machines[name] = _Numbers(len(machines), len(machines), now)
            elif now < known.at + self.seconds:
                for state in machines.iterfind("{*}member/{*}LifecycleState"):
                    state.text = "Pending"
                for _ in range(known.before - known.after):
                    machine = ET.SubElement(machines, f"{{{_SCALING_XMLNS}}}member")
                    ET.SubElement(machine, f"{{{_SCALING_XMLNS}}}LifecycleState").text = "Terminating"
        ET.register_namespace("", _SCALING_XMLNS)
        return ET.tostring(root)

    def _show_tasks(self, action: str, reply: dict[str, Any]) -> bytes:
        """Show the number of tasks before an UpdateService as running until the transition is over."""
        now = time.monotonic()
        for row in [reply["service"]] if action == "UpdateService" else reply["services"]:
            known = self._tasks.get(row["serviceArn"])
            if action == "UpdateService":
                before = known.shown(now, self.seconds) if known else 0
                known = self._tasks[row["serviceArn"]] = _Numbers(before, row["desiredCount"], now)
            if known is None:
                running = row["runningCount"]
                self._tasks[row["serviceArn"]] = _Numbers(running, running, now)
            else:
                row["runningCount"] = known.shown(now, self.seconds)
                row["pendingCount"] = max(0, row["desiredCount"] - row["runningCount"])
        return json.dumps(reply).encode()

    def _show_checks(self, root: ET.Element) -> None:
        now = time.monotonic()
        for item in root.iterfind("{*}instanceStatusSet/{*}item"):
            id_ = item.findtext("{*}instanceId", "")
            change = self._changes.get(id_)
            if id_ in self.impaired:
                _set_check(item, "instanceStatus", "impaired")
            elif change is not None and now < change.at + self.seconds + self.check_seconds:
                for name in ("instanceStatus", "systemStatus"):
                    _set_check(item, name, "initializing")


def _set_check(item: ET.Element, name: str, status: str) -> None:
    for child in item.iterfind(f"{{*}}{name}/{{*}}status"):
        child.text = status


def _parsed(body: bytes) -> ET.Element:
    """Parse in slices, because expat holds the GIL while it parses one slice."""
    parser = ET.XMLParser()  # noqa: S314 - moto's own reply
    for start in range(0, len(body), _SLICE):
        parser.feed(body[start : start + _SLICE])
    return parser.close()


def _set_state(item: ET.Element, name: str, state: str) -> None:
    for child in item.iterfind(f"{{*}}{name}/*"):
        child.text = str(CODES[state]) if child.tag.endswith("code") else state
