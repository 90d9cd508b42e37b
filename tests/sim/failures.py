"""What fails in a seed's world, and when: most of it where it hurts."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.sim.script import Act
from tests.sim.story import Story


class Failures:
    """Writes what fails into the script of a seed."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._chance = story.chance

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
        if self._story.elected:
            kinds += [self.partition, self.partition]
        for _ in range(self._chance.choice((0, 2, 4, 8, 14))):
            yield from self._chance.choice(kinds)(self._story.some_time())

    def duration(self) -> float:
        return self._chance.choice((0.5, 5, 20, 60)) * self._chance.uniform(0.2, 1.5)

    def someone(self) -> int | str:
        """One of the replicas, the leader, or all."""
        return self._chance.choice((self._chance.randrange(self._story.replicas), "leader", "all"))

    def weather(self) -> dict[str, Any]:
        return self._chance.choice(
            (
                {"way": "cut"},
                {"way": "refused"},
                {"slow": self._chance.choice((0.5, 4.0, 15.0))},
                {"unsent": 0.3},
                {"unanswered": 0.3},
                {"unsent": 0.2, "unanswered": 0.2, "slow": 0.5},
            )
        )

    def kube_weather(self, at: float) -> Iterator[Act]:
        which = self._chance.choice(("kube", "lease", "both", "both"))
        yield Act(at, "weather", {"to": which, "replica": self.someone()} | self.weather(), self.duration())

    def aws_weather(self, at: float) -> Iterator[Act]:
        yield Act(at, "weather", {"to": "aws", "replica": self.someone()} | self.weather(), self.duration())

    def kube_answers(self, at: float) -> Iterator[Act]:
        status = self._chance.choice((429, 500, 503, 401, 403, 409))
        share = self._chance.choice((0.2, 0.8, 1.0))
        yield Act(at, "kube_faults", {"status": status, "share": share}, self.duration())

    def aws_answers(self, at: float) -> Iterator[Act]:
        what: dict[str, Any] = self._chance.choice(
            (
                {"throttled": 0.5},
                {"broken": 0.5},
                {"lag": 5.0},
                {"no_capacity": self._story.pool()},
                {"cursed": self._chance.randrange(self._story.machines)},
            )
        )
        yield Act(at, "aws_faults", what, self.duration())

    def process(self, at: float) -> Iterator[Act]:
        does = self._chance.choice(("kill", "kill", "terminate", "pause", "pause", "slow"))
        facts: dict[str, Any] = {"replica": self.someone()}
        if does == "slow":
            facts["times"] = self._chance.choice((10, 100, 1000))
        yield Act(at, does, facts, self.duration())

    def clock(self, at: float) -> Iterator[Act]:
        by = self._chance.choice((-90, -10, -0.5, 0.5, 10, 90)) * self._chance.random()
        yield Act(at, "clock", {"replica": self.someone(), "by": round(by, 3)}, self.duration())

    def server(self, at: float) -> Iterator[Act]:
        match self._chance.choice(("compact", "hang_up", "restart", "restart", "crd", "crd", "lease")):
            case "compact":
                yield Act(at, "hang_up", {"share": 1.0})
                yield Act(at, "compact", {})
            case "hang_up":
                yield Act(at, "hang_up", {"share": self._chance.random()})
            case "restart":
                yield Act(at, "restart", {}, self.duration())
            case "crd":
                yield Act(at, "crd", {}, self.duration())
            case "lease" if self._story.elected:
                yield Act(at, "delete_lease", {})

    def gap(self, at: float) -> Iterator[Act]:
        """What users do while nobody watches, and what is forgotten before anybody watches again."""
        lasts = self._chance.uniform(1, 20)
        way = self._chance.choice(("cut", "refused"))
        yield Act(at, "weather", {"to": "kube", "replica": "all", "way": way}, lasts)
        for _ in range(self._chance.randint(1, 3)):
            yield from self._story.user(at + self._chance.uniform(0, lasts))
        if self._chance.random() < 0.6:
            yield Act(at + lasts * 0.99, "compact", {})

    def stale(self, at: float) -> Iterator[Act]:
        """What users do right before the operator starts again."""
        for _ in range(self._chance.randint(1, 3)):
            yield from self._story.user(at)
        yield Act(
            at + self._chance.uniform(0, 5),
            self._chance.choice(("kill", "terminate")),
            {"replica": "all"},
            self._chance.uniform(0.1, 10),
        )

    def torn(self, at: float) -> Iterator[Act]:
        """What users do while what they wanted before waits for AWS."""
        lasts = self._chance.uniform(5, 30)
        at = max(
            1.0, self._chance.choice((self._chance.choice(self._story.hot) - self._chance.uniform(0, 3), at))
        )
        what = self._chance.choice(
            ({"throttled": 1.0}, {"broken": 1.0}, {"cursed": self._chance.randrange(self._story.machines)})
        )
        yield Act(at, "aws_faults", what, lasts)
        for _ in range(self._chance.randint(2, 6)):
            yield from self._story.user(at + self._chance.uniform(2, lasts))

    def partition(self, at: float) -> Iterator[Act]:
        """The leader is cut off, or stopped, for long enough to lose the Lease, and a boundary passes."""
        lasts = self._story.lease * self._chance.uniform(1, 3)
        at = max(1.0, self._chance.choice(self._story.hot) - self._chance.uniform(0, lasts))
        if self._chance.random() < 0.5:
            yield Act(at, "pause", {"replica": "leader"}, lasts)
        else:
            way = self._chance.choice(("cut", "refused"))
            yield Act(at, "weather", {"to": "both", "replica": "leader", "way": way}, lasts)
