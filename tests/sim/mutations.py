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
        "a key is processed twice at once",
        "A key that is added while it is in processing is handed out immediately.",
        Invariant.ONE_AT_A_TIME,
        Build(Parts(queue=bugs.HandsOutTwice)),
        0,
    ),
    Mutation(
        "a former leader keeps writing",
        "RenewDeadline is longer than LeaseDuration, so a leader that is cut off keeps writing while "
        "another replica leads.",
        Invariant.ONE_WRITER,
        Build(timing=bugs.RenewsTooLong),
        11,
    ),
    Mutation(
        "the first list is stale",
        "The first list may come from a stale cache of the API server, as in client-go (resourceVersion=0).",
        Invariant.NO_STOP,
        Build(client=bugs.FirstListIsStale),
        41,
    ),
    Mutation(
        "an event between list and watch is missed",
        "The watch starts at the newest resourceVersion, and not at that of the list.",
        None,
        Build(client=bugs.MissesEvents),
        7,
    ),
    Mutation(
        "a list goes back in time",
        "Each list except the first comes from a stale cache of the API server.",
        None,
        Build(client=bugs.LaterListsAreStale),
        9,
    ),
    Mutation(
        "an ended booking releases the lock",
        "A booking that ends releases the lock, although an overlapping booking still runs.",
        Invariant.NO_STOP,
        Build(Parts(informers=bugs.EndedBookingReleases)),
        0,
    ),
    Mutation(
        "a CRD deletion counts as edits of users",
        "Bookings that are deleted with their CRD count as deleted by users.",
        Invariant.NO_STOP,
        Build(client=bugs.CachesCrd),
        16,
    ),
    Mutation(
        "orders are never checked again",
        "An order is not checked right before its call, even if it waited for long.",
        None,
        Build(Parts(driver=bugs.AlwaysValid.wrap)),
        206,
    ),
    Mutation(
        "orders are never cancelled",
        "A start or stop is carried out although its order was cancelled.",
        None,
        Build(Parts(driver=bugs.NeverCancels.wrap)),
        25,
    ),
    Mutation(
        "calls are sent before the boundary",
        "An order that is created ahead of its boundary is sent immediately.",
        Invariant.NO_START,
        Build(Parts(driver=bugs.SendsAtOnce.wrap)),
        2,
    ),
    Mutation(
        "no request limits",
        "The model of the AWS request limits allows every call.",
        Invariant.BUDGETS,
        Build(limits=bugs.unlimited),
        84,
    ),
    Mutation(
        "no back-off",
        "A key that fails is retried after 1 ms.",
        Invariant.BOUNDED_ERRORS,
        Build(Parts(queue=bugs.NoBackoff)),
        8,
    ),
    Mutation(
        "adds during a reconcile are lost",
        "A key that is added while it is in processing is not enqueued again.",
        None,
        Build(Parts(queue=bugs.LosesAdds)),
        57,
    ),
    Mutation(
        "a relist keeps deleted objects",
        "An object that was deleted while the watch was down stays in the cache.",
        Invariant.CONVERGENCE,
        Build(Parts(informers=partial(Informers, store=bugs.KeepsDeletedObjects))),
        10,
    ),
    Mutation(
        "tasks leak",
        "Each list starts a task that does not end.",
        Invariant.NO_LEAK,
        Build(client=bugs.LeaksTasks),
        0,
    ),
    Mutation(
        "keys leak",
        "The work queue keeps every key that it has ever processed.",
        Invariant.NO_LEAK,
        Build(Parts(queue=bugs.KeepsKeys)),
        0,
    ),
    Mutation(
        "errors of orders are dropped",
        "The outcome of a start or stop is dropped, and with it the error of a refused call.",
        Invariant.NO_SURPRISE,
        Build(Parts(driver=bugs.DropsOutcomes.wrap)),
        1,
    ),
    Mutation(
        "started instances are forgotten",
        "The instances that a booking has started are remembered only until they run.",
        Invariant.CONVERGENCE,
        Build(Parts(resources=bugs.ForgetsRunningInstances)),
        3,
    ),
    Mutation(
        "lock tags are removed on stale data",
        "Lock tags are removed although bookings may be missing and the instances therefore keep running.",
        Invariant.NO_RELEASE,
        Build(Parts(locks=bugs.RemovesTagsOnStaleData)),
        16,
    ),
    Mutation(
        "the first status counts no instances",
        "The first status that a process writes for a Resource counts no instances.",
        Invariant.TRUE_STATUS,
        Build(client=bugs.FirstStatusCountsNothing),
        1,
    ),
    Mutation(
        "pending counts as running",
        "An instance that EC2 reports as pending after a start counts as running.",
        Invariant.TRUE_STATUS,
        Build(sessions=bugs.PendingCountsAsRunning),
        0,
    ),
    Mutation(
        "edits of bookings count late",
        "The usage counts a change of the bookings from the next observation on.",
        Invariant.EXACT_USAGE,
        Build(meter=bugs.CountsEditsLate),
        0,
    ),
    Mutation(
        "an extension loses what was accepted",
        "An extension that conflicts with another booking loses the interval that was accepted before.",
        Invariant.KEPT,
        Build(Parts(bookings=bugs.TakesTimeAway)),
        7,
    ),
    Mutation(
        "overlapping bookings are accepted",
        "A booking of an exclusive Resource is accepted although another one has its time.",
        Invariant.NO_OVERLAP,
        Build(Parts(bookings=bugs.AcceptsOverlaps)),
        2,
    ),
    Mutation(
        "bookings that are too long are accepted",
        "A booking that is longer than max_duration is accepted.",
        Invariant.LIMITS,
        Build(Parts(bookings=bugs.AcceptsTooLong)),
        3,
    ),
    Mutation(
        "bookings too far ahead are accepted",
        "A booking that starts later than max_ahead allows is accepted.",
        Invariant.LIMITS,
        Build(Parts(bookings=bugs.AcceptsTooEarly)),
        27,
    ),
    Mutation(
        "a size is not remembered",
        "The size of an Auto Scaling group is not written into its tag before the group is scaled down.",
        Invariant.SIZE_KEPT,
        Build(sessions=bugs.ForgetsSizes),
        22,
    ),
    Mutation(
        "scaling stays suspended",
        "A start does not resume the scaling of an ECS service.",
        Invariant.SIZE_KEPT,
        Build(sessions=bugs.NeverResumesScaling),
        3,
    ),
    Mutation(
        "status checks always pass",
        "Status checks that are initializing count as passed.",
        Invariant.TRUE_STATUS,
        Build(sessions=bugs.ChecksAlwaysPass),
        18,
    ),
    Mutation(
        "a start does not wait for required Resources",
        "A Resource starts before those that it requires are ready.",
        Invariant.ORDER,
        Build(Parts(resources=bugs.StartsBeforeRequired)),
        3,
    ),
    Mutation(
        "a stop does not wait for dependents",
        "A required Resource stops before those that require it.",
        Invariant.ORDER,
        Build(Parts(resources=bugs.StopsBeforeDependents)),
        3,
    ),
    Mutation(
        "a booking books one Resource",
        "A booking of a Resource is not one of those that it requires.",
        Invariant.CONVERGENCE,
        Build(Parts(informers=bugs.BooksOneResource)),
        123,
    ),
    Mutation(
        "messages are lost",
        "A message that a booking has ended counts as delivered, but nobody gets it.",
        Invariant.NOTIFIED,
        Build(channel=bugs.LosesMessages),
        0,
    ),
    Mutation(
        "a waiting booking is forgotten",
        "A booking that waits is not decided again when the booking before it ends.",
        Invariant.CONVERGENCE,
        Build(Parts(bookings=bugs.NeverDecidesAgain)),
        2,
    ),
    Mutation(
        "instances run for a conflict",
        "The instances of an exclusive Resource run for a booking that is not accepted.",
        Invariant.NO_START,
        Build(Parts(informers=bugs.CountsBeforeAcceptance)),
        0,
    ),
    Mutation(
        "a suspension that ends by itself is not read",
        "The field suspend_until of a Resource is not read.",
        Invariant.NO_STOP,
        Build(Parts(informers=partial(Informers, store=bugs.IgnoresSuspendUntil))),
        51,
    ),
    Mutation(
        "off times are forgotten",
        "At an off time, only instances that a booking has started are stopped.",
        Invariant.OFF_TIMES,
        Build(Parts(resources=bugs.ForgetsOffTimes)),
        18,
    ),
)

