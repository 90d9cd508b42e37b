"""What a seed's world is like, and what its users do."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.sim.script import Act

MINUTE = 60.0
USERS = ("ada", "bob", "cyd")


class Story:
    """Writes the script of a seed: the world as it is at first, and what its users do.

    Attributes:
        chance: the source of all random choices.
        hot: instants at which much happens at once (s).
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"{seed}/script")
        self.replicas = self.chance.choice((1, 1, 2, 2, 3))
        self.elected = self.replicas > 1 or self.chance.random() < 0.1
        self.lease = self.chance.choice((12.0, 15.0, 30.0)) if self.elected else 0.0
        self.together = self.chance.random() < 0.3
        self.ends = self.chance.uniform(8, 20) * MINUTE
        self.groups = [f"g{number}" for number in range(self.chance.randint(1, 5))]
        self.machines = 0
        self.bookings = 0
        self.boundaries = [MINUTE]
        self.hot = [MINUTE]

    def some_time(self) -> float:
        """Mostly right at a hot spot, or shortly before or after."""
        if self.chance.random() < 0.3:
            return self.chance.uniform(1, self.ends)
        near = self.chance.choice((0.0, 0.002, 0.2, 2, 10, 30)) * self.chance.uniform(-1, 1)
        return max(1.0, self.chance.choice(self.hot) + near)

    # The world as it is at first.

    def world(self) -> Iterator[Act]:
        most = self.chance.choice((1, 2, 3, 8))
        for group in self.groups:
            service = "rds" if self.chance.random() < 0.15 else "ec2"
            account = "acme" if self.chance.random() < 0.2 else ""
            for _ in range(self.chance.randint(1, most)):
                yield Act(
                    0, "launch", {"service": service, "account": account, "tag": group, "pool": self.pool()}
                )
                self.machines += 1
            spec: dict[str, Any] = {"tag": group, "type": service}
            if account:
                spec["account"] = account
            if self.chance.random() < 0.25:
                spec["unbooked"] = "Leave"
            if self.chance.random() < 0.3:
                spec["warm_up"] = self.chance.choice(("30s", "5m", "auto"))
            yield Act(0, "create", {"plural": "resources", "name": group, "spec": spec})
            yield from self.day(group)
        if self.chance.random() < 0.3:
            yield from self.recurring()
        if self.chance.random() < 0.2:
            yield Act(0, "create", {"plural": "resourcemonitors", "name": "rm", "spec": {"interval": "1m"}})
            yield Act(self.some_time(), "found", {"tag": "new"})
            self.machines += 2

    def pool(self) -> str:
        return self.chance.choice(("m5.large in eu-west-1a", "c5.large in eu-west-1b"))

    def day(self, group: str) -> Iterator[Act]:
        """Bookings of a group, one after the other: with gaps, back to back, overlapping, nested."""
        at = self.chance.choice((-8 * MINUTE, 0, 2 * MINUTE, 5 * MINUTE)) + self.chance.choice((0, 1, 17))
        at = 3 * MINUTE if self.together else at
        while at < self.ends:
            lasts = self.chance.choice((MINUTE, 3 * MINUTE, 8 * MINUTE)) * self.chance.choice((1, 1, 0.7))
            yield self.book(group, at, at + lasts)
            if self.chance.random() < 0.2:
                yield self.book(group, at + lasts / 4, at + lasts / 2)
            at += lasts + self.chance.choice((0, -MINUTE, MINUTE, 4 * MINUTE))

    def book(self, group: str, start: float, end: float) -> Act:
        """A booking that is made some time before it begins, or when it should have begun already."""
        made = (
            0.0
            if start < MINUTE
            else self.chance.choice((0.0, 0.0, start - MINUTE, start - 2, start, start + 5))
        )
        name, self.bookings = f"b{self.bookings}", self.bookings + 1
        self.boundaries += [round(at) for at in (start, end) if 0 < at < self.ends]
        facts = {"name": name, "resource": group, "start": round(start), "end": round(end)}
        return Act(max(0.0, made), "book", facts | {"user": self.chance.choice(USERS)})

    def recurring(self) -> Iterator[Act]:
        for number in range(self.chance.randint(1, 2)):
            spec = {
                "schedule": self.chance.choice(("*/10 * * * *", "*/4 * * * *", "5 * * * *")),
                "duration": self.chance.choice((2, 4, 10)),
                "horizon": self.chance.choice(("30m", "10m")),
                "keep_finished": self.chance.choice((0, 3)),
                "bookingTemplate": {"resource_name": self.chance.choice(self.groups), "user_id": "cron"},
            }
            yield Act(0, "create", {"plural": "bookingschedulers", "name": f"bs{number}", "spec": spec})
            if self.chance.random() < 0.3:
                yield Act(self.some_time(), "delete", {"plural": "bookingschedulers", "name": f"bs{number}"})

    # What users do.

    def users(self) -> Iterator[Act]:
        for _ in range(self.chance.randint(0, 16)):
            yield from self.user(self.some_time())

    def user(self, at: float) -> Iterator[Act]:
        group, name = self.chance.choice(self.groups), f"b{self.chance.randrange(self.bookings)}"
        kinds = (
            "cancel",
            "cancel",
            "extend",
            "extend",
            "move",
            "now",
            "now",
            "resource",
            "hand",
            "hand",
            "garble",
            "remake",
        )
        match self.chance.choice(kinds):
            case "cancel":
                yield Act(at, "delete", {"plural": "bookings", "name": name})
            case "extend":
                yield Act(
                    at, "rebook", {"name": name, "end": round(at + self.chance.choice((-60, 5, 60, 300)))}
                )
            case "move":
                yield Act(at, "rebook", {"name": name, "resource": group})
            case "now":
                act = self.book(group, at, at + self.chance.choice((30, 120, 400)))
                yield replace(act, at=at)
            case "resource":
                yield from self.edited(at, group)
            case "hand":
                verb = self.chance.choice(("start", "stop", "start", "stop", "terminate"))
                yield Act(at, "by_hand", {"machine": self.chance.randrange(self.machines), "verb": verb})
            case "garble":
                yield Act(at, "edit", {"plural": "bookings", "name": name, "spec": {"end_at": "soon"}})
            case "remake":
                yield Act(at, "delete", {"plural": "resources", "name": group})
                yield Act(
                    at + self.chance.choice((0.01, 5, 90)), "remake", {"plural": "resources", "name": group}
                )

    def edited(self, at: float, group: str) -> Iterator[Act]:
        if self.chance.random() < 0.5:
            lasts = self.chance.uniform(10, 200)
            yield Act(at, "edit", {"plural": "resources", "name": group, "spec": {"suspend": True}})
            yield Act(at + lasts, "edit", {"plural": "resources", "name": group, "spec": {"suspend": False}})
        else:
            change = self.chance.choice(({"unbooked": "Leave"}, {"unbooked": "Stop"}, {"warm_up": "2m"}))
            yield Act(at, "edit", {"plural": "resources", "name": group, "spec": change})
