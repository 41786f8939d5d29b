"""Serial report: the rows of `serial` and its tables of at most 110 columns. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.closed_loop import Window
from benchmarks.load import VALUE_BYTES
from benchmarks.machine import interpreter
from benchmarks.paced import ratio
from benchmarks.register_systems import (
    ADDS,
    COMPARE,
    COMPARE_AWAY,
    COMPARE_OLD,
    GET_SERIAL,
    INCREMENT,
    LOOPS,
    ONE_KEY,
    RANGE,
    SET,
    SET_ALONE,
    TXN,
    TXN_AWAY,
    TXN_LOOPS,
)
from benchmarks.report import percentile_ms
from benchmarks.serial_traffic import TrafficRow

OURS = "basestore"
ETCD = "etcd"
LIKE = {
    COMPARE: TXN, COMPARE_AWAY: TXN_AWAY, COMPARE_OLD: TXN, INCREMENT: TXN, GET_SERIAL: RANGE,
    ADDS: TXN_LOOPS, LOOPS: TXN_LOOPS,
}  # fmt: skip
TO_SET_MAX = 1.5
TO_ETCD_MAX = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One window. What cannot be said, because no operation ended well, is None. Processor times are per
    operation; `load` is the machine's load average when it began."""

    ops_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    server_cpu_us: float | None
    client_cpu_us: float | None
    attempts: float | None
    errors: int
    load: float

    @classmethod
    def of(cls, window: Window, load: float) -> "Sample":
        done, latencies_ns = window.operations, sorted(window.latencies_ns)
        return cls(
            done * 1e9 / window.window_ns,
            percentile_ms(latencies_ns, 0.5),
            percentile_ms(latencies_ns, 0.99),
            window.server_cpu_ns / 1e3 / done if done else None,
            window.client_cpu_ns / 1e3 / done if done else None,
            1 + window.lost / done if done else None,
            sum(window.errors.values()),
            load,
        )


