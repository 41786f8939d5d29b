"""Checkers: judge a history by what each level promises.

What a quorum acknowledged or showed is a *fact*: by its version. On a last-write key every later
operation at QUORUM or ALL must find that version or a greater one (lost writes, reads that go back,
deletes undone); on a first-write key that version or a smaller one, and no later write may win. The
zone test judges the same operations by values alone, knowing nothing of versions.

Writes at ONE and ANY are durable on one replica: after the end, reads at ALL must know them, unless a
disk was lost. SUPERSEDED, WriteTimeout, ReplicaFailure and broken connections are indeterminate:
such a write may show at any time after its start, or never. What was refused must never show.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from basestore.consistency import Level
from tests.simulation import history as h
from tests.simulation.history import FINAL, History, Operation, Violation
from tests.simulation.registers import Act, atomic

INF = float("inf")
INTERVAL_S = 3.0  # durability `interval` syncs every second; a sync may take long


def judge(history: History) -> Iterator[Violation]:
    """Everything that is wrong with a history."""
    by_key: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    scans = []
    for operation in history.operations:
        if operation.kind == h.SCAN:
            scans.append(operation)
        else:
            by_key[operation.bucket, operation.key].append(operation)
    for (bucket, key), operations in by_key.items():
        late = history.late.get((bucket, key), [])
        writers, wrong = _writers(operations, late)
        yield from wrong
        yield from _lost_to_itself(operations, writers)
        yield from _forgot(operations, bucket == "once", late)
        yield from _staler(operations, bucket == "once", history)
        yield from _unsettled(operations)
        if not history.sync and history.crash_s < INF:
            if history.interval:
                yield from _lost(
                    history, _settled(operations, history.crash_s), bucket == "once", stores_lost=True
                )
            continue
        yield from _went_back(operations, bucket == "once")
        taken = _taken(operations, late, bucket == "once")
        yield from _lost(history, taken, bucket == "once", stores_lost=history.stores_lost)
        if bucket == "once":
            yield from _two_winners(operations)
        else:
            acts = acts_of(operations, writers, late)
            fault = atomic(acts)
            if fault:
                yield Violation("linearizable", f"{bucket} {operations[0].key}: {fault}")
    for scan in scans:
        if history.sync or history.crash_s == INF:
            yield from _scanned(scan, by_key)
        if scan.session and scan.outcome == h.FOUND:
            yield from _scan_forgot(scan, by_key)


def _forgot(operations: list[Operation], first: bool, late: Sequence[bytes]) -> Iterator[Violation]:
    """A session reads what it was told of before, or something newer, at every level and node; but nothing
    where all that there was of it were hints that came too late."""
    told: dict[int, list[tuple[float, bytes]]] = defaultdict(list)
    for op in operations:
        if op.session:
            told[op.client] += [(op.end, version) for version in h.told(op)]
    newest = {client: _newest(pairs, first) for client, pairs in told.items()}
    deleted = {op.version for op in operations if op.kind == h.DELETE}
    for op in operations:
        if not op.session or op.kind != h.GET or op.outcome != h.FOUND or op.client not in newest:
            continue
        ends, versions = newest[op.client]
        count = bisect_left(ends, op.start)
        known = versions[count - 1] if count else b""
        if not known or (not op.shown and (known in deleted or known in late)):  # it is not there
            continue
        if not op.version or (op.version > known if first else op.version < known):
            yield Violation("sessions", f"{op}: its session had seen {known.hex('-', 8)}")


def _staler(operations: list[Operation], first: bool, history: History) -> Iterator[Violation]:
    """A read that was told how stale it may be shows every write that had ended longer before it began."""
    stored = [op for op in operations if op.writes and op.outcome == h.STORED and op.acknowledged]
    for op in operations:
        if op.kind != h.GET or op.outcome != h.FOUND or not (op.tell or op.degraded) or op.strong:
            continue
        if op.degraded and not 0 <= op.stale_ms <= op.degrade_ms:
            yield Violation("staleness", f"{op} is told {op.stale_ms} ms, and takes {op.degrade_ms}")
        if op.degraded and first and op.final != FINAL:
            yield Violation("final", f"{op} is degraded, and not final")
        if op.stale_ms_max and not 0 <= op.stale_ms <= op.stale_ms_max and not op.escalated:
            yield Violation("staleness", f"{op} is told {op.stale_ms} ms, and wanted {op.stale_ms_max}")
        if op.stale_ms < 0 or (history.crash_s < INF and not history.sync):
            continue
        before = op.start - op.stale_ms / 1e3
        for write in stored:
            # A quorum need not have what only one replica was asked to hold.
            known = write.end < before and (write.strong or not (history.stores_lost or op.escalated))
            if known and _older(op.version, write.version, first):
                yield Violation("staleness", f"{op} is at most {op.stale_ms} ms old, and lacks {write}")


def _older(version: bytes, than: bytes, first: bool) -> bool:
    """Whether a version that was shown, if any was, is older than another."""
    return not version or (version > than if first else version < than)


def _unsettled(operations: list[Operation]) -> Iterator[Violation]:
    """What was once final is all that is ever shown."""
    finals = sorted((op.end, op.number, op) for op in operations if op.final == FINAL)
    if not finals:
        return
    end, _, settled = finals[0]
    version = settled.winner or settled.version
    for op in operations:
        shown = [op.winner] if op.winner else h.told(op)
        late = op.start > end or op.final == FINAL
        says = op.shown or op.acknowledged or op.winner  # that a hint is kept says nothing of what there is
        if late and shown and shown != [version] and says:
            yield Violation("final", f"{op} shows another than {settled}, which was final")


def _newest(pairs: list[tuple[float, bytes]], first: bool) -> tuple[list[float], list[bytes]]:
    """By time, the newest version that was known."""
    pairs.sort()
    best = min if first else max
    return [end for end, _ in pairs], list(accumulate((version for _, version in pairs), best))


def _settled(operations: list[Operation], crash_s: float) -> list[Operation]:
    """What a sync must have covered before the first crash; and what was read at the end."""
    reads = [op for op in operations if op.kind == h.GET and op.level is Level.ALL]
    return [op for op in operations if op.writes and op.end + INTERVAL_S < crash_s] + reads


def _writers(
    operations: list[Operation], late: list[bytes]
) -> tuple[dict[bytes, Operation], list[Violation]]:
    """Which write each version is of, learned from receipts and from values that were read; and
    what was read that nobody wrote, or that was refused. A write whose hint came too late may be written
    anew, by an operator; and one that was repeated on a first-write key without a version, by its client."""
    wrong = []
    sets = {op.value: op for op in operations if op.kind == h.SET}
    writers: dict[bytes, Operation] = {}
    for op in operations:
        if op.writes and op.version and writers.setdefault(op.version, op) is not op:
            wrong.append(Violation("versions", f"{op} and {writers[op.version]} have one version"))
    for op in operations:
        if op.kind != h.GET or not op.found:
            continue
        writer = sets.get(op.value)
        if writer is None:
            wrong.append(Violation("phantoms", f"{op}: nobody wrote this"))
        elif writer.outcome == h.REFUSED:
            wrong.append(Violation("phantoms", f"{op} shows what was refused: {writer}"))
        elif writers.setdefault(op.version, writer) is not writer:
            wrong.append(Violation("versions", f"{op} and {writers[op.version]}: one version, two values"))
        elif (
            writer.version and writer.version != op.version and writer.version not in late and not writer.anew
        ):
            wrong.append(Violation("versions", f"{op}: {writer} was executed twice"))
        elif writer.start > op.end:
            wrong.append(Violation("phantoms", f"{op} shows what was written later: {writer}"))
    return writers, wrong


def _lost_to_itself(operations: list[Operation], writers: dict[bytes, Operation]) -> Iterator[Violation]:
    """A first write, be it repeated, has lost to another one, if it has."""
    for op in operations:
        if op.outcome == h.LOST and writers.get(op.winner) is op:
            yield Violation("lost to itself", f"{op} is told that it lost to its own {op.winner.hex('-', 8)}")


def acts_of(
    operations: list[Operation], writers: dict[bytes, Operation], late: Sequence[bytes] = ()
) -> list[Act]:
    """The operations of a last-write key as those of a register. A tombstone or an expired value that
    was read and whose writer is not known stands for one of the writes that never got an answer, or for one
    whose hint came too late, and that an operator had written anew."""
    acts = []
    nameless = [op.start for op in operations if op.writes and not op.version and op.outcome != h.REFUSED]
    nameless += [op.start for op in operations if op.version in late and (op.kind == h.DELETE or op.ttl_ms)]
    strangers: dict[bytes, Act] = {}
    for op in operations:
        if op.writes:
            if op.outcome != h.REFUSED:
                sure = op.outcome == h.STORED and op.strong
                acts.append(Act(True, op.number, op.start, op.end if sure else INF))
        elif op.outcome == h.FOUND and op.strong:
            if not op.version:
                acts.append(Act(False, None, op.start, op.end))
                continue
            writer = writers.get(op.version)
            value: object = op.version if writer is None else writer.number
            if writer is None and nameless:
                strangers[op.version] = Act(True, op.version, min(nameless), INF)
            acts.append(Act(False, value, op.start, op.end))
    return [*strangers.values(), *acts]


def _went_back(operations: list[Operation], first: bool) -> Iterator[Violation]:
    """Operations at QUORUM and ALL against the best fact that was established before they began."""
    facts = sorted((op.end, op.number, op) for op in operations if _is_fact(op))
    best: Operation | None = None
    at = 0
    for op in sorted(operations, key=lambda op: (op.start, op.number)):
        if not op.strong or op.outcome not in (h.FOUND, h.STORED) or (first and op.writes):
            continue
        while at < len(facts) and facts[at][0] < op.start:
            fact = facts[at][2]
            if best is None or (fact.version < best.version if first else fact.version > best.version):
                best = fact
            at += 1
        if best is None:
            continue
        if not op.version or (op.version > best.version if first else op.version < best.version):
            yield Violation(_name(op, best), f"{op} comes after {best}")


def _is_fact(op: Operation) -> bool:
    return op.strong and op.version != b"" and op.outcome in (h.FOUND, h.STORED)


def _name(op: Operation, fact: Operation) -> str:
    """Which promise is broken when `op` does not know the fact."""
    if fact.kind == h.DELETE and op.found:
        return "deletes"
    if fact.kind == h.GET:
        return "monotonic reads" if op.client == fact.client else "reads go back"
    return "read your writes" if op.client == fact.client else "lost writes"


def _lost(
    history: History, operations: list[Operation], first: bool, *, stores_lost: bool
) -> Iterator[Violation]:
    """After the end, what was acknowledged at any level is known to all: if it is read at ALL then."""
    at_all = (op for op in operations if op.kind == h.GET and op.level is Level.ALL and op.outcome == h.FOUND)
    last = [op for op in at_all if op.start >= history.end_s]
    if not last:
        return
    final = max(last, key=lambda op: op.start)
    for op in operations:
        if op.outcome != h.STORED or op.end > final.start or (stores_lost and not op.strong):
            continue
        if not final.version or (final.version > op.version if first else final.version < op.version):
            yield Violation("lost writes", f"{op} is not in the end: {final}")


def _taken(operations: list[Operation], late: list[bytes], first: bool) -> list[Operation]:
    """But for writes of which there was only a hint, which came too late, or stood for a better one's."""
    return [
        op
        for op in operations
        if op.acknowledged or not any(_older(op.version, by, first) or op.version == by for by in late)
    ]


