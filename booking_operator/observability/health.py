"""The liveness and readiness checks, in the format of the probes of the API server.

Liveness fails only if a restart would help: a part makes no progress although it waits for nothing. An
unavailable API server or AWS does not make liveness fail, because a restart would only delay the recovery.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from booking_operator.engine.clock import Clock
from booking_operator.engine.controller import RECONCILE_TIMEOUT_SECONDS
from booking_operator.observability.prometheus import label_of
from booking_operator.observability.sources import Sources

MAX_LOOP_LAG_SECONDS = 30.0
"""The maximum time between two beats of the event loop."""
MAX_RECONCILE_SECONDS = RECONCILE_TIMEOUT_SECONDS + 30.0
"""The maximum duration of a reconcile, and the maximum time in which a controller takes no ready key.

A reconcile is cancelled at its timeout, so one that continues is stuck. Ready keys may wait for the same time
because all workers may be busy until their timeout.
"""
MAX_WATCH_SILENCE_SECONDS = 600.0
"""The maximum time in which a watch neither receives anything nor fails.

Bookmarks arrive about once a minute, a silent watch is closed after 80 s, and a failed watch is retried after
half a minute, unless the API server requests a longer pause.
"""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. No text in it comes from users.

    Attributes:
        name: the name of the check.
        problem: why the check failed; empty when it passed.
    """

    name: str
    problem: str = ""


class Health:
    """Runs the checks. It detects parts that make no progress by comparing their state between probes.

    Args:
        sources: the parts of the operator.
        beat_age: returns the seconds since the last beat of the event loop.
        clock: the monotonic clock.
    """

    def __init__(self, sources: Sources, beat_age: Callable[[], float], clock: Clock) -> None:
        self._sources = sources
        self._beat_age = beat_age
        self._clock = clock
        self._marks: dict[str, tuple[Hashable, float]] = {}

    def live(self) -> list[Check]:
        """Return the liveness checks: the event loop, the controllers and the watches."""
        return [*self._loop(), *self._controllers(), *self._watches()]

    def ready(self) -> list[Check]:
        """Return the readiness checks: whether the required caches are synced.

        A standby replica is ready too, because it can take over at once.
        """
        vital = self._sources.required_reflectors
        if not vital:
            return [Check("started", "the operator is starting")]
        return [
            Check(f"cache-sync/{item.kind}", "" if item.has_synced else "not listed yet") for item in vital
        ]

    def _loop(self) -> Iterator[Check]:
        age = self._beat_age()
        yield Check(
            "event-loop", "" if age <= MAX_LOOP_LAG_SECONDS else f"the last heartbeat was {age:.0f} s ago"
        )

    def _controllers(self) -> Iterator[Check]:
        for controller in self._sources.controllers:
            name, problem = f"controller/{label_of(controller.name)}", ""
            waiting = len(controller.queue)
            # A new leadership has new controllers, and a controller without ready keys is not stuck.
            mark = (controller, controller.keys_taken) if waiting else object()
            still = self._unchanged_seconds(name, mark)
            running = controller.longest_running_seconds
            if running > MAX_RECONCILE_SECONDS:
                problem = (
                    f"a reconcile has run for {running:.0f} s (timeout {RECONCILE_TIMEOUT_SECONDS:.0f} s)"
                )
            elif still > MAX_RECONCILE_SECONDS:
                problem = f"{waiting} keys are ready, but none was taken for {still:.0f} s"
            yield Check(name, problem)

    def _watches(self) -> Iterator[Check]:
        for reflector in self._sources.reflectors:
            moves, name = (reflector.last_activity_at, reflector.restarts.total()), f"watch/{reflector.kind}"
            still = self._unchanged_seconds(name, moves)
            problem = (
                f"no event and no failure for {still:.0f} s" if still > MAX_WATCH_SILENCE_SECONDS else ""
            )
            yield Check(name, problem)

    def _unchanged_seconds(self, name: str, mark: Hashable) -> float:
        """Return for how many seconds a part has had the same mark in all probes."""
        now = self._clock.monotonic()
        before = self._marks.get(name)
        if before is None or before[0] != mark:
            self._marks[name] = before = (mark, now)
        return now - before[1]


def as_text(endpoint: str, checks: list[Check], *, verbose: bool) -> tuple[bool, str]:
    """Return whether all checks passed, and the response text.

    The text has a line for each check if a check failed, or with `verbose`.
    """
    well = not any(check.problem for check in checks)
    if well and not verbose:
        return True, "ok"
    lines = [
        f"[-]{item.name} failed: {item.problem}" if item.problem else f"[+]{item.name} ok" for item in checks
    ]
    return well, "\n".join([*lines, f"{endpoint} check {'passed' if well else 'failed'}", ""])
