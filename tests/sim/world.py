"""The world that a script is played in: servers, replicas, users, and what fails.

An act of a script is a method here, or of `users.Users`. What keeps a replica from learning what happens is
noted, for the oracle.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from tests.sim.aws import CloudFaults, SimAws
from tests.sim.build import Build
from tests.sim.kernel import Kernel
from tests.sim.kube import Faults, SimKube
from tests.sim.network import Link, Way, Weather
from tests.sim.replica import LEASE, LEASE_NAMESPACE, Observer, Replica
from tests.sim.script import Act, Script
from tests.sim.users import Users

SOON, LATER, SILENT = 15.0, 40.0, 125.0
"""Seconds within which a watch has caught up: after it was broken; after back-offs as well; after a silence
that was to be noticed first, by 80 s without a bookmark, and a back-off."""
_ORDER = {Way.OPEN: 0, Way.REFUSED: 1, Way.CUT: 2}


@dataclass
class Slot:
    """The place of one replica, which is started again when it has ended.

    Attributes:
        replica: the process that runs now, or has run last.
        blind: spans in which it may learn late what happened, each with the time until it has caught up.
        skews: what its clock was ahead of true time, each from an instant on.
    """

    replica: Replica | None = None
    blind: list[tuple[float, float]] = field(default_factory=list)
    skews: list[tuple[float, float]] = field(default_factory=lambda: [(-1e9, 0.0)])
    weathers: defaultdict[str, list[Weather]] = field(default_factory=lambda: defaultdict(list))
    starts: int = 0


class World:
    """All there is, for one run.

    Attributes:
        slots: the places of the replicas.
        everyone: all processes of the operator that there ever were.
        born: called with each process of the operator.
    """

    def __init__(self, script: Script, build: Build, observer: Observer, told: Callable[[str], None]) -> None:
        seed = str(script.seed)
        self.kernel = kernel = Kernel(seed)
        self.kube = SimKube(kernel, seed)
        self.aws = SimAws(kernel, seed)
        self.slots = [Slot() for _ in range(script.replicas)]
        self.everyone: list[Replica] = []
        self.born: Callable[[Replica, Slot], None] = lambda _replica, _slot: None
        self._seed = seed
        self._script = script
        self._build = build
        self._observer = observer
        self._told = told
        self._kube_faults: list[Faults] = []
        self._aws_faults: list[CloudFaults] = []
        self._users = Users(kernel, self.kube, self.aws)

    def begin(self) -> None:
        """Have all acts done at their time."""
        for act in self._script.acts:
            self.kernel.at(act.at, self._doing(act))
        for number in range(len(self.slots)):
            self.kernel.at(0.001 * number, lambda number=number: self._start(number))  # type: ignore[misc]

    def _doing(self, act: Act) -> Callable[[], None]:
        def do() -> None:
            self._told(str(act))
            facts = dict(act.with_)
            if act.lasts:
                facts["lasts"] = act.lasts
            does = getattr(self._users, act.does, None) or getattr(self, act.does)
            does(**facts)

        return do

    def replicas(self) -> Iterator[tuple[Slot, Replica]]:
        """Those that run."""
        for slot in self.slots:
            if slot.replica is not None and slot.replica.process.alive:
                yield slot, slot.replica

    def _start(self, number: int) -> None:
        slot = self.slots[number]
        slot.starts += 1
        lease = self._script.lease_seconds
        timing = self._build.timing(timedelta(seconds=lease)) if lease else None
        name = f"{'abc'[number]}{slot.starts}"
        self._told(f"{self.kernel.now:9.3f} {name} starts")
        slot.replica = made = Replica(
            self.kernel, self._seed, name, self.kube, self.aws, timing, self._build, self._observer
        )
        self.everyone.append(made)
        made.process.skew = timedelta(seconds=slot.skews[-1][1])
        for link in ("kube", "lease", "aws"):
            self._forecast(slot, link)
        self.born(made, slot)

    def _chosen(self, replica: int | str) -> list[int]:
        """Places of a replica, of the leader, or of all."""
        if isinstance(replica, int):
            return [replica]
        leads = [n for n, slot in enumerate(self.slots) if slot.replica is not None and slot.replica.leads]
        return leads[:1] if replica == "leader" else list(range(len(self.slots)))

    def _blind(self, slot: Slot, lasts: float, recovery: float) -> None:
        now = self.kernel.now
        slot.blind.append((now, now + lasts + recovery))

    def _all_blind(self, lasts: float, recovery: float) -> None:
        for slot in self.slots:
            self._blind(slot, lasts, recovery)

    # What fails.

    def weather(self, to: str, replica: int | str, lasts: float, way: str = "open", **shares: float) -> None:
        """Have bad weather on the ways of a replica."""
        bad = Weather(Way(way), **shares)
        links = ("kube", "lease") if to == "both" else (to,)
        for slot in (self.slots[number] for number in self._chosen(replica)):
            if "kube" in links:
                self._blind(slot, lasts, SILENT if bad.way is Way.CUT or bad.unanswered else LATER)
            for link in links:
                slot.weathers[link].append(bad)
                self._forecast(slot, link)
                self.kernel.after(lasts, lambda slot=slot, link=link: self._clears(slot, link, bad))  # type: ignore[misc]

    def _clears(self, slot: Slot, link: str, bad: Weather) -> None:
        slot.weathers[link].remove(bad)
        self._forecast(slot, link)

    def _forecast(self, slot: Slot, name: str) -> None:
        if slot.replica is None:
            return
        link: Link = getattr(slot.replica, name)
        every = slot.weathers[name]
        link.change(
            Weather(
                max((bad.way for bad in every), key=_ORDER.__getitem__, default=Way.OPEN),
                max((bad.slow for bad in every), default=0.0),
                max((bad.unsent for bad in every), default=0.0),
                max((bad.unanswered for bad in every), default=0.0),
            )
        )

    def kube_faults(self, status: int, share: float, lasts: float) -> None:
        """Have the API server answer with errors."""
        self._all_blind(lasts, LATER)
        bad = Faults(status, share)
        self._kube_faults.append(bad)
        self.kube.faults = bad

        def end() -> None:
            self._kube_faults.remove(bad)
            self.kube.faults = self._kube_faults[-1] if self._kube_faults else Faults()

        self.kernel.after(lasts, end)

    def aws_faults(self, lasts: float, no_capacity: str = "", cursed: int = -1, **shares: Any) -> None:
        """Have AWS refuse, break or lag."""
        bad = CloudFaults(no_capacity=no_capacity, **shares)
        if 0 <= cursed < len(self._users.machines):
            bad.cursed = self._users.machines[cursed]
        self._aws_faults.append(bad)
        self.aws.faults = bad

        def end() -> None:
            self._aws_faults.remove(bad)
            self.aws.faults = self._aws_faults[-1] if self._aws_faults else CloudFaults()

        self.kernel.after(lasts, end)

    def kill(self, replica: int | str, lasts: float) -> None:
        """kill -9; another process takes the place after a while."""
        for number in self._chosen(replica):
            made = self.slots[number].replica
            if made is not None and made.process.alive:
                made.process.kill()
                for link in made.links:
                    for stream in list(link.streams):
                        stream.close()
                self._again(number, lasts)

    def terminate(self, replica: int | str, lasts: float) -> None:
        """SIGTERM, and SIGKILL after the grace period of 30 s."""
        for number in self._chosen(replica):
            made = self.slots[number].replica
            if made is not None and made.process.alive:
                made.process.terminate()
                self.kernel.after(30, lambda made=made: None if made.process.ended else made.process.kill())  # type: ignore[misc]
                self._again(number, lasts + 30.1)

    def _again(self, number: int, lasts: float) -> None:
        before = self.slots[number].starts

        def start() -> None:
            if self.slots[number].starts == before:
                self._start(number)

        self.kernel.after(lasts, start)

    def pause(self, replica: int | str, lasts: float) -> None:
        """SIGSTOP, and SIGCONT."""
        for number in self._chosen(replica):
            slot = self.slots[number]
            made = slot.replica
            if made is not None and made.process.alive:
                self._blind(slot, lasts, SILENT)
                made.process.pause()
                self.kernel.after(lasts, made.process.resume)

    def slow(self, replica: int | str, times: float, lasts: float) -> None:
        """Have every step of a replica take longer."""
        for number in self._chosen(replica):
            slot = self.slots[number]
            made = slot.replica
            if made is not None and made.process.alive:
                self._blind(slot, lasts, LATER)
                made.process.slow(times)
                self.kernel.after(lasts, partial(made.process.slow, 1.0))

    def clock(self, replica: int | str, by: float, lasts: float) -> None:
        """Set a replica's clock wrong, and right again."""
        for number in self._chosen(replica):
            slot = self.slots[number]
            self._blind(slot, lasts, SOON)
            self._step(slot, by)
            self.kernel.after(lasts, lambda slot=slot: self._step(slot, -by))  # type: ignore[misc]

    def _step(self, slot: Slot, by: float) -> None:
        ahead = round(slot.skews[-1][1] + by, 6)
        slot.skews.append((self.kernel.now, ahead))
        if slot.replica is not None:
            slot.replica.process.skew = timedelta(seconds=ahead)

    def hang_up(self, share: float) -> None:
        """Break a share of the watches."""
        self._all_blind(0, SOON)
        for _, made in self.replicas():
            made.kube.hang_up(share)
            made.lease.hang_up(share)

    def compact(self) -> None:
        """Have old versions forgotten."""
        self._all_blind(0, SOON)
        self.kube.storage.compact()

    def restart(self, lasts: float) -> None:
        """Kill the API server, and start it again."""
        self.kube.restart()
        self.weather("both", -1, lasts, "refused")

    def crd(self, lasts: float) -> None:
        """Delete the bookings' CRD, and with it all bookings; then apply it, and them, once more."""
        self._all_blind(lasts, LATER)
        kept = [item for item in self.kube.all("bookings") if not item["metadata"].get("ownerReferences")]
        self.kube.crds.delete("bookings")

        def again() -> None:
            for item in kept:
                self._users.create("bookings", item["metadata"]["name"], item["spec"])

        self.kernel.after(lasts + 1, lambda: self.kube.crds.restore("bookings", again))

    def delete_lease(self) -> None:
        """Delete the Lease, as somebody may by hand."""
        self.kube.remove("leases", LEASE, LEASE_NAMESPACE)
