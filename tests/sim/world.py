"""The world in which a script is played: servers, replicas, users and failures.

The acts of a script are methods of `World` or of `users.Users`. `Slot.watch_outages` records for the oracle
when a replica may learn of writes late.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from tests.sim.aws import CloudFaults, SimAws
from tests.sim.build import Build
from tests.sim.kernel import Kernel, Process
from tests.sim.kube import Faults, SimKube
from tests.sim.mailbox import Mailbox
from tests.sim.network import Link, LinkFaults, LinkState
from tests.sim.replica import LEASE, LEASE_NAMESPACE, Observer, Replica
from tests.sim.script import Act, Script
from tests.sim.users import Users

RECONNECT_SECONDS, BACKOFF_SECONDS, SILENCE_SECONDS = 15.0, 40.0, 125.0
"""Seconds until a watch has caught up: after a broken connection; after errors that cause back-off; after
silence, which a client detects after 80 s without an event or a bookmark."""
_SEVERITY = {LinkState.OPEN: 0, LinkState.REFUSED: 1, LinkState.CUT: 2}


@dataclass
class Slot:
    """One replica of the Deployment. After its process ends, a new process takes its place.

    Attributes:
        replica: the current or last process; None before the first.
        watch_outages: (start, end) of the times in which the replica may learn of writes late, recovery
            included.
        clock_offsets: (instant, seconds): how far the clock is ahead of the true time from an instant on.
        link_faults: the current faults of each link, by its name.
        starts: how many processes were started.
    """

    replica: Replica | None = None
    watch_outages: list[tuple[float, float]] = field(default_factory=list)
    clock_offsets: list[tuple[float, float]] = field(default_factory=lambda: [(-1e9, 0.0)])
    link_faults: defaultdict[str, list[LinkFaults]] = field(default_factory=lambda: defaultdict(list))
    starts: int = 0


class World:
    """The servers, replicas and users of one run.

    Attributes:
        slots: the replicas.
        all_replicas: all processes of the operator that were ever started.
        on_replica_start: called with each new process.
    """

    def __init__(
        self, script: Script, build: Build, observer: Observer, record: Callable[[str], None]
    ) -> None:
        seed = str(script.seed)
        self.kernel = kernel = Kernel(seed)
        self.kube = SimKube(kernel, seed)
        self.aws = SimAws(kernel, seed)
        self.mailbox = Mailbox(kernel, seed)
        self.slots = [Slot() for _ in range(script.replicas)]
        self.all_replicas: list[Replica] = []
        self.on_replica_start: Callable[[Replica, Slot], None] = lambda _replica, _slot: None
        self._seed = seed
        self._script = script
        self._build = replace(build, deletion_grace=timedelta(seconds=script.deletion_grace))
        self._observer = observer
        self._record = record
        self._kube_faults: list[Faults] = []
        self._aws_faults: list[CloudFaults] = []
        self._users = Users(kernel, self.kube, self.aws)

    def begin(self) -> None:
        """Schedule all acts, and start the replicas."""
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
        """Yield the processes that run, with their slots."""
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
        slot.replica = replica = Replica(
            self.kernel,
            self._seed,
            name,
            self.kube,
            self.aws,
            timing,
            self._build,
            self._observer,
            self.mailbox,
        )
        self.all_replicas.append(replica)
        replica.process.skew = timedelta(seconds=slot.clock_offsets[-1][1])
        for link in ("kube", "lease", "aws"):
            self._apply_link_faults(slot, link)
        self.on_replica_start(replica, slot)

    def _select(self, replica: int | str) -> list[int]:
        """Return the numbers of the slots: one, that of the leader (none without a leader), or all."""
        if isinstance(replica, int):
            return [replica]
        leaders = [
            n for n, slot in enumerate(self.slots) if slot.replica is not None and slot.replica.is_leader
        ]
        return leaders[:1] if replica == "leader" else list(range(len(self.slots)))

    def _disturb_watches(self, slot: Slot, lasts: float, recovery: float) -> None:
        now = self.kernel.now
        slot.watch_outages.append((now, now + lasts + recovery))

    def _disturb_all_watches(self, lasts: float, recovery: float) -> None:
        for slot in self.slots:
            self._disturb_watches(slot, lasts, recovery)

    # Failures.

    def link_faults(
        self, to: str, replica: int | str, lasts: float, state: str = "open", **shares: float
    ) -> None:
        """Add faults to links of a replica."""
        faults = LinkFaults(LinkState(state), **shares)
        links = ("kube", "lease") if to == "both" else (to,)
        for slot in (self.slots[number] for number in self._select(replica)):
            if "kube" in links:
                self._disturb_watches(
                    slot,
                    lasts,
                    SILENCE_SECONDS if faults.state is LinkState.CUT or faults.lost else BACKOFF_SECONDS,
                )
            for link in links:
                slot.link_faults[link].append(faults)
                self._apply_link_faults(slot, link)
                self.kernel.call_later(lasts, partial(self._end_link_faults, slot, link, faults))

    def _end_link_faults(self, slot: Slot, link: str, faults: LinkFaults) -> None:
        slot.link_faults[link].remove(faults)
        self._apply_link_faults(slot, link)

    def _apply_link_faults(self, slot: Slot, name: str) -> None:
        """Set the worst of the current faults on a link."""
        if slot.replica is None:
            return
        link: Link = getattr(slot.replica, name)
        every = slot.link_faults[name]
        link.change(
            LinkFaults(
                max((faults.state for faults in every), key=_SEVERITY.__getitem__, default=LinkState.OPEN),
                max((faults.delay for faults in every), default=0.0),
                max((faults.refused for faults in every), default=0.0),
                max((faults.lost for faults in every), default=0.0),
            )
        )

    def kube_faults(self, status: int, share: float, lasts: float) -> None:
        """Let the API server respond with errors."""
        self._disturb_all_watches(lasts, BACKOFF_SECONDS)
        faults = Faults(status, share)
        self._kube_faults.append(faults)
        self.kube.faults = faults

        def end() -> None:
            self._kube_faults.remove(faults)
            self.kube.faults = self._kube_faults[-1] if self._kube_faults else Faults()

        self.kernel.call_later(lasts, end)

    def aws_faults(
        self,
        lasts: float,
        no_capacity: str = "",
        capacity: int = 0,
        failing_instance: int = -1,
        **shares: Any,
    ) -> None:
        """Let AWS refuse calls, fail, or show stale states."""
        faults = CloudFaults(no_capacity=no_capacity, capacity=capacity, **shares)
        if 0 <= failing_instance < len(self._users.machines):
            faults.failing_instance = self._users.machines[failing_instance]
        self._aws_faults.append(faults)
        self.aws.faults = faults

        def end() -> None:
            self._aws_faults.remove(faults)
            self.aws.faults = self._aws_faults[-1] if self._aws_faults else CloudFaults()

        self.kernel.call_later(lasts, end)

    def kill(self, replica: int | str, lasts: float) -> None:
        """Kill replicas with SIGKILL. New processes start after `lasts` seconds."""
        for number in self._select(replica):
            target = self.slots[number].replica
            if target is not None and target.process.alive:
                target.process.kill()
                for link in target.links:
                    for stream in list(link.streams):
                        stream.close()
                self._restart_later(number, lasts)

    def terminate(self, replica: int | str, lasts: float) -> None:
        """Send SIGTERM, and SIGKILL after the grace period of 30 s. New processes start after that."""
        for number in self._select(replica):
            target = self.slots[number].replica
            if target is not None and target.process.alive:
                target.terminate()
                self.kernel.call_later(30, partial(_kill_unless_ended, target.process))
                self._restart_later(number, lasts + 30.1)

    def _restart_later(self, number: int, lasts: float) -> None:
        before = self.slots[number].starts

        def start() -> None:
            if self.slots[number].starts == before:
                self._start(number)

        self.kernel.call_later(lasts, start)

    def pause(self, replica: int | str, lasts: float) -> None:
        """Send SIGSTOP, and SIGCONT after `lasts` seconds."""
        for number in self._select(replica):
            slot = self.slots[number]
            target = slot.replica
            if target is not None and target.process.alive:
                self._disturb_watches(slot, lasts, SILENCE_SECONDS)
                target.process.pause()
                self.kernel.call_later(lasts, target.process.resume)

    def slow(self, replica: int | str, times: float, lasts: float) -> None:
        """Make each callback of a replica take `times` as long."""
        for number in self._select(replica):
            slot = self.slots[number]
            target = slot.replica
            if target is not None and target.process.alive:
                self._disturb_watches(slot, lasts, BACKOFF_SECONDS)
                target.process.set_slowness(times)
                self.kernel.call_later(lasts, partial(target.process.set_slowness, 1.0))

    def clock(self, replica: int | str, by: float, lasts: float) -> None:
        """Step the clock of a replica, and step it back after `lasts` seconds."""
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
        """Reset a share of the watches."""
        self._disturb_all_watches(0, RECONNECT_SECONDS)
        for _, each in self.replicas():
            each.kube.reset_streams(share)
            each.lease.reset_streams(share)

    def compact(self) -> None:
        """Compact etcd: all watch events expire."""
        self._disturb_all_watches(0, RECONNECT_SECONDS)
        self.kube.storage.compact()

    def restart(self, lasts: float) -> None:
        """Kill the API server. All watches break, and no replica can connect for `lasts` seconds."""
        self.kube.restart()
        self.link_faults("both", "all", lasts, "refused")

    def crd(self, lasts: float) -> None:
        """Delete the CRD of bookings, and with it all bookings. Later, apply both again.

        Bookings with an owner are not applied again: their scheduler creates them.
        """
        self._disturb_all_watches(lasts, BACKOFF_SECONDS)
        bookings = [item for item in self.kube.all("bookings") if not item["metadata"].get("ownerReferences")]
        self.kube.crds.delete("bookings")

        def create_bookings() -> None:
            for item in bookings:
                self._users.create("bookings", item["metadata"]["name"], item["spec"])

        self.kernel.call_later(lasts + 1, lambda: self.kube.crds.restore("bookings", create_bookings))

    def delete_lease(self) -> None:
        """Delete the Lease, as an administrator may do."""
        self.kube.remove("leases", LEASE, LEASE_NAMESPACE)


def _kill_unless_ended(process: Process) -> None:
    if not process.ended:
        process.kill()
