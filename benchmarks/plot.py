"""Plot: the bytes of metadata over the size of the difference, drawn with matplotlib.

One panel for each number of records. Both axes are logarithmic, but for the stretch from 0 to 1 of the
difference, so that what it costs to find nothing is seen too.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.report import ExchangeRow

WIDTH_IN, HEIGHT_IN = 6.2, 4.8
LEGEND_LINE_IN = 0.22
OURS = {
    ("random", "empty"): ("lost at random", "#0b5fa5", "o"),
    ("outage", "empty"): ("lost in one outage, old certificate", "#1a9850", "s"),
    ("outage", "recent"): ("lost in one outage, recent certificate", "#7fbf3f", "^"),
}
RIVALS = {
    "tree_8_bytes": ("digest tree, sums of 8 bytes", "#d95f02", "--"),
    "tree_16_bytes": ("digest tree, sums of 16 bytes", "#a6761d", "--"),
    "whole_set_bytes": ("all keys' 64-bit hashes", "#7a7a7a", "-."),
    "limit_bytes": ("limit of 64-bit hashes: 8 bytes a record", "#000000", ":"),
}


def draw(file: Path, rows: Sequence[ExchangeRow]) -> None:
    """Write the picture; the ending of the file's name says in which format."""
    sizes = list(dict.fromkeys(row.keys for row in rows))
    columns = min(2, len(sizes))  # of the legend: two beside each other are wider than one panel
    height_in = HEIGHT_IN + LEGEND_LINE_IN * math.ceil((len(OURS) + len(RIVALS)) / columns)
    figure = Figure(figsize=(WIDTH_IN * len(sizes), height_in), layout="constrained")
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for panel, keys in zip(panels, sizes, strict=True):
        _panel(panel, keys, [row for row in rows if row.keys == keys])
    panels[0].set_ylabel("metadata, both ways")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle("What two replicas say to each other to find what one of them lacks")
    figure.savefig(file)


def _panel(panel: Any, keys: int, rows: Sequence[ExchangeRow]) -> None:
    for field, (label, colour, style) in RIVALS.items():
        points = sorted({(row.differences, getattr(row, field)) for row in rows if _drawn_once(row)})
        points = [point for point in points if point[1]]
        panel.plot(*_columns(points), style, color=colour, label=label, linewidth=1.4)
    for (pattern, since), (label, colour, marker) in OURS.items():
        same = [row for row in rows if row.pattern in (pattern, "none") and row.certificate == since]
        points = sorted((row.differences, row.metadata_bytes) for row in same)
        panel.plot(*_columns(points), marker=marker, color=colour, label=label, linewidth=2, markersize=6)
    panel.set_title(f"{keys:,} records")
    panel.set_xlabel("records that one replica lacks")
    panel.set_xscale("symlog", linthresh=1)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda number, _: _size(number)))
    panel.grid(which="major", color="#dddddd", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _drawn_once(row: ExchangeRow) -> bool:
    """Rivals do not care when the last certificate was made, and hardly which records are lacking."""
    return row.certificate == "empty" and row.pattern in ("none", "random")


def _columns(points: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [x for x, _ in points], [y for _, y in points]


def _size(number: float) -> str:
    for unit, least in (("MB", 1e6), ("KB", 1e3)):
        if number >= least:
            return f"{number / least:g} {unit}"
    return f"{number:g} B"
