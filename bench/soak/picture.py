"""A run as SVG: memory, counters, and lateness over time."""

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, StrMethodFormatter

from bench.plots import figure_of, write
from bench.soak.gauges import Sample
from bench.soak.lateness import Kept
from bench.soak.run import Record

_MINUTE = 60.0
_MOST_POINTS = 240
_FLOOR_MS = 1.0
_MARGIN_MIB = 5
_INK, _GRID, _PAPER = "#1f2328", "#d0d7de", "#ffffff"
_AT_NIGHT = {_INK: "#e6edf3", _GRID: "#30363d", _PAPER: "#0d1117"}
"""The replacement of each colour if the reader prefers a dark colour scheme."""
_BLUE, _GREEN, _ORANGE, _PURPLE = "#3b82c4", "#2e9e5b", "#d9772b", "#9a6dd7"
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _INK,
    "axes.facecolor": _PAPER,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": _PAPER,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "font.size": 9,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.facecolor": _PAPER,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    # Points are drawn as lines of zero length. Simplification would remove them.
    "path.simplify": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def draw(path: Path, record: Record) -> None:
    """Draw a run into a file."""
    with mpl.rc_context(_STYLE):
        minutes = f"{record.seconds / _MINUTE:.0f} minutes"
        figure, panels = figure_of(f"{minutes} at 20 times the density of a usual fleet", rows=4)
        figure.set_size_inches(9, 10)
        memory, counts, keys, late = panels
        thinned = record.samples[:: max(1, len(record.samples) // _MOST_POINTS)]
        _lines(
            memory,
            "Memory, MiB",
            thinned,
            {"RSS": [sample.rss_mib for sample in thinned], "USS": [sample.uss_mib for sample in thinned]},
        )
        _lines(
            counts,
            "Tasks, file descriptors and threads",
            thinned,
            {
                "tasks": [sample.tasks for sample in thinned],
                "file descriptors": [sample.fds for sample in thinned],
                "threads": [sample.threads for sample in thinned],
            },
        )
        _lines(
            keys,
            "Keys, objects and series",
            thinned,
            {
                "keys of work queues": [sample.keys for sample in thinned],
                "objects in caches": [sample.objects for sample in thinned],
                "series of metrics": [sample.series for sample in thinned],
            },
        )
        # An axis from zero would hide a leak of some MiB.
        memory.set_ylim(
            min(sample.uss_mib for sample in thinned) - _MARGIN_MIB,
            max(sample.rss_mib for sample in thinned) + _MARGIN_MIB,
        )
        _lateness(late, record.boundaries)
        for panel in panels:
            panel.set_xlim(0, record.seconds / _MINUTE)
            for _, begin, end in record.faults:
                panel.axvspan(begin / _MINUTE, end / _MINUTE, color="#808080", alpha=0.18, linewidth=0)
        late.set_xlabel(
            "minutes; grey: AWS throttles and resets, the API server is cut off, the Lease is lost"
        )
        write(figure, path)
    path.write_text(_for_the_night(path.read_text()))


def _lines(axes: Axes, title: str, samples: Sequence[Sample], series: Mapping[str, Sequence[float]]) -> None:
    axes.set_title(title)
    minutes = [sample.seconds / _MINUTE for sample in samples]
    for (name, values), colour in zip(series.items(), (_BLUE, _GREEN, _PURPLE), strict=False):
        axes.plot(minutes, values, color=colour, label=name)
    axes.set_ylim(0, 1.25 * max(max(values) for values in series.values()))
    axes.legend(loc="upper right", ncols=len(series))


def _lateness(axes: Axes, boundaries: Sequence[Kept]) -> None:
    calm = [item for item in boundaries if item.foreseen and not item.disturbed]
    hit = [item for item in boundaries if item.foreseen and item.disturbed]
    axes.set_title("Lateness of each boundary as AWS saw it, ms")
    for name, items, colour in (
        (f"{len(calm):,} boundaries", calm, _BLUE),
        (f"{len(hit):,} near a fault", hit, _ORANGE),
    ):
        found = [(item.seconds / _MINUTE, item.late) for item in items if item.late is not None]
        minutes = _dots(at for at, _ in found)
        values = _dots(max(_FLOOR_MS, late * 1000) for _, late in found)
        axes.plot(minutes, values, color=colour, linewidth=3, solid_capstyle="round", label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(_FLOOR_MS, 10 * max(1000 * (item.late or 0) for item in [*calm, *hit]))
    axes.legend(loc="upper right", ncols=2)


def _dots(values: Iterable[float]) -> list[float]:
    """Each value as a line of zero length. All are one path, which needs a tenth of the size of markers."""
    return [part for value in values for part in (value, value, nan)]


def _for_the_night(svg: str) -> str:
    rules = "".join(
        f'[style*="{what}: {day}"]{{{what}:{night} !important}}'
        for day, night in _AT_NIGHT.items()
        for what in ("fill", "stroke")
    )
    return svg.replace("</style>", f"@media (prefers-color-scheme:dark){{{rules}}}</style>", 1)
