"""Whether the operator is alive, and whether it is ready, like the probes of the API server.

The operator is alive unless a restart would help: an API server or an AWS that is away is no reason for one,
and only makes the next start slow. It is not alive if it makes no progress although it waits for nothing.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from booking_operator.engine.clock import Clock
from booking_operator.engine.controller import RECONCILE_TIMEOUT_SECONDS
from booking_operator.observability.prometheus import label_of
from booking_operator.observability.sources import Sources

MAX_LOOP_LAG_SECONDS = 30.0
"""The event loop may take this long, at most, between two beats of its heart."""
MAX_RECONCILE_SECONDS = RECONCILE_TIMEOUT_SECONDS + 30.0
"""A reconcile is cancelled after its time; one that goes on nevertheless is wedged. As long keys may wait
without any being taken: all workers may be busy for their whole time."""
MAX_WATCH_SILENCE_SECONDS = 600.0
"""A watch that neither hears nor fails for so long is wedged: bookmarks come about once a minute, a silent
one is cut after 80 s, and one that failed is tried again after half a minute, unless the server asks for
more."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `problem` is empty where it is well. No text here is anybody's data."""

    name: str
    problem: str = ""


class Health:
    """Looks whether things move. What stands still is found by comparing one look with those before."""

    def __init__(self, sources: Sources, beat_age: Callable[[], float], clock: Clock) -> None:
        self._sources = sources
        self._beat_age = beat_age
        self._clock = clock
        self._marks: dict[str, tuple[Hashable, float]] = {}

    def live(self) -> list[Check]:
        """Whether the process does its work, or at least tries to."""
        return [*self._loop(), *self._controllers(), *self._watches()]

    def ready(self) -> list[Check]:
        """Whether the caches are synced. A replica that stands by is ready too: it can take over at once."""
        vital = self._sources.required_reflectors
        if not vital:
            return [Check("started", "the operator is starting")]
        return [
            Check(f"cache-sync/{item.kind}", "" if item.has_synced else "not listed yet") for item in vital
        ]

    def _loop(self) -> Iterator[Check]:
        age = self._beat_age()
        yield Check("event-loop", "" if age <= MAX_LOOP_LAG_SECONDS else f"its last beat was {age:.0f} s ago")

    def _controllers(self) -> Iterator[Check]:
        for controller in self._sources.controllers:
            name, problem = f"controller/{label_of(controller.name)}", ""
            waiting = len(controller.queue)
            # Each term has controllers of its own, and one that is idle is in no hurry.
            mark = (controller, controller.keys_taken) if waiting else object()
            still = self._unchanged_seconds(name, mark)
            running = controller.longest_running_seconds
            if running > MAX_RECONCILE_SECONDS:
                problem = (
                    f"a reconcile has run for {running:.0f} s, and may for {RECONCILE_TIMEOUT_SECONDS:.0f}"
                )
            elif still > MAX_RECONCILE_SECONDS:
                problem = f"none of {waiting} ready keys was taken for {still:.0f} s"
            yield Check(name, problem)

    def _watches(self) -> Iterator[Check]:
        for reflector in self._sources.reflectors:
            moves, name = (reflector.last_activity_at, reflector.restarts.total()), f"watch/{reflector.kind}"
            still = self._unchanged_seconds(name, moves)
            problem = (
                f"it neither hears nor fails for {still:.0f} s" if still > MAX_WATCH_SILENCE_SECONDS else ""
            )
            yield Check(name, problem)

    def _unchanged_seconds(self, name: str, mark: Hashable) -> float:
        """For how many seconds the mark of something has been the same, as far as it was looked at."""
        now = self._clock.monotonic()
        before = self._marks.get(name)
        if before is None or before[0] != mark:
            self._marks[name] = before = (mark, now)
        return now - before[1]


def as_text(endpoint: str, checks: list[Check], *, verbose: bool) -> tuple[bool, str]:
    """Whether all is well, and the text to say so; every check has a line if one fails, or with `verbose`."""
    well = not any(check.problem for check in checks)
    if well and not verbose:
        return True, "ok"
    lines = [
        f"[-]{item.name} failed: {item.problem}" if item.problem else f"[+]{item.name} ok" for item in checks
    ]
    return well, "\n".join([*lines, f"{endpoint} check {'passed' if well else 'failed'}", ""])
