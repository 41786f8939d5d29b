"""Plot: goodput and p99 against what is offered, own clients and hostile ones, drawn with matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.overload_report import Row

WIDTH_IN, HEIGHT_IN = 5.6, 3.6
CLIENTS = {
    "own": ("own clients, which keep to windows", "#0b5fa5", "o"),
    "hostile": ("hostile clients", "#d95f02", "s"),
}
PANELS = (
    ("goodput_per_s", "in time, a second"),
    ("goodput_ratio", "in time per CPU second, to the peak"),
    ("p99_ms", "p99 of what was in time, ms"),
)


def draw(file: Path, rows: Sequence[Row]) -> None:
    """Write the picture; the ending of the file's name says in which format."""
    clusters = list(dict.fromkeys(row.cluster for row in rows))
    figure = Figure(figsize=(WIDTH_IN * len(clusters), HEIGHT_IN * len(PANELS)), layout="constrained")
    grid = figure.subplots(len(PANELS), len(clusters), squeeze=False)
    for column, cluster in enumerate(clusters):
        alone = [row for row in rows if row.cluster == cluster and row.tenants == 1]
        for place, (name, label) in enumerate(PANELS):
            _panel(grid[place][column], alone, name, label)
        grid[0][column].axhline(alone[0].peak_per_s, color="#7a7a7a", linestyle=":", label="peak")
        grid[1][column].axhline(1.0, color="#7a7a7a", linestyle=":")
        grid[0][column].set_title(f"{cluster}: {TITLES.get(cluster, '')}")
        grid[-1][column].set_xlabel("offered, times the peak")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(file)


TITLES = {"one": "1 node, memory, ONE", "three": "3 nodes, sync, QUORUM"}


def _panel(panel: Any, rows: Sequence[Row], name: str, label: str) -> None:
    for clients, (text, colour, marker) in CLIENTS.items():
        points = sorted((row.factor, value) for row in rows if row.clients == clients
                        and (value := getattr(row, name)) is not None)  # fmt: skip
        panel.plot([x for x, _ in points], [y for _, y in points], marker=marker, color=colour, label=text)
    panel.set_ylabel(label)
    panel.set_xscale("log")
    factors = sorted({row.factor for row in rows})
    panel.set_xticks(factors, [f"{factor:g}" for factor in factors])
    panel.minorticks_off()
    panel.set_ylim(bottom=0)
    panel.grid(color="#dddddd", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
