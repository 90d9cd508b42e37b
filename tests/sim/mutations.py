"""The bugs that the simulation must catch: one for each invariant at least, put in on purpose."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.sim import bugs
from tests.sim.violation import Invariant


@dataclass(frozen=True)
class Mutation:
    """A bug.

    Attributes:
        invariant: which one it breaks; None where several may notice it first.
        breaks: puts it in, for the length of the context.
        seed: the first that shows it, as `python -m tests.sim --mutations` finds it.
    """

    name: str
    invariant: Invariant | None
    breaks: Callable[[], AbstractContextManager[None]]
    seed: int = -1

    def shown_by(self, invariant: Invariant | None) -> bool:
        """Whether a run that has broken `invariant`, if any, shows it."""
        return invariant is not None and self.invariant in {None, invariant}


MUTATIONS = (
    Mutation("a key is handed out twice", Invariant.ONE_AT_A_TIME, bugs.twice, 0),
    Mutation("a former leader writes on", Invariant.ONE_WRITER, bugs.leads_too_long, 11),
    Mutation("the first list is stale", Invariant.NO_STOP, bugs.lists_stale, 86),
    Mutation("an event between list and watch is missed", None, bugs.misses_an_event, 2),
    Mutation("a list goes back in time", None, bugs.goes_back, 9),
    Mutation("the first booking that ends releases all", Invariant.NO_STOP, bugs.first_ends_all, 0),
    Mutation("bookings vanish with their CRD", Invariant.NO_STOP, bugs.believes_a_dying_kind, 55),
    Mutation("orders stand whatever happens", None, bugs.orders_stand, 147),
    Mutation("orders are never withdrawn", None, bugs.does_not_ask_again, 147),
    Mutation("what is ordered ahead leaves at once", Invariant.NO_START, bugs.leaves_at_once, 2),
    Mutation("no request limits", Invariant.BUDGETS, bugs.no_limits, 25),
    Mutation("no back-off", Invariant.BOUNDED_ERRORS, bugs.no_backoff, 3),
    Mutation("adds are lost", None, bugs.loses_adds, 23),
    Mutation("what vanished unseen is kept", Invariant.CONVERGENCE, bugs.keeps_the_dead, 10),
    Mutation("tasks are left behind", Invariant.NO_LEAK, bugs.leaks_tasks, 1),
    Mutation("keys are left behind", Invariant.NO_LEAK, bugs.leaks_keys, 0),
    Mutation("a refusal is not looked at", Invariant.NO_SURPRISE, bugs.looks_away, 10),
    Mutation("what was started is forgotten", Invariant.CONVERGENCE, bugs.forgets_what_runs, 21),
    Mutation("a lock goes on a doubt", Invariant.NO_RELEASE, bugs.releases_on_a_doubt, 112),
    Mutation("the first status claims nothing runs", Invariant.TRUE_STATUS, bugs.claims_nothing, 1),
    Mutation("an order counts as done", Invariant.TRUE_STATUS, bugs.believes_the_order, 0),
)

RARE = (
    Mutation("a new CRD passes for the old one", Invariant.NO_STOP, bugs.believes_a_new_kind),
    Mutation("what is left of the bookings is believed", Invariant.NO_STOP, bugs.believes_what_is_left),
    Mutation(
        "an old view has what was started forgotten", Invariant.CONVERGENCE, bugs.forgets_by_an_old_view
    ),
    Mutation("a start on its way is forgotten", Invariant.CONVERGENCE, bugs.forgets_at_once),
    Mutation("a lock on its way is forgotten", Invariant.CONVERGENCE, bugs.forgets_what_is_on_its_way),
    Mutation("no room in a quota passes for done", Invariant.CONVERGENCE, bugs.counts_on_conflicts),
)
"""Bugs that show in one seed of thousands: each has a script in `found` that shows it at once."""
