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
from tests.sim.kernel import Kernel, Process
from tests.sim.kube import Faults, SimKube
from tests.sim.network import Link, Way, Weather
from tests.sim.replica import LEASE, LEASE_NAMESPACE, Observer, Replica
from tests.sim.script import Act, Script
from tests.sim.users import Users

RECONNECT_SECONDS, BACKOFF_SECONDS, SILENCE_SECONDS = 15.0, 40.0, 125.0
"""Seconds within which a watch has caught up: after it was broken; after back-offs as well; after a silence
that was to be noticed first, by 80 s without a bookmark, and a back-off."""
_ORDER = {Way.OPEN: 0, Way.REFUSED: 1, Way.CUT: 2}


@dataclass
class Slot:
    """The place of one replica, which is started again when it has ended.

    Attributes:
        replica: the process that runs now, or has run last.
        watch_outages: spans in which it may learn late what happened, each with the time until it has caught up.
        clock_offsets: what its clock was offset of true time, each from an instant on.
    """

    replica: Replica | None = None
    watch_outages: list[tuple[float, float]] = field(default_factory=list)
    clock_offsets: list[tuple[float, float]] = field(default_factory=lambda: [(-1e9, 0.0)])
    weathers: defaultdict[str, list[Weather]] = field(default_factory=lambda: defaultdict(list))
    starts: int = 0


