"""Plays a script, and reports the outcome."""

import hashlib
import random
import traceback
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from tests.sim.aws import Call
from tests.sim.build import CORRECT, Build
from tests.sim.invariants import Invariants
from tests.sim.kernel import StuckError, running
from tests.sim.kube import Request
from tests.sim.replica import Replica
from tests.sim.scenario import CALM_SECONDS, script
from tests.sim.script import Script
from tests.sim.settled import Settled
from tests.sim.storage import Object
from tests.sim.violation import Invariant, ViolationError
from tests.sim.world import Slot, World


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        invariant: which one was broken; None where all held.
        message: how.
        trace: all that happened, a line each.
        steps: how many callbacks of the operator were run.
        seconds: virtual time that has passed.
    """

    invariant: Invariant | None
    message: str
    trace: tuple[str, ...]
    steps: int
    seconds: float

    def brief(self) -> "Outcome":
        """The same without its trace."""
        return replace(self, trace=())

    @property
    def digest(self) -> str:
        """The same for the same trace."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def play(what: Script | int, build: Build = CORRECT) -> Outcome:
    """Play a script, or that of a seed, until it has converged or something does not hold."""
    return Run(what if isinstance(what, Script) else script(what), build).play()


def play_briefly(seed: int) -> tuple[int, Outcome]:
    """Play a seed in a process of a pool, which need not hand over the whole trace."""
    return seed, play(seed).brief()


class Run:
    """One run. It observes what happens, and has the invariants checked."""

    def __init__(self, what: Script, build: Build = CORRECT) -> None:
        self.script = what
        self.trace: list[str] = []
        self.world = World(what, build, self, self.trace.append)
        self.invariants = Invariants(self.world)
        self.world.born = self._born
        self.world.aws.called = self._called
        self.world.kube.asked = self._asked
        self.world.kube.storage.written = self._written
        self.failure: ViolationError | None = None

    def play(self) -> Outcome:
        """Play it."""
        kernel = self.world.kernel
        with _chance(self.script.seed), self._logs():
            try:
                self.world.begin()
                kernel.run(self.script.ends_at + CALM_SECONDS)
                if self.failure is None:
                    Settled(self.world).check()
            except ViolationError as error:
                self.failure = error
            except StuckError as error:
                self.failure = ViolationError(Invariant.NO_LEAK, str(error))
            self._end()
        failure = self.failure
        return Outcome(
            failure.invariant if failure else None,
            str(failure or ""),
            tuple(self.trace),
            kernel.steps,
            kernel.now,
        )

    def _end(self) -> None:
        """Let nothing be left of the replicas."""
        for made in self.world.everyone:
            try:
                made.process.kill()
            except StuckError as error:
                self.failure = self.failure or ViolationError(Invariant.NO_LEAK, str(error))

    def _tell(self, what: str) -> None:
        self.trace.append(f"{self.world.kernel.now:.6f} {what}")

    def _guarded(self, check: Callable[..., None], *facts: Any) -> None:
        """Look whether something holds; what it is called from, the operator's code too, is not disturbed."""
        try:
            check(*facts)
        except ViolationError as error:
            self.failure = self.failure or error
            self.world.kernel.stop()

    def _born(self, replica: Replica, slot: Slot) -> None:
        self.invariants.born(replica, slot)
        replica.process.complained = partial(self._complained, replica.name)

    def _complained(self, name: str, complaint: str) -> None:
        self._tell(f"complaint {name} {complaint}")
        self._guarded(self.invariants.complained, name, complaint)

    def reconcile_started(self, replica: Replica, controller: str, key: Hashable) -> None:
        """A controller begins to reconcile a key; `replica.Observer`."""
        self._guarded(self.invariants.reconcile_started, replica, controller, key)

    def reconcile_ended(self, replica: Replica, controller: str, key: Hashable) -> None:
        """A controller has reconciled a key; the same."""
        self._guarded(self.invariants.reconcile_ended, replica, controller, key)

    def _called(self, call: Call) -> None:
        self._tell(f"aws {call.client} {call.action} {call.scope.account} {' '.join(call.ids)} {call.error}")
        self._guarded(self.invariants.called, call)

    def _asked(self, request: Request, status: int) -> None:
        if request.client:
            body = "" if request.body is None or request.path.endswith("/events") else f" {request.body}"
            self._tell(f"kube {request.client} {request.method} {request.path} {status}{body}")
        self._guarded(self.invariants.asked, request, status)

    def _written(self, client: str, plural: str, old: Object | None, new: Object | None) -> None:
        self._guarded(self.invariants.written, client, plural, old, new)

    @contextmanager
    def _logs(self) -> Iterator[None]:
        """Take what the operator logs."""
        before = structlog.get_config()

        def take(_: Any, level: str, event: MutableMapping[str, Any]) -> Any:
            loop = running()
            if loop is not None and loop.alive:
                if level == "exception":
                    event["traceback"] = traceback.format_exc()
                kind = str(event.get("kind", ""))
                name, facts = (
                    event.pop("event"),
                    " ".join(f"{key}={value}" for key, value in sorted(event.items())),
                )
                self._tell(f"log {loop.name} {level} {name} {facts}")
                self._guarded(self.invariants.logged, loop.name, level, name, kind)
            raise structlog.DropEvent

        structlog.configure(
            processors=[take], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False
        )
        try:
            yield
        finally:
            structlog.configure(**before)


@contextmanager
def _chance(seed: int) -> Iterator[None]:
    """Have jitter drawn from the seed."""
    before = random.getstate()
    random.seed(f"{seed}/jitter")
    try:
        yield
    finally:
        random.setstate(before)
