"""The mutations that the simulation must catch: at least one for each invariant.

A mutation is an operator with one mistake. The mistakes are in `bugs`; a `build.Build` selects one of them.
"""

from dataclasses import dataclass
from functools import partial

from booking_operator.parts import Parts
from booking_operator.reconcilers.informers import Informers
from tests.sim import bugs
from tests.sim.build import Build
from tests.sim.violation import Invariant


@dataclass(frozen=True)
class Mutation:
    """An operator with one mistake.

    Attributes:
        name: the name on the command line and in the files of `found`.
        description: the mistake, in one sentence.
        invariant: the invariant that it breaks; None if different invariants may fail first.
        build: the operator with the mistake.
        seed: the first seed that shows it, as found by `python -m tests.sim --mutations`.
    """

    name: str
    description: str
    invariant: Invariant | None
    build: Build
    seed: int = -1

    def is_shown_by(self, invariant: Invariant | None) -> bool:
        """Whether a run that broke `invariant` (None for no failure) shows the mutation."""
        return invariant is not None and self.invariant in {None, invariant}


MUTATIONS = (
    Mutation(
        "a key is handed out twice",
        "A key that is added while it is reconciled is handed out at once.",
        Invariant.ONE_AT_A_TIME,
        Build(Parts(queue=bugs.HandsOutTwice)),
        0,
    ),
    Mutation(
        "a former leader writes on",
        "RenewDeadline is longer than LeaseDuration: a leader that is cut off goes on while another leads.",
        Invariant.ONE_WRITER,
        Build(timing=bugs.RenewsTooLong),
        11,
    ),
    Mutation(
        "the first list is stale",
        "The first list is that of the API server's cache, as client-go's is.",
        Invariant.NO_STOP,
        Build(client=bugs.FirstListIsStale),
        86,
    ),
    Mutation(
        "an event between list and watch is missed",
        "The watch begins at the newest version instead of the version of the list.",
        None,
        Build(client=bugs.MissesEvents),
        2,
    ),
    Mutation(
        "a list goes back in time",
        "Each list but the first is of an API server that is behind.",
        None,
        Build(client=bugs.LaterListsAreStale),
        9,
    ),
    Mutation(
        "the first booking that ends releases all",
        "A booking that ends releases the lock, although another that began before it ended still runs.",
        Invariant.NO_STOP,
        Build(Parts(informers=bugs.EndedBookingReleases)),
        0,
    ),
    Mutation(
        "bookings vanish with their CRD",
        "Bookings that vanish because their CRD is deleted count as deleted by users.",
        Invariant.NO_STOP,
        Build(client=bugs.CachesCrd),
        55,
    ),
    Mutation(
        "orders stand whatever happens",
        "Nothing is asked again right before a call leaves, however long the order had to wait.",
        None,
        Build(Parts(driver=bugs.AlwaysValid.wrap)),
        147,
    ),
    Mutation(
        "orders are never withdrawn",
        "A start or stop that was ordered is carried out, although it was withdrawn meanwhile.",
        None,
        Build(Parts(driver=bugs.NeverCancels.wrap)),
        104,
    ),
    Mutation(
        "what is ordered ahead leaves at once",
        "What is ordered before its boundary leaves when it is ordered.",
        Invariant.NO_START,
        Build(Parts(driver=bugs.SendsAtOnce.wrap)),
        2,
    ),
    Mutation(
        "no request limits",
        "The model of AWS's request limits lets everything pass.",
        Invariant.BUDGETS,
        Build(limits=bugs.unlimited),
        80,
    ),
    Mutation(
        "no back-off",
        "A key that fails is tried again at once.",
        Invariant.BOUNDED_ERRORS,
        Build(Parts(queue=bugs.NoBackoff)),
        8,
    ),
    Mutation(
        "adds are lost",
        "A key that is added while it is reconciled is not handed out again.",
        None,
        Build(Parts(queue=bugs.LosesAdds)),
        23,
    ),
    Mutation(
        "what vanished unseen is kept",
        "An object that vanished while the watch was down stays in the cache.",
        Invariant.CONVERGENCE,
        Build(Parts(informers=partial(Informers, store=bugs.KeepsDeletedObjects))),
        10,
    ),
    Mutation(
        "tasks are left behind",
        "Each list leaves a task behind.",
        Invariant.NO_LEAK,
        Build(client=bugs.LeaksTasks),
        0,
    ),
    Mutation(
        "keys are left behind",
        "The queue keeps each key that it has ever seen.",
        Invariant.NO_LEAK,
        Build(Parts(queue=bugs.KeepsKeys)),
        0,
    ),
    Mutation(
        "a refusal is not looked at",
        "The outcome of a start or stop is dropped, and with it the error of a refusal.",
        Invariant.NO_SURPRISE,
        Build(Parts(driver=bugs.DropsOutcomes.wrap)),
        10,
    ),
    Mutation(
        "what was started is forgotten",
        "What a booking has started is remembered only until it runs.",
        Invariant.CONVERGENCE,
        Build(Parts(resources=bugs.ForgetsRunningInstances)),
        21,
    ),
    Mutation(
        "a lock is removed on stale data",
        "The lock tags of instances that run on, because bookings may be missing, are removed nevertheless.",
        Invariant.NO_RELEASE,
        Build(Parts(locks=bugs.RemovesTagsOnStaleData)),
        112,
    ),
    Mutation(
        "the first status claims nothing runs",
        "The first status of a Resource is written with counts of nothing.",
        Invariant.TRUE_STATUS,
        Build(client=bugs.FirstStatusCountsNothing),
        1,
    ),
    Mutation(
        "an order counts as done",
        "An instance that is being started counts as running.",
        Invariant.TRUE_STATUS,
        Build(sessions=bugs.PendingCountsAsRunning),
        0,
    ),
)

RARE = (
    Mutation(
        "a new CRD passes for the old one",
        "A CRD that was deleted and applied again is taken for the one whose bookings were listed.",
        Invariant.NO_STOP,
        Build(client=bugs.HidesNewCrd),
    ),
    Mutation(
        "what is left of the bookings is believed",
        "Where one booking is gone, the end of another still counts as foreseen.",
        Invariant.NO_STOP,
        Build(Parts(resources=bugs.TreatsEditsAsPlanned)),
    ),
    Mutation(
        "an old view has what was started forgotten",
        "What was started is forgotten where a view from before the start shows it stopped.",
        Invariant.CONVERGENCE,
        Build(Parts(resources=bugs.ForgetsOnStaleObservation)),
    ),
    Mutation(
        "a start on its way is forgotten",
        "What is seen stopped when a booking ends is over, even if its start is on its way.",
        Invariant.CONVERGENCE,
        Build(Parts(resources=bugs.ForgetsStartsInFlight)),
    ),
    Mutation(
        "a lock on its way is forgotten",
        "The lock tags of the holder alone are remembered, and none that are on their way.",
        Invariant.CONVERGENCE,
        Build(client=bugs.ReportsOnlyTheHoldersLock),
    ),
    Mutation(
        "no room in a quota passes for done",
        "Each conflict at a creation is taken to mean that the object exists.",
        Invariant.CONVERGENCE,
        Build(client=bugs.ConflictMeansExists),
    ),
)
"""Mutations that only one seed of thousands shows. Each has a script in `found` that shows it in one run."""
