"""Moves report: what the figures of `moves` are made of, and the figures. Pure.

A request belongs to the phase in which it began. One that was under way in the 5 s behind a kill or a stop,
or until the member was back where that took longer, belongs to that disturbance instead, so that neither
hides the other: a phase shows what moves cost, and a disturbance what a member costs that is gone meanwhile.

    phase         quiet | join n4 | ... | drain n1 | ...   what was under way, less what was disturbed
    disturbance   kill of n4 in fill                       what was under way in the seconds behind it
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from basestore import BasestoreError
from benchmarks.paced import ratio
from benchmarks.report import percentile_ms

DISTURBED_S: Final = 5.0
TEXT_MAX: Final = 160
_NUMBER = re.compile(r"[0-9a-f]*\d[0-9a-f]*")


class Trace:
    """What became of each request of a client: moments of its begin and its end, by kind. A place for the
    client's notes (`paced.Notes`)."""

    def __init__(self) -> None:
        self.spans: dict[bool, array[int]] = {False: array("q"), True: array("q")}  # writes: begin, end, ...
        self.failed: list[tuple[int, int, str, str]] = []  # begin, end, kind and text

    def note(self, began_ns: int, ended_ns: int, *, writes: bool) -> None:
        self.spans[writes].extend((began_ns, ended_ns))

    def fail(self, began_ns: int, ended_ns: int, error: BasestoreError) -> None:
        self.failed.append((began_ns, ended_ns, type(error).__name__, str(error)))

    def times_ns(self, counts: Callable[[int, int], bool], *, writes: bool) -> list[int]:
        """How long those took that count, in ascending order."""
        spans = self.spans[writes]
        pairs = zip(spans[::2], spans[1::2], strict=True)
        return sorted(ended - began for began, ended in pairs if counts(began, ended))

    def errors(self, counts: Callable[[int, int], bool]) -> dict[str, int]:
        """Those that count, most frequent first: kind and text, with an N for each number."""
        said = Counter(
            f"{kind}: {_NUMBER.sub('N', text)}"[:TEXT_MAX]
            for began, ended, kind, text in self.failed
            if counts(began, ended)
        )
        return dict(said.most_common())


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the course, by moments of `perf_counter_ns`."""

    name: str
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A member was killed and started again, or stood still, at this moment: `what`. `role`: comes or leaves,
    what it did in the stage in which the partition was; `back_s`: when all members were linked again."""

    what: str
    node: str
    role: str
    stage: str
    partition: int
    at_ns: int
    back_s: float

    def touches(self, began_ns: int, ended_ns: int) -> bool:
        """Whether a request was under way in the seconds behind it."""
        return began_ns < self.at_ns + max(DISTURBED_S, self.back_s) * 1e9 and ended_ns > self.at_ns


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of requests that ended well, in ms, and how many failed, by their errors; None: of none."""

    requests: int
    get_p50_ms: float | None
    get_p99_ms: float | None
    set_p50_ms: float | None
    set_p99_ms: float | None
    max_ms: float | None
    errors: dict[str, int]

    @classmethod
    def of(cls, trace: Trace, counts: Callable[[int, int], bool]) -> "Latencies":
        """Of those that count."""
        gets, sets = (trace.times_ns(counts, writes=writes) for writes in (False, True))
        return cls(
            len(gets) + len(sets),
            percentile_ms(gets, 0.5), percentile_ms(gets, 0.99),
            percentile_ms(sets, 0.5), percentile_ms(sets, 0.99),
            percentile_ms(sorted(gets + sets), 1.0),
            trace.errors(counts),
        )  # fmt: skip

    @property
    def kinds(self) -> Counter[str]:
        """How many failed, by the kind of their errors."""
        kinds = Counter[str]()
        for text, times in self.errors.items():
            kinds[text.partition(":")[0]] += times
        return kinds


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """What a client saw in a phase, and its p99 to those of the first phase, which is quiet."""

    phase: str
    seconds: float
    latencies: Latencies
    get_p99_to_quiet: float | None
    set_p99_to_quiet: float | None


@dataclass(frozen=True, slots=True)
class DisturbanceRow:
    """What it saw in the seconds behind a kill or a stop. `at_s`: since the course began."""

    what: str
    node: str
    role: str
    stage: str
    at_s: float
    back_s: float
    latencies: Latencies


def phase_rows(trace: Trace, phases: Sequence[Phase], disturbed: Sequence[Disturbance]) -> list[PhaseRow]:
    """One a phase, less what was disturbed."""
    rows = list[PhaseRow]()
    for phase in phases:

        def counts(began: int, ended: int, phase: Phase = phase) -> bool:
            within = phase.begin_ns <= began < phase.end_ns
            return within and not any(each.touches(began, ended) for each in disturbed)

        found = Latencies.of(trace, counts)
        quiet = rows[0].latencies if rows else found
        gets = ratio(found.get_p99_ms, quiet.get_p99_ms)
        sets = ratio(found.set_p99_ms, quiet.set_p99_ms)
        seconds = round((phase.end_ns - phase.begin_ns) / 1e9, 1)
        rows.append(PhaseRow(phase.name, seconds, found, gets, sets))
    return rows


def disturbance_rows(
    trace: Trace, disturbed: Iterable[Disturbance], start_ns: int
) -> list[DisturbanceRow]:  # fmt: skip
    """One a disturbance."""
    return [
        DisturbanceRow(
            each.what, each.node, each.role, each.stage, round((each.at_ns - start_ns) / 1e9, 1),
            round(each.back_s, 1), Latencies.of(trace, each.touches),
        )
        for each in disturbed
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Second:
    """A second of the course: p99 of all requests that began in it, and how many failed."""

    at_s: int
    get_p99_ms: float | None
    set_p99_ms: float | None
    errors: int


def by_second(trace: Trace, start_ns: int, end_ns: int) -> list[Second]:
    """Second by second."""
    count = max(0, math.ceil((end_ns - start_ns) / 1e9))
    times: dict[bool, list[list[int]]] = {}
    for writes, spans in trace.spans.items():
        times[writes] = [[] for _ in range(count)]
        for began, ended in zip(spans[::2], spans[1::2], strict=True):
            if start_ns <= began < end_ns:
                times[writes][int((began - start_ns) // 1e9)].append(ended - began)
    failed = Counter(int((began - start_ns) // 1e9) for began, *_ in trace.failed)

    def p99_ms(at: int, *, writes: bool) -> float | None:
        return percentile_ms(sorted(times[writes][at]), 0.99)

    return [Second(at, p99_ms(at, writes=False), p99_ms(at, writes=True), failed[at]) for at in range(count)]


# --- what moved ----------------------------------------------------------------------------------

Seats = Sequence[Sequence[str]]  # who holds each partition


@dataclass(frozen=True, slots=True)
class Moved:
    """What one change of members has moved, in so many seconds: replicas of partitions that came to a member,
    and their records. `sent_bytes`: what all nodes sent each other meanwhile, for whatever; None where they
    had something else to do too."""

    change: str
    seconds: float
    replicas: int
    records: int
    sent_bytes: int | None

    @property
    def records_per_s(self) -> float:
        return round(self.records / self.seconds) if self.seconds else 0.0


def came(before: Seats, after: Seats, records: Sequence[int]) -> tuple[int, int]:
    """How many replicas came to a member that had none of that partition, and the records in them."""
    new = [len(set(now) - set(was)) for was, now in zip(before, after, strict=True)]
    return sum(new), sum(each * count for each, count in zip(new, records, strict=True))


@dataclass(frozen=True, slots=True)
class Bytes:
    """All moves of a course together: what nodes sent each other to what had to move. `record_bytes`: of a
    row and its record as nodes hold them; `idle_bytes_per_s`: what they sent before anything moved."""

    had_to_move: int
    sent: int
    record_bytes: int
    idle_bytes_per_s: float
    to_had_to_move: float


def bytes_of(moved: Sequence[Moved], record_bytes: int, idle_bytes_per_s: float) -> Bytes | None:
    """None where what was sent is not known, or nothing had to move."""
    sent = [each.sent_bytes for each in moved if each.sent_bytes is not None]
    had_to_move = record_bytes * sum(each.records for each in moved)
    if len(sent) < len(moved) or not had_to_move:
        return None
    share = round(sum(sent) / had_to_move, 3)
    return Bytes(had_to_move, sum(sent), record_bytes, round(idle_bytes_per_s), share)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in the end. `lost`: keys whose last acknowledged version, or a newer one, is not there,
    or that were loaded and are not; `altered`: that show what nobody wrote; `copies`: records of all nodes;
    `went_back`: reads that showed less than was known before."""

    acknowledged: int
    keys_written: int
    lost: int
    altered: int
    went_back: int
    records: int
    copies: int
    converged: bool
    converged_s: float


@dataclass(slots=True)
class Found:
    """All that a course has shown."""

    phases: list[PhaseRow] = field(default_factory=list)
    disturbed: list[DisturbanceRow] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)  # disturbances whose stage was not seen
    moved: list[Moved] = field(default_factory=list)
    bytes: Bytes | None = None
    checked: Checked | None = None
    seconds: list[Second] = field(default_factory=list)
    log_lines: dict[str, int] = field(default_factory=dict)  # of nodes, warnings and worse, without numbers
    spans: list[tuple[str, float, float]] = field(default_factory=list)  # phases, in s since the course began
    loaded_per_s: float = 0.0
