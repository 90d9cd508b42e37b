"""The failures in a seed's script. Most of them occur near the hot spots of the workload."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.sim.script import Act
from tests.sim.workload import Workload


class Failures:
    """Generates the failures in the script of a seed."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._rng = workload.rng

    def generate(self) -> Iterator[Act]:
        """Yield the failures of the whole script."""
        kinds: list[Callable[[float], Iterator[Act]]] = [
            self.kube_link,
            self.aws_link,
            self.kube_errors,
            self.aws_errors,
            self.aws_errors,
            self.process,
            self.process,
            self.process,
            self.clock,
            self.server,
            self.server,
            self.edits_during_outage,
            self.edits_before_restart,
            self.edits_during_aws_faults,
            self.edits_during_aws_faults,
        ]
        if self._workload.elected:
            kinds += [self.leader_partition, self.leader_partition]
        for _ in range(self._rng.choice((0, 2, 4, 8, 14))):
            yield from self._rng.choice(kinds)(self._workload.random_instant())

    def duration(self) -> float:
        """Return a random duration in seconds."""
        return self._rng.choice((0.5, 5, 20, 60)) * self._rng.uniform(0.2, 1.5)

    def random_replica(self) -> int | str:
        """Return the number of a replica, `leader`, or `all`."""
        return self._rng.choice((self._rng.randrange(self._workload.replicas), "leader", "all"))

    def link_faults(self) -> dict[str, Any]:
        """Return random arguments of the act `link_faults`."""
        return self._rng.choice(
            (
                {"state": "cut"},
                {"state": "refused"},
                {"delay": self._rng.choice((0.5, 4.0, 15.0))},
                {"refused": 0.3},
                {"lost": 0.3},
                {"refused": 0.2, "lost": 0.2, "delay": 0.5},
            )
        )

    def kube_link(self, at: float) -> Iterator[Act]:
        which = self._rng.choice(("kube", "lease", "both", "both"))
        yield Act(
            at,
            "link_faults",
            {"to": which, "replica": self.random_replica()} | self.link_faults(),
            self.duration(),
        )

    def aws_link(self, at: float) -> Iterator[Act]:
        yield Act(
            at,
            "link_faults",
            {"to": "aws", "replica": self.random_replica()} | self.link_faults(),
            self.duration(),
        )

    def kube_errors(self, at: float) -> Iterator[Act]:
        status = self._rng.choice((429, 500, 503, 401, 403, 409))
        share = self._rng.choice((0.2, 0.8, 1.0))
        yield Act(at, "kube_faults", {"status": status, "share": share}, self.duration())

    def aws_errors(self, at: float) -> Iterator[Act]:
        faults: dict[str, Any] = self._rng.choice(
            (
                {"throttled": 0.5},
                {"broken": 0.5},
                {"lag": 5.0},
                # The capacity draws no random number, so that older seeds have the same script.
                {"no_capacity": self._workload.pool(), "capacity": (0, 1, 2, 4)[int(at * 1000) % 4]},
                {"failing_instance": self._rng.randrange(self._workload.machines)},
            )
        )
        yield Act(at, "aws_faults", faults, self.duration())

    def process(self, at: float) -> Iterator[Act]:
        does = self._rng.choice(("kill", "kill", "terminate", "pause", "pause", "slow"))
        arguments: dict[str, Any] = {"replica": self.random_replica()}
        if does == "slow":
            arguments["times"] = self._rng.choice((10, 100, 1000))
        yield Act(at, does, arguments, self.duration())

    def clock(self, at: float) -> Iterator[Act]:
        by = self._rng.choice((-90, -10, -0.5, 0.5, 10, 90)) * self._rng.random()
        yield Act(at, "clock", {"replica": self.random_replica(), "by": round(by, 3)}, self.duration())

    def server(self, at: float) -> Iterator[Act]:
        """Yield a failure of the API server: compaction, broken watches, restart, deleted CRD or Lease."""
        match self._rng.choice(("compact", "hang_up", "restart", "restart", "crd", "crd", "lease")):
            case "compact":
                yield Act(at, "hang_up", {"share": 1.0})
                yield Act(at, "compact", {})
            case "hang_up":
                yield Act(at, "hang_up", {"share": self._rng.random()})
            case "restart":
                yield Act(at, "restart", {}, self.duration())
            case "crd":
                yield Act(at, "crd", {}, self.duration())
            case "lease" if self._workload.elected:
                yield Act(at, "delete_lease", {})

    def edits_during_outage(self, at: float) -> Iterator[Act]:
        """Cut off the API server while users edit objects. Often compact etcd before its end."""
        lasts = self._rng.uniform(1, 20)
        state = self._rng.choice(("cut", "refused"))
        yield Act(at, "link_faults", {"to": "kube", "replica": "all", "state": state}, lasts)
        for _ in range(self._rng.randint(1, 3)):
            yield from self._workload.user_action(at + self._rng.uniform(0, lasts))
        if self._rng.random() < 0.6:
            yield Act(at + lasts * 0.99, "compact", {})

    def edits_before_restart(self, at: float) -> Iterator[Act]:
        """Let users edit objects right before all replicas restart."""
        for _ in range(self._rng.randint(1, 3)):
            yield from self._workload.user_action(at)
        yield Act(
            at + self._rng.uniform(0, 5),
            self._rng.choice(("kill", "terminate")),
            {"replica": "all"},
            self._rng.uniform(0.1, 10),
        )

    def edits_during_aws_faults(self, at: float) -> Iterator[Act]:
        """Let users edit objects while the orders of earlier edits wait for AWS."""
        lasts = self._rng.uniform(5, 30)
        at = max(
            1.0, self._rng.choice((self._rng.choice(self._workload.hot_spots) - self._rng.uniform(0, 3), at))
        )
        faults = self._rng.choice(
            (
                {"throttled": 1.0},
                {"broken": 1.0},
                {"failing_instance": self._rng.randrange(self._workload.machines)},
            )
        )
        yield Act(at, "aws_faults", faults, lasts)
        for _ in range(self._rng.randint(2, 6)):
            yield from self._workload.user_action(at + self._rng.uniform(2, lasts))

    def leader_partition(self, at: float) -> Iterator[Act]:
        """Pause or cut off the leader until it loses the Lease. A boundary falls into this time."""
        lasts = self._workload.lease * self._rng.uniform(1, 3)
        at = max(1.0, self._rng.choice(self._workload.hot_spots) - self._rng.uniform(0, lasts))
        if self._rng.random() < 0.5:
            yield Act(at, "pause", {"replica": "leader"}, lasts)
        else:
            state = self._rng.choice(("cut", "refused"))
            yield Act(at, "link_faults", {"to": "both", "replica": "leader", "state": state}, lasts)