def _two_winners(operations: Iterable[Operation]) -> Iterator[Violation]:
    """A first-write key that was won, or shown to be taken, at QUORUM is not won again by a write
    that begins later."""
    facts = sorted((op.end, op.number, op) for op in operations if _is_fact(op))
    if not facts:
        return
    end, _, first = facts[0]
    for op in operations:
        if op.writes and op.outcome == h.STORED and op.strong and op.start > end:
            yield Violation("two winners", f"{op} won after {first}")


def _scan_forgot(scan: Operation, by_key: dict[tuple[str, str], list[Operation]]) -> Iterator[Violation]:
    """A page in a session shows of each key what the session was told of before, or something newer."""
    first = scan.bucket == "once"
    for key, _, version in scan.page:
        told = [
            seen
            for op in by_key.get((scan.bucket, key), [])
            if op.session and op.client == scan.client and op.end < scan.start
            for seen in h.told(op)
        ]
        if told and _older(version, (min if first else max)(told), first):
            yield Violation("sessions", f"{scan} shows {version.hex('-', 8)} of {key}: its session saw more")


def _scanned(scan: Operation, by_key: dict[tuple[str, str], list[Operation]]) -> Iterator[Violation]:
    """Each key of a page keeps the promise of a read; none that was stored for good is missing."""
    first = scan.bucket == "once"
    if scan.outcome != h.FOUND or not scan.strong:
        return
    page = {key: (value, version) for key, value, version in scan.page}
    after, cursor = scan.after.decode(), scan.cursor
    if list(page) != sorted(page) or (page and min(page) <= after):
        yield Violation("scans", f"{scan}: the page is not in order, or goes back behind {after!r}")
    covered = "\U0010ffff" if cursor is None else cursor.decode()
    for (bucket, key), operations in by_key.items():
        if bucket != scan.bucket or not key.startswith(scan.key) or not after < key <= covered:
            continue
        before = [op for op in operations if _is_fact(op) and op.end < scan.start]
        if not before:
            continue
        best = (min if first else max)(before, key=lambda op: op.version)
        if key in page:
            shown = page[key][1]
            if shown > best.version if first else shown < best.version:
                yield Violation("scans", f"{scan} shows an old record of {key}: {best}")
        elif not any(op.kind == h.DELETE or op.ttl_ms for op in operations if op.start < scan.end):
            yield Violation("scans", f"{scan} misses {key}: {best}")
