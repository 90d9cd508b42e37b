"""SVG pictures of the trials: lateness of starts, calls over time, and starts within the request limits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import Name
from bench.trials import Trial
from bench.windows import taken_at

_BINS_PER_DECADE = 12
_COLOURS = {"operator": "#1f77b4", "poller": "#d62728"}
_REFUSED = "refused"
_CALL_COLOURS = {
    "DescribeInstances": "C0",
    "StartInstances": "C1",
    "StopInstances": "C2",
    "CreateTags": "C4",
    "DeleteTags": "C5",
    _REFUSED: "black",
}


def lateness(path: Path, late: Mapping[Name, Sequence[float]], target: float) -> None:
    """Draw a histogram of the lateness of starts.

    Args:
        path: the file to write.
        late: seconds, by subject. Infinite values are left out.
        target: seconds, drawn as a line.
    """
    figure, axes = figure_of("Lateness of StartInstances, boundaries at random", rows=1)
    bins = [10 ** (power / _BINS_PER_DECADE) for power in range(5 * _BINS_PER_DECADE + 1)]
    for name, seconds in late.items():
        values = [min(max(value * 1000, bins[0]), bins[-1]) for value in seconds if value < float("inf")]
        label = f"{name}, {len(values)} starts"
        axes[0].hist(values, bins, label=label, color=_COLOURS[name], alpha=0.7)
    axes[0].axvline(target * 1000, color="black", linestyle="--", label=f"target, {target * 1000:.0f} ms")
    axes[0].set_xscale("log")
    axes[0].set_xlabel("milliseconds after the boundary")
    axes[0].set_ylabel("starts")
    axes[0].legend()
    write(figure, path)


def calls(path: Path, trials: Mapping[Name, Trial]) -> None:
    """Draw the calls in each second of each trial, by action, with one panel for each subject."""
    figure, axes = figure_of("Calls to EC2, all resources at one instant", rows=len(trials))
    for panel, (name, trial) in zip(axes, trials.items(), strict=True):
        panel.set_title(name)
        panel.set_ylabel("calls a second")
        panel.set_xlabel("seconds after the boundary")
        _stack(panel, trial)
    write(figure, path)


def _stack(axes: Axes, trial: Trial) -> None:
    begins_at = trial.begins_at
    counted = Counter(
        (arrival.action if arrival.taken else _REFUSED, int((arrival.at - begins_at).total_seconds() // 1))
        for arrival in trial.arrivals
    )
    seconds = [second for _, second in counted]
    span = range(min(seconds), max(seconds) + 1)
    base = [0] * len(span)
    for label, colour in _CALL_COLOURS.items():
        heights = [counted[label, second] for second in span]
        if any(heights):
            axes.bar(span, heights, bottom=base, width=1.0, align="edge", label=label, color=colour)
        base = [low + height for low, height in zip(base, heights, strict=True)]
    axes.legend()


def starts(path: Path, trial: Trial, burst: float, per_second: float) -> None:
    """Draw the number of accepted starts over time, and the maximum that the request limits allow."""
    taken = taken_at(trial.arrivals, "StartInstances").values()
    at = sorted((arrived - trial.begins_at).total_seconds() for arrived in taken)
    figure, axes = figure_of("Starts accepted by EC2, all due at one instant", rows=1)
    counts = list(range(1, len(at) + 1))
    axes[0].step(at, counts, where="post", label="operator", color=_COLOURS["operator"])
    ends = max(0.0, sum(map(len, trial.groups.values())) - burst) / per_second
    most = [burst, burst + ends * per_second]
    axes[0].plot([0, ends], most, "k--", label="the maximum that the limits allow")
    axes[0].set_xlabel("seconds after the boundary")
    axes[0].set_ylabel("instances")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    write(figure, path)


def figure_of(title: str, rows: int) -> tuple[Figure, list[Axes]]:
    """Create a figure with `rows` panels, one below the other."""
    figure = Figure(figsize=(9, 1.5 + 3 * rows), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, 1, squeeze=False)
    return figure, [panel for (panel,) in panels]


def write(figure: Figure, path: Path) -> None:
    """Write a figure as SVG. Text stays text, so that it can be searched."""
    # Without a date and with fixed ids, the same figure always gives the same file.
    with mpl.rc_context({"svg.hashsalt": "bench", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None})
