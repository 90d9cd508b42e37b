"""The initial world of a seed, and the actions of its users."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.sim.script import Act
from tests.sim.storage import timestamp

MINUTE = 60.0
USERS = ("ada", "bob", "cyd")
RULES = ({"sharing": "Exclusive"}, {"sharing": "Shared"}, {"max_duration": "3m"}, {"max_duration": ""})
"""What users change about the rules for bookings."""
TIMEOUT = "100s"
"""How long starts and stops wait for other Resources. No wait lasts until the final checks."""


class Workload:
    """Generates the initial world and the user actions in the script of a seed.

    Attributes:
        rng: the source of all random choices in the script, apart from those of the others.
        rules: the source of the choices about the rules for bookings.
        scaled: the source of the choices about Auto Scaling groups.
        services: the source of the choices about ECS services.
        replicas: the number of replicas.
        elected: whether the replicas elect a leader.
        lease: LeaseDuration in seconds; 0 without leader election.
        synchronized: whether the bookings of all groups start together.
        ends_at: the end of the last bookings (s), approximately.
        groups: the names of the groups.
        machines: the number of instances so far.
        bookings: the number of bookings so far.
        boundaries: instants at which bookings start or end (s).
        hot_spots: instants near which most user actions and failures occur (s).
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"{seed}/script")
        self.rules = random.Random(f"{seed}/rules")
        self.scaled = random.Random(f"{seed}/scaled")
        self.services = random.Random(f"{seed}/services")
        self.replicas = self.rng.choice((1, 1, 2, 2, 3))
        self.elected = self.replicas > 1 or self.rng.random() < 0.1
        self.lease = self.rng.choice((12.0, 15.0, 30.0)) if self.elected else 0.0
        self.synchronized = self.rng.random() < 0.3
        self.ends_at = self.rng.uniform(8, 20) * MINUTE
        self.groups = [f"g{number}" for number in range(self.rng.randint(1, 5))]
        self.machines = 0
        self.bookings = 0
        self.boundaries = [MINUTE]
        self.hot_spots = [MINUTE]

    def random_instant(self) -> float:
        """Return an instant that is mostly at a hot spot, or shortly before or after it."""
        if self.rng.random() < 0.3:
            return self.rng.uniform(1, self.ends_at)
        near = self.rng.choice((0.0, 0.002, 0.2, 2, 10, 30)) * self.rng.uniform(-1, 1)
        return max(1.0, self.rng.choice(self.hot_spots) + near)

    # The initial world.

    def world(self) -> Iterator[Act]:
        """Yield the creation of instances, Resources, bookings, and sometimes schedulers and a monitor."""
        max_instances = self.rng.choice((1, 2, 3, 8))
        for group in self.groups:
            service = "rds" if self.rng.random() < 0.15 else "ec2"
            if service == "ec2" and self.scaled.random() < 0.1:
                service = "asg"
            if service == "ec2" and self.services.random() < 0.1:
                service = "ecs"
            account = "acme" if self.rng.random() < 0.2 else ""
            for _ in range(self.rng.randint(1, max_instances)):
                yield Act(
                    0, "launch", {"service": service, "account": account, "tag": group, "pool": self.pool()}
                )
                self.machines += 1
                if service == "asg":
                    about = {"machine": self.machines - 1, "capacity": self.scaled.choice(("1/2/1", "0/9/1"))}
                    yield Act(self.scaled.uniform(1, self.ends_at), "resize", about)
                if service == "ecs":
                    yield from self.user_of_service()
            yield from self.group(group, service, account)
        if self.rng.random() < 0.3:
            yield from self.schedulers()
        if self.rng.random() < 0.2:
            yield Act(0, "create", {"plural": "resourcemonitors", "name": "rm", "spec": {"interval": "1m"}})
            yield Act(self.random_instant(), "found", {"tag": "new"})
            self.machines += 2

    def user_of_service(self) -> Iterator[Act]:
        """Yield that a user resizes the last instance, an ECS service, and sometimes starts it by hand."""
        about = {"machine": self.machines - 1, "capacity": self.services.choice(("1/2/1", "0/9/1"))}
        yield Act(self.services.uniform(1, self.ends_at), "resize", about)
        if self.services.random() < 0.3:
            by_hand = {"machine": self.machines - 1, "verb": "start"}
            yield Act(self.services.uniform(1, self.ends_at), "by_hand", by_hand)

    def group(self, group: str, service: str, account: str) -> Iterator[Act]:
        """Yield the creation of a Resource and its bookings."""
        spec: dict[str, Any] = {"tag": group, "type": service}
        if account:
            spec["account"] = account
        if self.rng.random() < 0.25:
            spec["unbooked"] = "Leave"
        if self.rng.random() < 0.3:
            spec["warm_up"] = self.rng.choice(("30s", "5m", "auto"))
        if spec.get("unbooked") == "Leave" and self.rules.random() < 0.5:
            spec |= self.rules.choice(({"stop_at": ["*/2 * * * *"]}, {"unbooked_for": "2m"}))
            about = {"machine": self.machines - 1, "verb": "start"}  # the last instance of this group
            yield Act(self.rules.uniform(1, self.ends_at), "by_hand", about)
        spec |= self.booking_rules(group, service)
        yield Act(0, "create", {"plural": "resources", "name": group, "spec": spec})
        yield from self.group_bookings(group)
        if spec.get("sharing") == "Exclusive":
            yield from self.queue(group)

    def booking_rules(self, group: str, service: str) -> dict[str, Any]:
        """Return the fields of a spec about bookings, readiness and order."""
        spec: dict[str, Any] = {}
        if self.rules.random() < 0.3:
            spec["sharing"] = "Exclusive"
        if self.rules.random() < 0.15:
            spec["max_duration"] = self.rules.choice(("2m", "5m"))
        if service != "rds" and self.rules.random() < 0.25 and service == "ec2":
            spec["ready_when"] = "StatusChecks"
        if self.rules.random() < 0.15:
            spec["max_ahead"] = self.rules.choice(("1m", "4m"))
        others = [other for other in self.groups if other != group]
        if others and self.rules.random() < 0.25:
            spec |= {"requires": [self.rules.choice(others)], "requires_timeout": TIMEOUT}
        return spec

    def pool(self) -> str:
        """Return an instance type and a zone."""
        return self.rng.choice(("m5.large in eu-west-1a", "c5.large in eu-west-1b"))

    def group_bookings(self, group: str) -> Iterator[Act]:
        """Yield bookings of a group, with gaps, back to back, overlapping, or nested."""
        at = self.rng.choice((-8 * MINUTE, 0, 2 * MINUTE, 5 * MINUTE)) + self.rng.choice((0, 1, 17))
        at = 3 * MINUTE if self.synchronized else at
        while at < self.ends_at:
            lasts = self.rng.choice((MINUTE, 3 * MINUTE, 8 * MINUTE)) * self.rng.choice((1, 1, 0.7))
            yield self.book(group, at, at + lasts)
            if self.rng.random() < 0.2:
                yield self.book(group, at + lasts / 4, at + lasts / 2)
            at += lasts + self.rng.choice((0, -MINUTE, MINUTE, 4 * MINUTE))

    def queue(self, group: str) -> Iterator[Act]:
        """Yield two bookings back to back, an extension of the first, and a booking that waits for them."""
        start = round(self.rules.uniform(MINUTE, self.ends_at))
        times = {"first": (0, 240), "second": (240, 480), "third": (120, round(self.ends_at) + 2000)}
        for name, (begin, end) in times.items():
            about = {"name": f"{group}-{name}", "resource": group, "user": self.rules.choice(USERS)}
            created_at = self.rules.choice((0.0, start - 30.0, start + begin - 1.0))
            yield Act(max(0.0, created_at), "book", about | {"start": start + begin, "end": start + end})
        extended = {"name": f"{group}-first", "end": start + self.rules.choice((300, 600))}
        yield Act(start + self.rules.uniform(1, 200), "rebook", extended)

    def book(self, group: str, start: float, end: float) -> Act:
        """Return the creation of a booking: some time before its start, at its start, or shortly after."""
        created_at = (
            0.0
            if start < MINUTE
            else self.rng.choice((0.0, 0.0, start - MINUTE, start - 2, start, start + 5))
        )
        name, self.bookings = f"b{self.bookings}", self.bookings + 1
        self.boundaries += [round(at) for at in (start, end) if 0 < at < self.ends_at]
        arguments = {"name": name, "resource": group, "start": round(start), "end": round(end)}
        if self.rules.random() < 0.3:
            arguments["notifies"] = True
        return Act(max(0.0, created_at), "book", arguments | {"user": self.rng.choice(USERS)})

    def schedulers(self) -> Iterator[Act]:
        """Yield the creation of schedulers, and sometimes their deletion."""
        for number in range(self.rng.randint(1, 2)):
            spec = {
                "schedule": self.rng.choice(("*/10 * * * *", "*/4 * * * *", "5 * * * *")),
                "duration": self.rng.choice((2, 4, 10)),
                "horizon": self.rng.choice(("30m", "10m")),
                "keep_finished": self.rng.choice((0, 3)),
                "bookingTemplate": {"resource_name": self.rng.choice(self.groups), "user_id": "cron"},
            }
            yield Act(0, "create", {"plural": "bookingschedulers", "name": f"bs{number}", "spec": spec})
            if self.rng.random() < 0.3:
                yield Act(
                    self.random_instant(), "delete", {"plural": "bookingschedulers", "name": f"bs{number}"}
                )

    # The actions of users.

    def user_actions(self) -> Iterator[Act]:
        """Yield the random actions of all users."""
        for _ in range(self.rng.randint(0, 16)):
            yield from self.user_action(self.random_instant())
        while self.rules.random() < 0.3:
            requires = {"requires": [self.rules.choice(self.groups)], "requires_timeout": TIMEOUT}
            spec: dict[str, Any] = self.rules.choice((*RULES, requires, {"requires": []}))
            about = {"plural": "resources", "name": self.rules.choice(self.groups), "spec": spec}
            yield Act(self.rules.uniform(1, self.ends_at), "edit", about)

    def user_action(self, at: float) -> Iterator[Act]:
        """Yield one random action of a user."""
        group, name = self.rng.choice(self.groups), f"b{self.rng.randrange(self.bookings)}"
        kinds = (
            "cancel",
            "cancel",
            "extend",
            "extend",
            "move",
            "now",
            "now",
            "resource",
            "by_hand",
            "by_hand",
            "invalidate",
            "remake",
        )
        match self.rng.choice(kinds):
            case "cancel":
                yield Act(at, "delete", {"plural": "bookings", "name": name})
            case "extend":
                yield Act(at, "rebook", {"name": name, "end": round(at + self.rng.choice((-60, 5, 60, 300)))})
            case "move":
                yield Act(at, "rebook", {"name": name, "resource": group})
            case "now":
                act = self.book(group, at, at + self.rng.choice((30, 120, 400)))
                yield replace(act, at=at)
            case "resource":
                yield from self.resource_edits(at, group)
            case "by_hand":
                verb = self.rng.choice(("start", "stop", "start", "stop", "terminate"))
                yield Act(at, "by_hand", {"machine": self.rng.randrange(self.machines), "verb": verb})
            case "invalidate":
                yield Act(at, "edit", {"plural": "bookings", "name": name, "spec": {"end_at": "soon"}})
            case "remake":
                yield Act(at, "delete", {"plural": "resources", "name": group})
                yield Act(
                    at + self.rng.choice((0.01, 5, 90)), "remake", {"plural": "resources", "name": group}
                )

    def resource_edits(self, at: float, group: str) -> Iterator[Act]:
        """Yield edits of a Resource: suspend and resume it, or change its policy or warm-up."""
        if self.rng.random() < 0.5:
            lasts = self.rng.uniform(10, 200)
            if self.rules.random() < 0.5:
                about = {"suspend_until": timestamp(round(at + lasts))}
                yield Act(at, "edit", {"plural": "resources", "name": group, "spec": about})
                return
            yield Act(at, "edit", {"plural": "resources", "name": group, "spec": {"suspend": True}})
            yield Act(at + lasts, "edit", {"plural": "resources", "name": group, "spec": {"suspend": False}})
        else:
            policies: tuple[dict[str, Any], ...] = (
                {"unbooked": "Leave"},
                {"unbooked": "Stop"},
                {"warm_up": "2m"},
            )
            change = self.rng.choice(policies)
            if change == {"unbooked": "Stop"}:  # the API server refuses off times without Leave
                change = change | {"stop_at": [], "unbooked_for": ""}
            yield Act(at, "edit", {"plural": "resources", "name": group, "spec": change})
