"""Metrics: what a node has done, counted by the names that operators know. Pure.

Requests count as they go, so counting must cost next to nothing: every series exists from the
start, and a request adds to two of its numbers. All that can be counted is listed here, with what it
means; a name that is not listed is a KeyError. `observe/prometheus.py` renders it in Prometheus's format;
`facts` and `of` carry it to `basestore top`.

Times run from a request's coming in to its answer's going out, in the node that the client asked:
the network between the two is not in them. How a node stands just now is not counted: see
`observe/gauges.py`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Self

OPERATIONS: Final = ("set", "delete", "get", "scan", "transaction", "batch")
LEVELS: Final = ("any", "one", "quorum", "all", "serial")  # by their numbers in `consistency.Level`
SENSELESS_LEVEL: Final = "invalid"

# The upper ends of the buckets that times are counted in; one more holds what is longer.
BOUNDS_S: Final = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05,
    0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0,
)  # fmt: skip

REPAIRS: Final = "repairs_"  # what begins so is one counter by kind for whoever looks
EXCHANGES: Final = "exchanges_"  # likewise
DEGRADED: Final = "reads_degraded_"  # likewise, by the level that was asked for
COUNTERS: Final[Mapping[str, str]] = {
    "hints_created": "Hints stored for members that missed a write.",
    "hints_damaged": "Hints given up because their digest did not fit.",
    "hints_delivered": "Hints whose write the member has taken.",
    "hints_expired": "Hints given up because they had become too old.",
    "hints_dropped": "Hints given up because their bucket was dropped.",
    "hints_late": "Hints that their member takes no more, kept for an operator to decide.",
    "hints_late_rewritten": "Such hints whose value was written anew at an operator's word.",
    "hints_late_superseded": "Such hints dropped at an operator's word, for something better is held.",
    "hints_refused": "Hints not stored because there was no room for them.",
    "clipped_by_bucket": "Requests refused or deferred, for their bucket was over its limit.",
    "clipped_by_key": "Requests refused or deferred, for their key was over its limit.",
    "debt_marks": "Partitions of members marked as lacking writes that no hint is kept of.",
    "debts_ended": "Such marks taken back, for anti-entropy has proven that nothing is lacking.",
    "repairs_read_blocking": "Replicas brought up to date before a read was answered.",
    "repairs_read_background": "Replicas brought up to date after a read was answered.",
    "repairs_write": "Replicas brought up to date because a write had found them behind.",
    "exchanges_same": "Anti-entropy exchanges that found both replicas equal at once.",
    "exchanges_delta": "Anti-entropy exchanges that compared what had changed since the last.",
    "exchanges_full": "Anti-entropy exchanges that compared all that is held.",
    "exchanges_aborted": "Anti-entropy exchanges that ended without a result.",
    "mismatches": "Anti-entropy exchanges that found something silently lost or altered.",
    "feed_answers": "Answers to who follows the changes of this store.",
    "watch_events": "Changes told to clients that watch.",
    "watch_gaps": "Gaps told to clients that watch: deletions had been purged before they were told.",
    "exchange_bytes_sent": "Bytes that anti-entropy exchanges have sent.",
    "member_bytes_sent": "Bytes sent to other members, whatever for.",
    "records_sent": "Records that anti-entropy exchanges have sent.",
    "records_taken": "Records that anti-entropy exchanges have brought.",
    "records_unneeded": "Records that anti-entropy exchanges have brought in vain.",
    "records_dropped": "Records dropped by a forgetful store, because the others had purged them.",
    "records_purged": "Tombstones and expired records dropped, because all replicas had them.",
    "records_of_dropped_buckets": "Records and tombstones of buckets that were dropped, purged.",
    "records_given_up": "Records and tombstones of partitions that this node has given up, dropped.",
    "hints_moved": "Hints for members that have given up their partition, handed on or dropped.",
    "partitions_scrubbed": "Partitions compared with what is on the disk.",
    "leaves_corrected": "Sums that did not fit what is on the disk.",
    "records_healed": "Damaged records replaced by what other replicas hold.",
    "reads_escalated": "Reads at one that were done at quorum, for one replica's answer was too stale.",
    "reads_degraded_quorum": "Reads at quorum that one replica answered, for a quorum did not.",
    "reads_degraded_all": "Reads at all that one replica answered, for not all did.",
    "speculative_retries": "Reads and scans that asked a further replica, for an answer took unusually long.",
    "register_ballots": "Ballots that this node has prepared at the replicas of a register.",
    "register_skips": "Ballots of registers that needed no prepare: promised with the last acceptance.",
    "register_conflicts": "Ballots that this node has refused, for it knew of a later one.",
    "register_forwards": "Requests of registers sent on to the member that writes their row.",
    "register_helps": "Tries of this node to finish a write that it found accepted: another's, or its own.",
    "transaction_helps": "Intents of transactions that were in the way of this node's requests.",
    "transaction_aborts": "Transactions that this node has ended, for they were not decided in time.",
    "transaction_leftovers": "Transactions that this node has tidied up after, for they were left.",
    "batches_left": "Times that this node has gone on with an atomic batch, for a part of it was left here.",
    "batches_spread": "Times that this node has sent copies of parts of an atomic batch to who lacked them.",
    "batches_given_up": "Atomic batches that this node has given up, for nobody holds a part, nor ever will.",
    "leases_ended": "Leases that this node has ended, for their holders had not renewed them.",
    "disk_stalls": "How often no sync of the disk had ended for so long that this node stepped back.",
}

# What becomes of requests. Failures by the code of their error (`errors.py`).
WRITE_OUTCOMES: Final = ("stored", "superseded", "lost", "deferred")
FAILURES: Final[Mapping[int, str]] = {
    1: "invalid_request",
    2: "unavailable",
    3: "overloaded",
    4: "clock_skew",
    5: "write_timeout",
    6: "read_timeout",
    7: "replica_failure",
    9: "too_stale",
    10: "outcome_unknown",
    11: "version_lost",
    14: "contended",
    15: "conflict",
    16: "fenced_off",
}
OUTCOMES: Final[Mapping[str, tuple[str, ...]]] = {
    "set": (*WRITE_OUTCOMES, *FAILURES.values()),
    "delete": (*WRITE_OUTCOMES, *FAILURES.values()),
    "get": ("found", "missing", *FAILURES.values()),
    "scan": ("page", *FAILURES.values()),
    "transaction": ("committed", *FAILURES.values()),
    "batch": ("stored", *FAILURES.values()),
}


class Histogram:
    """Times in buckets: `counts` by the bounds above, `seconds` their sum."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count a time, so often."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += count
        self.seconds += seconds * count

    @property
    def total(self) -> int:
        """How many times were counted."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The time in seconds that this share of them did not exceed, interpolated within its bucket; None
        when there is none. What is beyond the last bound counts as that."""
        rank = share * self.total
        below = 0.0
        for bound, lower, count in zip(BOUNDS_S, (0.0, *BOUNDS_S), self.counts, strict=False):
            if count and rank <= below + count:
                return lower + (bound - lower) * (rank - below) / count
            below += count
        return BOUNDS_S[-1] if self.total else None

    def merge(self, other: "Histogram", sign: int = 1) -> None:
        """Add another's times; with sign -1, take them out."""
        self.counts = [mine + sign * theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += sign * other.seconds

    def encode(self) -> str:
        """The sum and the counts as words."""
        return " ".join(map(str, (self.seconds, *self.counts)))

    @classmethod
    def decode(cls, text: str) -> Self:
        """What `encode` made; ValueError."""
        seconds, *counts = text.split()
        histogram = cls()
        if len(counts) != len(histogram.counts):
            raise ValueError("a histogram with other buckets")
        histogram.seconds, histogram.counts = float(seconds), list(map(int, counts))
        return histogram


class Series(NamedTuple):
    """The requests of one operation at one level. `ideal`: when this level would have been met,
    whatever level was asked for."""

    outcomes: dict[str, int]
    durations: Histogram
    ideal: Histogram

    @classmethod
    def of(cls, operation: str) -> Self:
        return cls(dict.fromkeys(OUTCOMES[operation], 0), Histogram(), Histogram())


class Metrics:
    """Counters of one node since it was started."""

    __slots__ = ("_senseless", "_series", "counts")

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTERS, 0)
        self._series = {
            (operation, level): Series.of(operation)
            for operation in OPERATIONS
            for level in range(len(LEVELS))
        }
        self._senseless = {operation: Series.of(operation) for operation in OPERATIONS}

    def count(self, name: str, amount: int = 1) -> None:
        """Something happened."""
        self.counts[name] += amount

    def answered(self, operation: str, level: int, outcome: str, seconds: float, count: int = 1) -> None:
        """So many clients have had their answer, `seconds` after they asked."""
        outcomes, durations, _ = self._series[operation, level]
        outcomes[outcome] += count
        # As `Histogram.add`, without its call: this is on the way of every request.
        durations.counts[bisect_left(BOUNDS_S, seconds)] += count
        durations.seconds += seconds * count

    def refused(self, operation: str, level: int, code: int) -> None:
        """A request was refused before anything was done, with an error of this code. It took no time
        worth counting. `level` is what the client said, sense or not."""
        series = self._series.get((operation, level)) or self._senseless[operation]
        series.outcomes[FAILURES[code]] += 1

    def deferred(self, operation: str) -> None:
        """A write at ANY was kept to be done later. Its client waits for a sync alone: no time of a write."""
        self._series[operation, 0].outcomes["deferred"] += 1

    def reached(self, operation: str, levels: Iterable[int], seconds: float, count: int = 1) -> None:
        """So many requests would have met these levels by now, `seconds` after it was asked: its ideal-level
        latency, whatever level was asked for."""
        for level in levels:
            self._series[operation, level].ideal.add(seconds, count)

    # --- looking -----------------------------------------------------------------------------

    def series(self) -> Iterator[tuple[str, str, Series]]:
        """Operation, level and numbers of every series in which something was counted."""
        for operation, level, each in self._places():
            if any(each.outcomes.values()) or any(each.ideal.counts):
                yield operation, level, each

    def facts(self) -> dict[str, str]:
        """All of it as names and values, less what is zero."""
        facts = {f"count {name}": str(count) for name, count in self.counts.items() if count}
        for operation, level, each in self.series():
            where = f"{operation} {level}"
            facts |= {f"requests {where} {name}": str(n) for name, n in each.outcomes.items() if n}
            facts[f"durations {where}"] = each.durations.encode()
            facts[f"ideal {where}"] = each.ideal.encode()
        return facts

    @classmethod
    def of(cls, facts: Mapping[str, str]) -> Self:
        """What `facts` told. Names that are not known here are passed over: the node may be newer.
        ValueError when a value makes no sense."""
        metrics = cls()
        for name in metrics.counts:
            metrics.counts[name] = int(facts.get(f"count {name}", "0"))
        for operation, level, each in metrics._places():
            where = f"{operation} {level}"
            for outcome in each.outcomes:
                each.outcomes[outcome] = int(facts.get(f"requests {where} {outcome}", "0"))
            for kind, histogram in (("durations", each.durations), ("ideal", each.ideal)):
                if f"{kind} {where}" in facts:
                    histogram.merge(Histogram.decode(facts[f"{kind} {where}"]))
        return metrics

    def since(self, earlier: Self) -> Self:
        """What was counted after `earlier`, of the same node."""
        later = type(self).of(self.facts())
        for name, count in earlier.counts.items():
            later.counts[name] -= count
        for (_, _, each), (_, _, before) in zip(later._places(), earlier._places(), strict=True):
            for outcome, count in before.outcomes.items():
                each.outcomes[outcome] -= count
            each.durations.merge(before.durations, -1)
            each.ideal.merge(before.ideal, -1)
        return later

    def _places(self) -> list[tuple[str, str, Series]]:
        """Every series, used or not, in one order."""
        named = [(operation, LEVELS[level], each) for (operation, level), each in self._series.items()]
        return named + [(operation, SENSELESS_LEVEL, each) for operation, each in self._senseless.items()]