class World:
    """All there is, for one run.

    Attributes:
        slots: the places of the replicas.
        all_replicas: all processes of the operator that there ever were.
        born: called with each process of the operator.
    """

    def __init__(
        self, script: Script, build: Build, observer: Observer, record: Callable[[str], None]
    ) -> None:
        seed = str(script.seed)
        self.kernel = kernel = Kernel(seed)
        self.kube = SimKube(kernel, seed)
        self.aws = SimAws(kernel, seed)
        self.slots = [Slot() for _ in range(script.replicas)]
        self.all_replicas: list[Replica] = []
        self.on_replica_start: Callable[[Replica, Slot], None] = lambda _replica, _slot: None
        self._seed = seed
        self._script = script
        self._build = build
        self._observer = observer
        self._record = record
        self._kube_faults: list[Faults] = []
        self._aws_faults: list[CloudFaults] = []
        self._users = Users(kernel, self.kube, self.aws)

    def begin(self) -> None:
        """Have all acts done at their time."""
        for act in self._script.acts:
            self.kernel.call_at(act.at, self._callback(act))
        for number in range(len(self.slots)):
            self.kernel.call_at(0.001 * number, lambda number=number: self._start(number))  # type: ignore[misc]

    def _callback(self, act: Act) -> Callable[[], None]:
        def do() -> None:
            self._record(str(act))
            arguments = dict(act.with_)
            if act.lasts:
                arguments["lasts"] = act.lasts
            method = getattr(self._users, act.does, None) or getattr(self, act.does)
            method(**arguments)

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
        self._record(f"{self.kernel.now:9.3f} {name} starts")
        slot.replica = target = Replica(
            self.kernel, self._seed, name, self.kube, self.aws, timing, self._build, self._observer
        )
        self.all_replicas.append(target)
        target.process.skew = timedelta(seconds=slot.clock_offsets[-1][1])
        for link in ("kube", "lease", "aws"):
            self._forecast(slot, link)
        self.on_replica_start(target, slot)

    def _select(self, replica: int | str) -> list[int]:
        """Places of a replica, of the leader, or of all."""
        if isinstance(replica, int):
            return [replica]
        leads = [
            n for n, slot in enumerate(self.slots) if slot.replica is not None and slot.replica.is_leader
        ]
        return leads[:1] if replica == "leader" else list(range(len(self.slots)))

    def _disturb_watches(self, slot: Slot, lasts: float, recovery: float) -> None:
        now = self.kernel.now
        slot.watch_outages.append((now, now + lasts + recovery))

    def _disturb_all_watches(self, lasts: float, recovery: float) -> None:
        for slot in self.slots:
            self._disturb_watches(slot, lasts, recovery)

    # What fails.

    def weather(self, to: str, replica: int | str, lasts: float, way: str = "open", **shares: float) -> None:
        """Have bad weather on the ways of a replica."""
        bad = Weather(Way(way), **shares)
        links = ("kube", "lease") if to == "both" else (to,)
        for slot in (self.slots[number] for number in self._select(replica)):
            if "kube" in links:
                self._disturb_watches(
                    slot, lasts, SILENCE_SECONDS if bad.way is Way.CUT or bad.unanswered else BACKOFF_SECONDS
                )
            for link in links:
                slot.weathers[link].append(bad)
                self._forecast(slot, link)
                self.kernel.call_later(lasts, lambda slot=slot, link=link: self._clears(slot, link, bad))  # type: ignore[misc]

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
        self._disturb_all_watches(lasts, BACKOFF_SECONDS)
        bad = Faults(status, share)
        self._kube_faults.append(bad)
        self.kube.faults = bad

        def end() -> None:
            self._kube_faults.remove(bad)
            self.kube.faults = self._kube_faults[-1] if self._kube_faults else Faults()

        self.kernel.call_later(lasts, end)

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

        self.kernel.call_later(lasts, end)

    def kill(self, replica: int | str, lasts: float) -> None:
        """kill -9; another process takes the place after a while."""
        for number in self._select(replica):
            target = self.slots[number].replica
            if target is not None and target.process.alive:
                target.process.kill()
                for link in target.links:
                    for stream in list(link.streams):
                        stream.close()
                self._restart_later(number, lasts)

    def terminate(self, replica: int | str, lasts: float) -> None:
        """SIGTERM, and SIGKILL after the grace period of 30 s."""
        for number in self._select(replica):
            target = self.slots[number].replica
            if target is not None and target.process.alive:
                target.process.terminate()
                self.kernel.call_later(30, partial(_kill_unless_ended, target.process))
                self._restart_later(number, lasts + 30.1)

    def _restart_later(self, number: int, lasts: float) -> None:
        before = self.slots[number].starts

        def start() -> None:
            if self.slots[number].starts == before:
                self._start(number)

        self.kernel.call_later(lasts, start)

    def pause(self, replica: int | str, lasts: float) -> None:
        """SIGSTOP, and SIGCONT."""
        for number in self._select(replica):
            slot = self.slots[number]
            target = slot.replica
            if target is not None and target.process.alive:
                self._disturb_watches(slot, lasts, SILENCE_SECONDS)
                target.process.pause()
                self.kernel.call_later(lasts, target.process.resume)

    def slow(self, replica: int | str, times: float, lasts: float) -> None:
        """Have every step of a replica take longer."""
        for number in self._select(replica):
            slot = self.slots[number]
            target = slot.replica
            if target is not None and target.process.alive:
                self._disturb_watches(slot, lasts, BACKOFF_SECONDS)
                target.process.set_slowness(times)
                self.kernel.call_later(lasts, partial(target.process.set_slowness, 1.0))

    def clock(self, replica: int | str, by: float, lasts: float) -> None:
        """Set a replica's clock wrong, and right again."""
        for number in self._select(replica):
            slot = self.slots[number]
            self._disturb_watches(slot, lasts, RECONNECT_SECONDS)
            self._set_clock(slot, by)
            self.kernel.call_later(lasts, lambda slot=slot: self._set_clock(slot, -by))  # type: ignore[misc]

    def _set_clock(self, slot: Slot, by: float) -> None:
        offset = round(slot.clock_offsets[-1][1] + by, 6)
        slot.clock_offsets.append((self.kernel.now, offset))
        if slot.replica is not None:
            slot.replica.process.skew = timedelta(seconds=offset)

    def hang_up(self, share: float) -> None:
        """Break a share of the watches."""
        self._disturb_all_watches(0, RECONNECT_SECONDS)
        for _, each in self.replicas():
            each.kube.reset_streams(share)
            each.lease.reset_streams(share)

    def compact(self) -> None:
        """Have old versions forgotten."""
        self._disturb_all_watches(0, RECONNECT_SECONDS)
        self.kube.storage.compact()

    def restart(self, lasts: float) -> None:
        """Kill the API server, and start it again."""
        self.kube.restart()
        self.weather("both", -1, lasts, "refused")

    def crd(self, lasts: float) -> None:
        """Delete the bookings' CRD, and with it all bookings; then apply it, and them, once more."""
        self._disturb_all_watches(lasts, BACKOFF_SECONDS)
        bookings = [item for item in self.kube.all("bookings") if not item["metadata"].get("ownerReferences")]
        self.kube.crds.delete("bookings")

        def create_bookings() -> None:
            for item in bookings:
                self._users.create("bookings", item["metadata"]["name"], item["spec"])

        self.kernel.call_later(lasts + 1, lambda: self.kube.crds.restore("bookings", create_bookings))

    def delete_lease(self) -> None:
        """Delete the Lease, as somebody may by hand."""
        self.kube.remove("leases", LEASE, LEASE_NAMESPACE)


def _kill_unless_ended(process: Process) -> None:
    if not process.ended:
        process.kill()