RARE = (
    Mutation(
        "a recreated CRD counts as the old one",
        "The uid of a CRD that was deleted and applied again seems unchanged, so the earlier lists "
        "still count.",
        Invariant.NO_STOP,
        Build(client=bugs.HidesNewCrd),
    ),
    Mutation(
        "an end moved forward counts as planned",
        "An end of power that an edit or a deletion has moved forward counts as planned.",
        Invariant.NO_STOP,
        Build(Parts(resources=bugs.TreatsEditsAsPlanned)),
    ),
    Mutation(
        "a stale observation clears started instances",
        "Started instances are forgotten when an observation from before the start shows them stopped.",
        Invariant.CONVERGENCE,
        Build(Parts(resources=bugs.ForgetsOnStaleObservation)),
    ),
    Mutation(
        "a start in flight is forgotten",
        "An instance that is observed stopped after the end of a booking is forgotten, although its "
        "start may be in flight.",
        Invariant.CONVERGENCE,
        Build(Parts(resources=bugs.ForgetsStartsInFlight)),
    ),
    Mutation(
        "a lock in flight is forgotten",
        "The status lists only the holder's lock, and no lock whose call is in flight.",
        Invariant.CONVERGENCE,
        Build(client=bugs.ReportsOnlyTheHoldersLock),
    ),
    Mutation(
        "an exceeded quota counts as success",
        "Each 409 of a create request counts as AlreadyExists, also that of an exceeded quota.",
        Invariant.CONVERGENCE,
        Build(client=bugs.ConflictMeansExists),
    ),
)
"""Mutations that only one seed of thousands shows. Each has a script in `found` that shows it in one run."""
