"""What a seed stands for: a world, what its users do, and what fails when; all of it plain data.

A script can be cut down, and what is left of it plays as before: the chance that links and servers have is
drawn from the seed by each of them apart, and not from what a script says.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

MINUTE, HOUR = 60.0, 3600.0
CALM_SECONDS = 300.0
"""How long after the last fault, and the last thing that users did, all must be as booked."""
USERS = ("ada", "bob", "cyd")


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done at an instant, in seconds after the beginning.

    Attributes:
        does: name of a method of `world.World`.
        lasts: for how many seconds; 0 where it is done at once.
    """

    at: float
    does: str
    with_: Mapping[str, Any]
    lasts: float = 0.0

    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.with_.items())
        return f"{self.at:9.3f} {self.does} {facts}" + (f" for {self.lasts:.3f} s" if self.lasts else "")


@dataclass(frozen=True, slots=True)
class Script:
    """One run, from its beginning to its end.

    Attributes:
        replicas: how many processes of the operator there are; more than one elect a leader.
        lease_seconds: LeaseDuration; 0 where there is no election.
        ends_at: when the last act is over.
    """

    seed: int
    replicas: int
    lease_seconds: float
    acts: tuple[Act, ...]
    ends_at: float

    def with_acts(self, acts: tuple[Act, ...]) -> "Script":
        """The same with other acts; it ends when they do."""
        ends_at = max((act.at + act.lasts for act in acts), default=0.0)
        return replace(self, acts=acts, ends_at=min(self.ends_at, ends_at + 1))


def script(seed: int) -> Script:
    """What `seed` stands for."""
    return _Writer(seed).script()


