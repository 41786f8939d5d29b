"""Moves plot: latency second by second, with the moves, kills and stops marked, drawn with matplotlib."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.moves_report import Found

WIDTH_IN, HEIGHT_IN = 14.0, 6.4
OPERATIONS = {"get_p99_ms": ("get at QUORUM", "#0b5fa5"), "set_p99_ms": ("set at QUORUM", "#d95f02")}
STRUCK = {"kill": ("killed, started again", "#b2182b", "-"), "stop": ("stood still", "#6a3d9a", "--")}
SHADES = {"join": "#e5f5e0", "drain": "#fee8c8", "replace": "#e0ecf4"}


def draw(file: Path, found: Found) -> None:
    """Write the picture; the ending of the file's name says in which format."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for field, (label, colour) in OPERATIONS.items():
        points = [(each.at_s, value) for each in found.seconds if (value := getattr(each, field)) is not None]
        above.plot([x for x, _ in points], [y for _, y in points], color=colour, label=label, linewidth=0.9)
    below.bar([each.at_s for each in found.seconds], [each.errors for each in found.seconds], color="#b2182b")
    for panel in (above, below):
        _mark(panel, found)
    above.set_yscale("log")
    above.set_ylabel("p99 of a second, ms")
    below.set_ylabel("errors a second")
    below.set_xlabel("s")
    for at, (name, begin, end) in enumerate(found.spans):  # in two rows, for some are short
        y, x = 1.01 + 0.045 * (at % 2), (begin + end) / 2
        above.text(x, y, name, transform=above.get_xaxis_transform(), ha="center", fontsize=8)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file)


def _mark(panel: Any, found: Found) -> None:
    for name, begin, end in found.spans:
        if shade := SHADES.get(name.split()[0]):
            panel.axvspan(begin, end, color=shade, zorder=0)
    named = set[str]()
    for each in found.disturbed:
        label, colour, style = STRUCK[each.what]
        panel.axvline(each.at_s, color=colour, linestyle=style, linewidth=1,
                      label=None if label in named else label)  # fmt: skip
        named.add(label)
    panel.grid(axis="y", color="#dddddd", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