Cell = tuple[str, str, int]  # system, what is asked, clients
Samples = Mapping[Cell, Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class SerialRow:
    """Medians over the rounds, and their ranges, but for `errors`, which is a sum.

    shared    all clients ask for one key; then an operation is a success, `attempts` the compares for each
    to_set    the servers' time to that of a QUORUM write that is begun singly, with as many clients in the
              same round; `to_etcd`: to that for what is like it in etcd, likewise
    """

    system: str
    asked: str
    shared: bool
    clients: int
    rounds: int
    ops_per_s: float
    ops_per_s_range: tuple[float, float]
    p50_ms: float | None
    p99_ms: float | None
    server_cpu_us: float | None
    server_cpu_us_range: tuple[float, float] | None
    client_cpu_us: float | None
    attempts: float | None
    errors: int
    to_set: float | None
    to_etcd: float | None
    load: float
    interpreter: str


@dataclass(frozen=True, slots=True)
class Found:
    """All of it. By system: `versions`, and `idle_ms`, processor time of all processes in a second in which
    nobody asks. `traffic` may be left out."""

    rows: list[SerialRow]
    traffic: list[TrafficRow]
    versions: dict[str, str]
    idle_ms: dict[str, float]
    fdatasync_ms: float


def make_row(samples: Samples, cell: Cell) -> SerialRow:
    """What the rounds showed of a cell."""
    system, asked, clients = cell
    own = samples[cell]
    times_us = [each.server_cpu_us for each in own if each.server_cpu_us is not None]
    like, shared = LIKE.get(asked), asked in ONE_KEY
    return SerialRow(
        system, asked, shared, clients, len(own),
        round(statistics.median(each.ops_per_s for each in own), 1),
        (round(min(each.ops_per_s for each in own), 1), round(max(each.ops_per_s for each in own), 1)),
        _median([each.p50_ms for each in own]),
        _median([each.p99_ms for each in own]),
        _median(times_us),
        (round(min(times_us), 1), round(max(times_us), 1)) if times_us else None,
        _median([each.client_cpu_us for each in own]),
        _median([each.attempts for each in own]),
        sum(each.errors for each in own),
        _ratio(own, samples.get((system, begun_singly(clients), clients), ())) if not shared else None,
        _ratio(own, samples.get((ETCD, like, clients), ())) if like is not None else None,
        statistics.median(each.load for each in own),
        interpreter(),
    )  # fmt: skip


def begun_singly(clients: int) -> str:
    """The write at QUORUM that is: of one client any, for it comes alone; of several one that expires, which
    costs a little more for that."""
    return SET if clients == 1 else SET_ALONE


def _median(values: Sequence[float | None]) -> float | None:
    """Of those that can be said."""
    said = [value for value in values if value is not None]
    return round(statistics.median(said), 3) if said else None


def _ratio(own: Sequence[Sample], other: Sequence[Sample]) -> float | None:
    """The median of those of the rounds."""
    rounds = zip(own, other, strict=False)  # there are none of what is not measured
    return _median([ratio(one.server_cpu_us, two.server_cpu_us) for one, two in rounds])


# --- tables --------------------------------------------------------------------------------------

_OWN = (
    "clients system    asked                  ops/s  p50 ms  p99 ms server us           range to set to etcd"
    " errors"
)
_SHARED = (
    "clients system    asked                 succ/s  p50 ms  p99 ms server us           range  tries to etcd"
    " errors"
)
_TRAFFIC = "system    asked                round trips  messages   bytes  syncs errors  messages by kind"


def as_text(found: Found, settings: str) -> str:
    """Under what the figures depend on."""
    loads = [row.load for row in found.rows]
    own = [row for row in found.rows if not row.shared]
    shared = [row for row in found.rows if row.shared]
    idle = ", ".join(f"{system} {ms:.0f} ms" for system, ms in found.idle_ms.items())
    lines = [
        ", ".join(f"{system} {version}" for system, version in found.versions.items()),
        f"{interpreter()}; load of the machine {min(loads):.1f} to {max(loads):.1f}",
        f"an fdatasync after appending 4 KiB takes {found.fdatasync_ms:.3f} ms in the same place",
        f"{settings}; values of {VALUE_BYTES} bytes, durability sync, three processes each",
        "server us: processor time of all three together, per operation; medians and ranges of rounds",
        f"the same in a second in which nobody asks: {idle}",
        f"to set: server us to those of `{SET_ALONE}`; to etcd: to those of its txn or range; within rounds",
        f"`{SET_ALONE}` has a TTL of an hour, so it is never made part of a group, as what is asked of",
        "registers is not; to note when it expires is some 5 to 10 % of it. One client's `set, QUORUM` comes",
        "alone, and is begun singly too: of one client that is what `to set` means",
        "",
        "each client with a connection and a key of its own; compares are on the version returned last",
        _OWN,
        *(_line(row, row.to_set) for row in own),
        "",
        "all clients with one key; a compare that is lost is repeated with the version that it was told",
        _SHARED,
        *(_line(row, row.attempts) for row in shared),
    ]
    if found.traffic:
        lines += ["", "per request of one client, between nodes and at their disks", _TRAFFIC]
        lines += map(_traffic_line, found.traffic)
    return "\n".join([*lines, "", *targets(own)])


def targets(rows: Sequence[SerialRow]) -> list[str]:
    """How near compares at home come to what is to be reached."""
    said = []
    for row in rows:
        if row.asked == COMPARE:
            ratios = (("set alone", row.to_set, TO_SET_MAX), ("etcd's txn", row.to_etcd, TO_ETCD_MAX))
            said += [
                f"{row.clients} clients: a compare's server us are {ratio:.2f} times those of {other} "
                f"(to reach: {most:g})"
                for other, ratio, most in ratios
                if ratio is not None
            ]
    return said


def _line(row: SerialRow, ratio_or_tries: float | None) -> str:
    times = "-" if row.server_cpu_us_range is None else "{:,.0f}-{:,.0f}".format(*row.server_cpu_us_range)
    return (
        f"{row.clients:>7} {row.system:<9} {row.asked:<20} {row.ops_per_s:>7,.0f} {_number(row.p50_ms):>7}"
        f" {_number(row.p99_ms):>7} {_number(row.server_cpu_us):>9} {times:>15} {_number(ratio_or_tries):>6}"
        f" {_number(row.to_etcd):>7} {row.errors:>6,}"
    )


def _traffic_line(row: TrafficRow) -> str:
    kinds = ", ".join(f"{kind} {count:g}" for kind, count in row.kinds.items())
    return (
        f"{row.system:<9} {row.asked:<20} {_number(row.round_trips):>11} {_number(row.messages):>9}"
        f" {row.bytes:>7,.0f} {row.syncs:>6.1f} {row.errors:>6}  {kinds}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