class _Writer:
    def __init__(self, seed: int) -> None:
        self.seed = seed
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

    def script(self) -> Script:
        first = list(self.world())
        # Mistakes are made where things happen at once: users, boundaries and failures have their hot spots.
        self.hot = [self.chance.choice(self.boundaries) for _ in range(self.chance.randint(1, 4))]
        acts = [*first, *self.users(), *self.faults()]
        acts.sort(key=lambda act: act.at)
        return Script(
            self.seed, self.replicas, self.lease, tuple(acts), max(act.at + act.lasts for act in acts)
        )

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

    # What fails.

    def faults(self) -> Iterator[Act]:
        kinds: list[Callable[[float], Iterator[Act]]] = [
            self.kube_weather,
            self.aws_weather,
            self.kube_answers,
            self.aws_answers,
            self.aws_answers,
            self.process,
            self.process,
            self.process,
            self.clock,
            self.server,
            self.server,
            self.gap,
            self.stale,
            self.torn,
            self.torn,
        ]
        if self.elected:
            kinds += [self.partition, self.partition]
        for _ in range(self.chance.choice((0, 2, 4, 8, 14))):
            yield from self.chance.choice(kinds)(self.some_time())

    def duration(self) -> float:
        return self.chance.choice((0.5, 5, 20, 60)) * self.chance.uniform(0.2, 1.5)

    def someone(self) -> int | str:
        """One of the replicas, the leader, or all."""
        return self.chance.choice((self.chance.randrange(self.replicas), "leader", "all"))

    def weather(self) -> dict[str, Any]:
        return self.chance.choice(
            (
                {"way": "cut"},
                {"way": "refused"},
                {"slow": self.chance.choice((0.5, 4.0, 15.0))},
                {"unsent": 0.3},
                {"unanswered": 0.3},
                {"unsent": 0.2, "unanswered": 0.2, "slow": 0.5},
            )
        )

    def kube_weather(self, at: float) -> Iterator[Act]:
        which = self.chance.choice(("kube", "lease", "both", "both"))
        yield Act(at, "weather", {"to": which, "replica": self.someone()} | self.weather(), self.duration())

    def aws_weather(self, at: float) -> Iterator[Act]:
        yield Act(at, "weather", {"to": "aws", "replica": self.someone()} | self.weather(), self.duration())

    def kube_answers(self, at: float) -> Iterator[Act]:
        status = self.chance.choice((429, 500, 503, 401, 403))
        share = self.chance.choice((0.2, 0.8, 1.0))
        yield Act(at, "kube_faults", {"status": status, "share": share}, self.duration())

    def aws_answers(self, at: float) -> Iterator[Act]:
        what: dict[str, Any] = self.chance.choice(
            (
                {"throttled": 0.5},
                {"broken": 0.5},
                {"lag": 5.0},
                {"no_capacity": self.pool()},
                {"cursed": self.chance.randrange(self.machines)},
            )
        )
        yield Act(at, "aws_faults", what, self.duration())

    def process(self, at: float) -> Iterator[Act]:
        does = self.chance.choice(("kill", "kill", "terminate", "pause", "pause", "slow"))
        facts: dict[str, Any] = {"replica": self.someone()}
        if does == "slow":
            facts["times"] = self.chance.choice((10, 100, 1000))
        yield Act(at, does, facts, self.duration())

    def clock(self, at: float) -> Iterator[Act]:
        by = self.chance.choice((-90, -10, -0.5, 0.5, 10, 90)) * self.chance.random()
        yield Act(at, "clock", {"replica": self.someone(), "by": round(by, 3)}, self.duration())

    def server(self, at: float) -> Iterator[Act]:
        match self.chance.choice(("compact", "hang_up", "restart", "restart", "crd", "crd", "lease")):
            case "compact":
                yield Act(at, "hang_up", {"share": 1.0})
                yield Act(at, "compact", {})
            case "hang_up":
                yield Act(at, "hang_up", {"share": self.chance.random()})
            case "restart":
                yield Act(at, "restart", {}, self.duration())
            case "crd":
                yield Act(at, "crd", {}, self.duration())
            case "lease" if self.elected:
                yield Act(at, "delete_lease", {})

    def gap(self, at: float) -> Iterator[Act]:
        """What users do while nobody watches, and what is forgotten before anybody watches again."""
        lasts = self.chance.uniform(1, 20)
        way = self.chance.choice(("cut", "refused"))
        yield Act(at, "weather", {"to": "kube", "replica": "all", "way": way}, lasts)
        for _ in range(self.chance.randint(1, 3)):
            yield from self.user(at + self.chance.uniform(0, lasts))
        if self.chance.random() < 0.6:
            yield Act(at + lasts * 0.99, "compact", {})

    def stale(self, at: float) -> Iterator[Act]:
        """What users do right before the operator begins anew."""
        for _ in range(self.chance.randint(1, 3)):
            yield from self.user(at)
        yield Act(
            at + self.chance.uniform(0, 5),
            self.chance.choice(("kill", "terminate")),
            {"replica": "all"},
            self.chance.uniform(0.1, 10),
        )

    def torn(self, at: float) -> Iterator[Act]:
        """What users do while what they wanted before waits for AWS."""
        lasts = self.chance.uniform(5, 30)
        at = max(1.0, self.chance.choice((self.chance.choice(self.hot) - self.chance.uniform(0, 3), at)))
        what = self.chance.choice(
            ({"throttled": 1.0}, {"broken": 1.0}, {"cursed": self.chance.randrange(self.machines)})
        )
        yield Act(at, "aws_faults", what, lasts)
        for _ in range(self.chance.randint(2, 6)):
            yield from self.user(at + self.chance.uniform(2, lasts))

    def partition(self, at: float) -> Iterator[Act]:
        """The leader is cut off, or stopped, for long enough to lose the Lease, and a boundary passes."""
        lasts = self.lease * self.chance.uniform(1, 3)
        at = max(1.0, self.chance.choice(self.hot) - self.chance.uniform(0, lasts))
        if self.chance.random() < 0.5:
            yield Act(at, "pause", {"replica": "leader"}, lasts)
        else:
            way = self.chance.choice(("cut", "refused"))
            yield Act(at, "weather", {"to": "both", "replica": "leader", "way": way}, lasts)
