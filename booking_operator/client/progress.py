"""The progress of a start: how many instances run, and whether all of them can run at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from booking_operator.client.view import ResourceView, Viewer
from booking_operator.domain.local_time import format_relative, format_span

_PERMANENT = frozenset(
    {
        "AdHocOfExclusive",
        "DryRun",
        "Duplicate",
        "InvalidSpec",
        "NoInstances",
        "RequiresCycle",
        "Suspended",
        "TooManyRequired",
    }
)
"""Reasons that no time makes better: somebody must change something."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the start of a Resource is.

    Attributes:
        text: the progress in words.
        change: what is worth a new line in a log when it changes.
        done: whether all instances run.
        impossible: why they cannot run before the deadline; empty if they can.
    """

    text: str
    change: str = ""
    done: bool = False
    impossible: str = ""


def progress_of(view: ResourceView, viewer: Viewer, deadline: datetime) -> Progress:
    """Return the progress of a start that must be done by `deadline` (aware UTC)."""
    status, state = view.resource.status, view.state
    counts = f"{view.name}: {status.running} of {status.instances} run"
    if status.status == "RUNNING" and view.silent_since is None:
        return Progress(counts, done=True)
    failure = view.failure
    if failure is not None and failure.reason in _PERMANENT:
        return Progress(counts, impossible=f"{failure.reason}: {failure.message}")
    if state.holder is None:
        start = state.next_change_at
        if start is None or start > deadline:
            return Progress(counts, impossible=f"nobody has booked {view.name} before the end of the timeout")
        return Progress(f"{counts}; starts {format_relative(start, viewer.now, viewer.zone)}", counts)
    since, created_at = state.holder.power_on_at(view.resource.warm_up), state.holder.created_at
    if since < created_at <= viewer.now:  # no start begins before its booking is made
        since = created_at
    elapsed = format_span(max(viewer.now - since, timedelta(0)))
    reason = f"; {failure.reason}" if failure is not None else ""
    if view.waits_for_required:
        reason = f"; waits for {', '.join(view.resource.requires)}"
    text = f"{counts}, {elapsed}{past_starts(status.start_seconds)}{reason}"
    return Progress(text, f"{counts}{reason}")


def past_starts(seconds: Sequence[int]) -> str:
    """Return how long past starts took, in parentheses after a blank; empty without past starts."""
    if not seconds:
        return ""
    low, high = min(seconds), max(seconds)
    return f" (past starts: {low}s)" if low == high else f" (past starts: {low}–{high}s)"
