"""The actions of users, in the API server and in the AWS console.

The acts of a script are methods of this class or of `world.World`.
"""

from typing import Any

from booking_operator.cloud.aws.tags import MANAGED_TAG
from booking_operator.domain.group import Scope
from booking_operator.domain.notification import NotificationTrigger
from tests.sim.aws import SimAws
from tests.sim.kernel import Kernel
from tests.sim.kube import SimKube
from tests.sim.replica import REGION
from tests.sim.storage import timestamp


class Users:
    """All users.

    Attributes:
        machines: the ids of the instances that users launched, in order.
    """

    def __init__(self, kernel: Kernel, kube: SimKube, aws: SimAws) -> None:
        self.machines: list[str] = []
        self._kernel = kernel
        self._kube = kube
        self._aws = aws
        self._specs: dict[str, dict[str, Any]] = {}

    def launch(self, service: str, account: str, tag: str, pool: str) -> None:
        """Launch an instance."""
        self.machines.append(self._aws.add(service, Scope(account, REGION), tag, pool).id)

    def found(self, tag: str) -> None:
        """Launch a group with the tag that requests a Resource."""
        for _ in range(2):
            machine = self._aws.add("ec2", Scope("", REGION), tag)
            machine.tags[MANAGED_TAG] = "true"
            self.machines.append(machine.id)

    def by_hand(self, machine: int, verb: str) -> None:
        """Start, stop or terminate an instance in the console."""
        if machine < len(self.machines):
            self._aws.by_hand(self.machines[machine], verb)

    def resize(self, machine: int, capacity: str) -> None:
        """Change the size of an Auto Scaling group or ECS service that is on."""
        if machine < len(self.machines):
            self._aws.resize(self.machines[machine], capacity)

    def create(self, plural: str, name: str, spec: dict[str, Any]) -> None:
        """Create an object."""
        if plural == "resources":
            self._specs[name] = spec
        self._kube.user_request("POST", plural, name, {"spec": spec})

    def delete(self, plural: str, name: str) -> None:
        """Delete an object."""
        self._kube.user_request("DELETE", plural, name)

    def edit(self, plural: str, name: str, spec: dict[str, Any]) -> None:
        """Change fields of a spec."""
        self._kube.user_request("PATCH", plural, name, {"spec": spec})

    def remake(self, plural: str, name: str, tries: int = 20) -> None:
        """Create a deleted Resource again. If the old one still exists, retry every 5 s."""
        if name not in self._specs:
            return
        if self._kube.get(plural, name) is None:
            self.create(plural, name, self._specs[name])
        elif tries:
            self._kernel.call_later(5, lambda: self.remake(plural, name, tries - 1))

    def book(
        self, name: str, resource: str, start: float, end: float, user: str, *, notifies: bool = False
    ) -> None:
        """Book a Resource. With `notifies`, the user wants all notifications."""
        spec: dict[str, Any] = {
            "resource_name": resource,
            "user_id": user,
            "start_at": timestamp(start),
            "end_at": timestamp(end),
        }
        if notifies:
            spec["notifications"] = [
                {"type": "email", "recipient": f"{user}@example.com", "when": list(NotificationTrigger)}
            ]
        self.create("bookings", name, spec)

    def rebook(self, name: str, end: float | None = None, resource: str = "") -> None:
        """Change the end of a booking, or its Resource."""
        found = self._kube.get("bookings", name)
        if found is None:
            return
        change = {"resource_name": resource} if resource else {}
        if end is not None and found["spec"]["start_at"] < timestamp(end):
            change["end_at"] = timestamp(end)
        self.edit("bookings", name, change)
