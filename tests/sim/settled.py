"""What must hold once the last fault is over for a while."""

from collections import Counter
from datetime import timedelta
from traceback import format_exception

from booking_operator.api.kinds import KINDS
from booking_operator.engine.introspection import BOUNDED
from booking_operator.engine.store import Key
from tests.sim.aws import Machine
from tests.sim.kernel import EPOCH
from tests.sim.oracle import TOLD_SECONDS, Oracle, occurrences, stands_for
from tests.sim.replica import Replica
from tests.sim.storage import Object
from tests.sim.violation import Invariant, ViolationError
from tests.sim.world import World

ON_THEIR_WAY = 180.0
"""Instances may be on their way for so long after a boundary; databases take a while."""
MADE_SECONDS = 10.0
"""How long after an occurrence has begun the next must have its booking."""
FEW = 5
SCOPES, ACTIONS = 4, 5
"""EC2 and RDS in two accounts; five actions each."""
TASKS = {
    "event writer": 8,
    "inventory poll": 2,
    "request queue": SCOPES * ACTIONS,
    "call": SCOPES * ACTIONS,
    "describe": SCOPES,
    "reconcile": FEW,
}
"""How many tasks whose name begins so may be there at rest. Of every other name there may be one."""
BOUND = 100
"""How many entries of objects that are gone a collection may have that is bounded."""


