"""What `overload` prints: its rows, and the table of them. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.open_loop import Counted, Driven

_HEADINGS = (
    "                            a second       per      % of what was offered       in time, ms     CPU µs "
    "   MiB peers   polite",
    "cluster clients  x peak  offered in time CPU s late shed fail unsent lost     p50  p99  answer  shed "
    " more  dead lost %  p99",
)


class Phase(NamedTuple):
    """A run under load: its clients, own or hostile; `factor`: how many times the peak was offered, 0 for
    the peak itself; whether a polite tenant stood beside; what was seen."""

    clients: str
    factor: float
    polite: bool
    driven: Driven
    rss_growth_bytes: int
    peers_dead: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One load offered to one cluster. What cannot be said is None.

    goodput_ratio     goodput per CPU second of the nodes, to that of the peak
    due, in_time ...  counts, as in `open_loop.Counted`, of all tenants
    cpu_us_answered   and `cpu_us_shed`: CPU of all nodes for a request that is answered, and for one that is
                      shed, by least squares through all peaks and hostile loads of this cluster
    rss_growth_mib    by which the largest node's resident memory grew, at most, from where the load began
    polite_lost       share of a polite tenant's requests that were not stored in time
    peers_dead        whether a member took another for dead meanwhile, looked at once a second
    """

    cluster: str
    clients: str
    factor: float
    tenants: int
    offered_per_s: float
    goodput_per_s: float
    goodput_ratio: float | None
    due: int
    in_time: int
    late: int
    shed: int
    failed: int
    unsent: int
    lost: int
    p50_ms: float | None
    p99_ms: float | None
    cpu_us_answered: float | None
    cpu_us_shed: float | None
    rss_growth_mib: float
    polite_lost: float | None
    polite_p99_ms: float | None
    peers_dead: bool
    nodes_cpu_s: float
    generator_cpu_s: float
    window_s: float
    peak_per_s: float
    peak_per_cpu_s: float
    load: float


def make_rows(cluster: str, phases: Sequence[Phase], load: float) -> list[Row]:
    """Of all loads but the peaks, which they are held against: all peaks of the run together."""
    peaks = [phase.driven for phase in phases if not phase.factor]
    good = sum(len(total(peak).good_s) for peak in peaks)
    peak_per_s = good / sum(peak.window_s for peak in peaks)
    peak_per_cpu_s = good / max(1e-9, sum(peak.nodes_cpu_s for peak in peaks))
    costs = costs_us([phase.driven for phase in phases if not phase.factor or phase.clients == "hostile"])
    return [_row(cluster, phase, costs, peak_per_s, peak_per_cpu_s, load) for phase in phases if phase.factor]


def _row(
    cluster: str,
    phase: Phase,
    costs: tuple[float | None, float | None],
    peak_per_s: float,
    peak_per_cpu_s: float,
    load: float,
) -> Row:
    driven, all_ = phase.driven, total(phase.driven)
    good = len(all_.good_s)
    per_cpu_s = good / driven.nodes_cpu_s if driven.nodes_cpu_s else None
    polite = driven.tenants[-1] if phase.polite else None
    return Row(
        cluster, phase.clients, phase.factor, len(driven.tenants),
        round(all_.due / driven.window_s, 1), round(good / driven.window_s, 1),
        round(per_cpu_s / peak_per_cpu_s, 3) if per_cpu_s is not None and peak_per_cpu_s else None,
        all_.due, good, all_.late, all_.shed, all_.failed, all_.unsent, all_.lost,
        percentile_ms(all_.good_s, 0.5), percentile_ms(all_.good_s, 0.99), *costs,
        round(phase.rss_growth_bytes / (1 << 20), 1),
        round(1 - len(polite.good_s) / polite.due, 4) if polite is not None and polite.due else None,
        percentile_ms(polite.good_s, 0.99) if polite is not None else None,
        phase.peers_dead, round(driven.nodes_cpu_s, 3), round(driven.generator_cpu_s, 3),
        round(driven.window_s, 3), round(peak_per_s, 1), round(peak_per_cpu_s, 1), load,
    )  # fmt: skip


def total(driven: Driven) -> Counted:
    """All tenants together."""
    return sum(driven.tenants[1:], driven.tenants[0])


def costs_us(runs: Sequence[Driven]) -> tuple[float | None, float | None]:
    """CPU microseconds of an answered and of a shed request: the two figures that fit all runs best. Neither
    is below 0: nodes with more to do answer more at once, which may save more than refusals cost."""
    points = []
    for run in runs:
        counted = total(run)
        answered = len(counted.good_s) + counted.late + counted.failed
        points.append((answered, counted.shed, run.nodes_cpu_s * 1e6))
    aa, as_, ss = (sum(p[i] * p[j] for p in points) for i, j in ((0, 0), (0, 1), (1, 1)))
    ac, sc = (sum(p[i] * p[2] for p in points) for i in (0, 1))
    determinant = aa * ss - as_ * as_
    if determinant <= 1e-9 * aa * max(1, ss):
        return (round(ac / aa, 1) if aa else None), None
    shed_us = (sc * aa - ac * as_) / determinant
    if shed_us < 0:
        return round(ac / aa, 1), 0.0
    return round((ac * ss - sc * as_) / determinant, 1), round(shed_us, 1)


def percentile_ms(seconds: Sequence[float], share: float) -> float | None:
    if not seconds:
        return None
    return round(sorted(seconds)[math.ceil(share * len(seconds)) - 1] * 1e3, 2)


def table(rows: Sequence[Row]) -> str:
    lines = [
        *_HEADINGS, *map(_line, rows), "",
        *(
            f"{row.cluster}: the peak is {row.peak_per_s:,.0f} a second, {row.peak_per_cpu_s:,.0f} a CPU "
            f"second of the nodes"
            for row in {row.cluster: row for row in rows}.values()
        ),
        "per CPU s: in time per CPU second of the nodes, to that of the peak",
        "unsent: held back by its client, to keep to the window, or by a node that does not read",
        f"the generator used at most {max(row.generator_cpu_s / row.window_s for row in rows):.0%} of a "
        f"processor; load of the machine up to {max(row.load for row in rows)}",
    ]  # fmt: skip
    return "\n".join(lines)


def _line(row: Row) -> str:
    who = f"{row.clients}+1" if row.tenants > 1 else row.clients
    shares = (
        f"{_share(count, row.due):>{width}}"
        for count, width in ((row.late, 4), (row.shed, 4), (row.failed, 4), (row.unsent, 6), (row.lost, 4))
    )
    polite = None if row.polite_lost is None else 100 * row.polite_lost
    return (
        f"{row.cluster:<7} {who:<9} {row.factor:>5g} {row.offered_per_s:>8,.0f} {row.goodput_per_s:>7,.0f}"
        f" {_number(row.goodput_ratio, 2):>5} {' '.join(shares)}"
        f" {_number(row.p50_ms, 0):>7} {_number(row.p99_ms, 0):>4} {_number(row.cpu_us_answered, 0):>7}"
        f" {_number(row.cpu_us_shed, 1):>5} {row.rss_growth_mib:>5.0f} {'yes' if row.peers_dead else 'no':>5}"
        f" {_number(polite, 1):>6} {_number(row.polite_p99_ms, 0):>4}"
    )


def _share(count: int, due: int) -> str:
    """In percent, of which a little is not nothing."""
    return "-" if not count else f"{100 * count / due:.0f}" if 200 * count >= due else "<1"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
