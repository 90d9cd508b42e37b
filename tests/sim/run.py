"""Play a script and return the outcome.

`Run` connects the callbacks of the world to the checks of `invariants`, and records the trace.
"""

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
from tests.sim.final_checks import FinalChecks
from tests.sim.invariants import Invariants
from tests.sim.kernel import StuckError, running_process
from tests.sim.kube import Request
from tests.sim.replica import Replica
from tests.sim.scenario import CALM_SECONDS, script
from tests.sim.script import Script
from tests.sim.storage import Object
from tests.sim.violation import Invariant, ViolationError
from tests.sim.world import Slot, World


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        invariant: the invariant that failed; None if all held.
        message: how it failed.
        trace: all events, one line each.
        steps: the number of callbacks of the operator that were run.
        seconds: the virtual duration.
    """

    invariant: Invariant | None
    message: str
    trace: tuple[str, ...]
    steps: int
    seconds: float

    def brief(self) -> "Outcome":
        """Return a copy without the trace."""
        return replace(self, trace=())

    @property
    def digest(self) -> str:
        """The SHA-256 of the trace."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def play(what: Script | int, build: Build = CORRECT) -> Outcome:
    """Play a script, or the script of a seed, until its end or the first failure."""
    return Run(what if isinstance(what, Script) else script(what), build).play()


def play_briefly(seed: int) -> tuple[int, Outcome]:
    """Return the seed and its outcome without the trace, which is expensive to send between processes."""
    return seed, play(seed).brief()


class Run:
    """One run of a script."""

    def __init__(self, what: Script, build: Build = CORRECT) -> None:
        self.script = what
        self.trace: list[str] = []
        self.world = World(what, build, self, self.trace.append)
        self.invariants = Invariants(self.world)
        self.world.on_replica_start = self._on_replica_start
        self.world.aws.on_call = self._on_call
        self.world.kube.on_request = self._on_request
        self.world.kube.storage.on_write = self._on_write
        self.failure: ViolationError | None = None

    def play(self) -> Outcome:
        """Play the script and return the outcome."""
        kernel = self.world.kernel
        with _seeded_random(self.script.seed), self._capture_logs():
            try:
                self.world.begin()
                kernel.run(self.script.ends_at + CALM_SECONDS)
                if self.failure is None:
                    FinalChecks(self.world).check()
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
        """Kill all replicas, so that no task outlives the run."""
        for replica in self.world.all_replicas:
            try:
                replica.process.kill()
            except StuckError as error:
                self.failure = self.failure or ViolationError(Invariant.NO_LEAK, str(error))

    def _record(self, what: str) -> None:
        self.trace.append(f"{self.world.kernel.now:.6f} {what}")

    def _check(self, check: Callable[..., None], *arguments: Any) -> None:
        """Run a check. A failure stops the kernel.

        It is not raised here, because the caller may be code of the operator.
        """
        try:
            check(*arguments)
        except ViolationError as error:
            self.failure = self.failure or error
            self.world.kernel.stop()

    def _on_replica_start(self, replica: Replica, slot: Slot) -> None:
        self.invariants.replica_started(replica, slot)
        replica.process.on_unhandled_error = partial(self._on_unhandled_error, replica.name)

    def _on_unhandled_error(self, name: str, message: str) -> None:
        self._record(f"complaint {name} {message}")
        self._check(self.invariants.check_unhandled_error, name, message)

    def reconcile_started(self, replica: Replica, controller: str, key: Hashable) -> None:
        """Check the start of a reconcile, as `replica.Observer`."""
        self._check(self.invariants.reconcile_started, replica, controller, key)

    def reconcile_ended(self, replica: Replica, controller: str, key: Hashable) -> None:
        """Record the end of a reconcile, as `replica.Observer`."""
        self._check(self.invariants.reconcile_ended, replica, controller, key)

    def _on_call(self, call: Call) -> None:
        self._record(
            f"aws {call.client} {call.action} {call.scope.account} {' '.join(call.ids)} {call.error}"
        )
        self._check(self.invariants.check_call, call)

    def _on_request(self, request: Request, status: int) -> None:
        if request.client:
            body = "" if request.body is None or request.path.endswith("/events") else f" {request.body}"
            self._record(f"kube {request.client} {request.method} {request.path} {status}{body}")
        self._check(self.invariants.check_response, request, status)

    def _on_write(self, client: str, plural: str, old: Object | None, new: Object | None) -> None:
        self._check(self.invariants.check_write, client, plural, old, new)

    @contextmanager
    def _capture_logs(self) -> Iterator[None]:
        """Record and check the log events of the operator."""
        before = structlog.get_config()

        def take(_: Any, level: str, event: MutableMapping[str, Any]) -> Any:
            loop = running_process()
            if loop is not None and loop.alive:
                if level == "exception":
                    event["traceback"] = traceback.format_exc()
                kind = str(event.get("kind", ""))
                name, facts = (
                    event.pop("event"),
                    " ".join(f"{key}={value}" for key, value in sorted(event.items())),
                )
                self._record(f"log {loop.name} {level} {name} {facts}")
                self._check(self.invariants.check_log, loop.name, level, name, kind)
            raise structlog.DropEvent

        structlog.configure(
            processors=[take], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False
        )
        try:
            yield
        finally:
            structlog.configure(**before)


@contextmanager
def _seeded_random(seed: int) -> Iterator[None]:
    """Seed the global `random`, which the operator uses for jitter."""
    before = random.getstate()
    random.seed(f"{seed}/jitter")
    try:
        yield
    finally:
        random.setstate(before)