class Settled:
    """Looks at a world in which nothing fails any more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._oracle = Oracle(world.kube)

    def check(self) -> None:
        """All is as booked, and the statuses say so; nothing more is kept than is needed."""
        for slot in self._world.slots:
            made = slot.replica
            if made is None or made.process.failure is not None or made.process.ended:
                why = format_exception(made.process.failure) if made and made.process.failure else []
                raise ViolationError(Invariant.NO_SURPRISE, f"a replica has ended: {''.join(why)}")
        for made in self._world.everyone:
            if made.process.ended and made.process.tasks:
                raise ViolationError(
                    Invariant.NO_LEAK, f"{made.name} has ended, and left {list(made.process.tasks)}"
                )
        self._led()
        for resource in self._oracle.elders():
            self._as_booked(resource)
        for scheduler in self._world.kube.all("bookingschedulers"):
            self._recurs(scheduler)
        for _, made in self._world.replicas():
            self._in_step(made)
            self._written(made)
            self._not_leaking(made)

    def _led(self) -> None:
        made = [made for _, made in self._world.replicas()]
        leaders = [one.name for one in made if one.elector is None or one.elector.is_leader]
        if len(leaders) != 1:
            raise ViolationError(Invariant.CONVERGENCE, f"leaders are {leaders}")

    def _as_booked(self, resource: Object) -> None:
        now, spec, name = self._world.kernel.now, resource["spec"], resource["metadata"]["name"]
        if spec.get("suspend") or self._oracle.changed_within(resource, now - ON_THEIR_WAY, now):
            return
        wanted, status = self._oracle.wanted(resource, now), resource.get("status", {})
        machines = [m for m in self._world.aws.machines.values() if stands_for(resource)(m)]
        there = [m for m in machines if m.at(now) != "terminated"]
        running = [m for m in there if m.at(now) == "running"]
        if wanted and len(running) != len(there):
            states = {m.id: m.at(now) for m in there}
            raise ViolationError(Invariant.CONVERGENCE, f"{name} is booked, and its instances are {states}")
        left = [m.id for m in running if spec.get("unbooked") != "Leave" or self._remembered(resource, m)]
        if not wanted and left:
            raise ViolationError(Invariant.CONVERGENCE, f"nobody has {name} booked, and {left} run")
        told = (status.get("instances"), status.get("running"), bool(status.get("locked_by")))
        if told != (len(there), len(running), wanted):
            truth = (len(there), len(running), wanted)
            raise ViolationError(
                Invariant.CONVERGENCE, f"the status of {name} says {told}, and it is {truth}"
            )

    def _recurs(self, scheduler: Object) -> None:
        """Each occurrence that is not over has had a booking, and each that is to come has one."""
        now = self._world.kernel.now - MADE_SECONDS
        meta, storage = scheduler["metadata"], self._world.kube.storage
        for at in occurrences(scheduler, now):
            name = f"{meta['name']}-{EPOCH + timedelta(seconds=at):%Y%m%d%H%M}"
            past = storage.past["bookings"][meta["namespace"], name]
            if not past or (at > now and past[-1].object is None):
                raise ViolationError(Invariant.CONVERGENCE, f"{name} was never made")

    def _remembered(self, resource: Object, machine: Machine) -> bool:
        """Whether an instance is one that a booking has started, as the status has said since.

        Not so where the spec was ever edited: it may have been another policy's. One that was created again
        knows nothing of what was started before.
        """
        client, at = machine.switched
        meta = resource["metadata"]
        past = self._world.kube.storage.past["resources"][meta["namespace"], meta["name"]]
        since = next((version.since for version in reversed(past) if version.since <= at), 0.0)
        known = [version.object for version in past if version.since >= since and version.object]
        mine = [item.get("status", {}) for item in known if item["metadata"]["uid"] == meta["uid"]]
        told = any(machine.id in status.get("started", ()) for status in mine)
        return bool(client) and meta["generation"] == 1 and told

    def _in_step(self, made: Replica) -> None:
        """The caches are what the API server has."""
        told = self._world.kernel.now - TOLD_SECONDS
        if made.operator is None:
            raise ViolationError(Invariant.CONVERGENCE, f"{made.name} has no caches")
        for kind, store in made.operator.stores.items():
            here = {item.metadata.name: item.metadata.resource_version for item in store.objects()}
            there = {
                item["metadata"]["name"]: item["metadata"]["resourceVersion"]
                for item in self._world.kube.all(kind.plural)
            }
            differ = dict(set(here.items()) ^ set(there.items()))
            if any(self._world.kube.storage.changed_at(kind.plural, name) < told for name in differ):
                raise ViolationError(Invariant.CONVERGENCE, f"{made.name} has other {kind.plural}: {differ}")

    def _written(self, made: Replica) -> None:
        """Each status that waits to be written is in the queue of its writer."""
        contents = made.operator.introspect() if made.operator else {}
        for kind in KINDS:
            waiting = contents.get(f"status of {kind.plural}.waiting", ())
            queue = contents.get(f"controller {kind.name} status.queue", ())
            if forgotten := [str(key) for key in waiting if key not in queue]:
                raise ViolationError(
                    Invariant.CONVERGENCE, f"{made.name} does not write the status of {forgotten}"
                )

    def _not_leaking(self, made: Replica) -> None:
        """There are as many tasks, timers and watches as should be; nothing is kept of what is gone."""
        process = made.process
        names = [task.get_name() for task in process.tasks]
        kinds = Counter(kind if (kind := name.partition(":")[0]) in TASKS else name for name in names)
        many = {kind: count for kind, count in kinds.items() if count > TASKS.get(kind, 1)}
        unnamed = [name for name in names if name.startswith("Task-")]
        if many or unnamed:
            raise ViolationError(Invariant.NO_LEAK, f"{made.name} has too many tasks: {many} {unnamed}")
        timers = self._world.kernel.timers(process)
        if timers > len(process.tasks) + FEW:
            raise ViolationError(
                Invariant.NO_LEAK, f"{made.name} has {timers} timers for {len(process.tasks)} tasks"
            )
        watches = self._world.kube.storage.watched_by(process)
        if watches > len(KINDS) + 1:
            raise ViolationError(Invariant.NO_LEAK, f"{made.name} has {watches} watches open")
        self._keeps_nothing(made)

    def _keeps_nothing(self, made: Replica) -> None:
        """Nothing is kept of objects that are gone."""
        known = {
            Key(item["metadata"]["namespace"], item["metadata"]["name"])
            for kind in KINDS
            for item in self._world.kube.all(kind.plural)
        }
        gone: dict[str, list[str]] = {}
        for name, keys in (made.operator.introspect() if made.operator else {}).items():
            kept = sorted(str(key) for key in keys if isinstance(key, Key) and key not in known)
            if len(kept) > (BOUND if BOUNDED in name else 0):
                gone[name] = kept
        if gone:
            raise ViolationError(
                Invariant.NO_LEAK, f"{made.name} keeps something of objects that are gone: {gone}"
            )
