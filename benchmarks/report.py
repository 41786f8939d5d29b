"""Report: the rows that benchmarks print, and those of `levels` as a table of at most 100 columns. Pure."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.limits import Limits
from benchmarks.load import Measured, Run
from benchmarks.machine import interpreter

RATIO_MAX = 2.5

_HEADINGS = (
    "                                                   latency ms         CPU µs/op           super-",
    "op       level  clients conns durable    ops/s    p50    p99   p999 server client  errors  seded",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of `levels`. What cannot be said, because no operation ended well, is None.

    ops_per_s      operations are keys: those of a batch, too; latencies are those of calls
    server_cpu_us  processor time of all nodes together, per operation; `client_cpu_us` of the load
                   process
    superseded     operations that ended well, but to which a newer write was preferred
    limit_ms       two raw round trips and one fdatasync, in the one cell that they bound
    keys_a_call    1, but for `set_many` and `get_many`
    load           the machine's load average when the cell began, over a minute: the last cells' work is
                   in it
    """

    operation: str
    level: str
    clients: int
    connections: int
    durability: str
    ops_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    server_cpu_us: float | None
    client_cpu_us: float | None
    errors: int
    superseded: int
    limit_ms: float | None
    keys_a_call: int
    load: float
    interpreter: str


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """What two replicas said to each other for one difference, and what other ways would have said.

    ratio      metadata to the limit; None where nothing differs
    aim_bytes  what the metadata should take at most, if that was said
    """

    keys: int
    differences: int
    pattern: str
    certificate: str
    exchange: str
    metadata_bytes: int
    entry_bytes: int
    frames: int
    round_trips: float
    records_sent: int
    unneeded_rows: int
    cpu_ms: float
    certified_s: float
    tree_8_bytes: int
    tree_16_bytes: int
    whole_set_bytes: int
    limit_bytes: int
    ratio: float | None
    aim_bytes: int | None


def make_row(order: Run, durability: str, measured: Measured, load: float, limit_ms: float | None) -> Row:
    latencies_ns = sorted(measured.latencies_ns)
    done = measured.operations
    return Row(
        order.operation, order.level, order.clients, order.connections, durability,
        round(done / (measured.window_ns / 1e9), 1),
        percentile_ms(latencies_ns, 0.5),
        percentile_ms(latencies_ns, 0.99),
        percentile_ms(latencies_ns, 0.999),
        round(measured.server_cpu_ns / 1e3 / done, 2) if done else None,
        round(measured.client_cpu_ns / 1e3 / done, 2) if done else None,
        sum(measured.errors.values()),
        measured.superseded,
        limit_ms, order.batch, load, interpreter(),
    )  # fmt: skip


def percentile_ms(ordered_ns: Sequence[int], share: float) -> float | None:
    """The least latency that at least `share` of all do not exceed."""
    if not ordered_ns:
        return None
    return round(ordered_ns[math.ceil(share * len(ordered_ns)) - 1] / 1e6, 4)


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=1)


def table(rows: Sequence[Row]) -> str:
    return "\n".join([*_HEADINGS, *map(_line, rows)])


def _line(row: Row) -> str:
    return (
        f"{row.operation:<8} {row.level:<6} {row.clients:>7} {row.connections:>5} {row.durability:<8}"
        f" {row.ops_per_s:>7,.0f} {_number(row.p50_ms):>6} {_number(row.p99_ms):>6}"
        f" {_number(row.p999_ms):>6} {_number(row.server_cpu_us):>6} {_number(row.client_cpu_us):>6}"
        f" {row.errors:>7,} {row.superseded:>6,}"
    )


def _number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def limits_text(limits: Limits, rows: Sequence[Row]) -> str:
    """The limits of this machine, and how near the one row that they bound comes to them."""
    lines = [
        "limits of this machine, medians, measured in this run:",
        f"  two raw round trips of 128 bytes on loopback   {limits.round_trips_p50_ms:.3f} ms",
        f"  fdatasync after appending 4 KiB                {limits.fdatasync_p50_ms:.3f} ms",
    ]
    for row in rows:
        if row.limit_ms is not None and row.p50_ms is not None:
            lines.append(
                f"  one client's durable quorum write: p50 {row.p50_ms:.3f} ms is "
                f"{row.p50_ms / row.limit_ms:.2f} times their sum of {row.limit_ms:.3f} ms "
                f"(to reach: {RATIO_MAX:g})"
            )
    return "\n".join(lines)
