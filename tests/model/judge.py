"""Judge: sees all replicas at once, and says what must never be seen.

It looks at a key when some replica's record of it has changed, and at all keys when a replica has
become whole, has crashed, or the greatest stable stamp has moved. Records of forgetful replicas prove
nothing and need not be anything.
"""

from collections import Counter
from collections.abc import Sequence

from basestore.repair.rule import Rule
from tests.model.coordinator import Write
from tests.model.record import KEYS, Record, covers
from tests.model.replica import WHOLE, Replica
from tests.model.session import Side


class Violation(Exception):
    """The protocol, or its model, is wrong."""


class Judge:
    """`corrupted`: rows have been damaged on purpose, so only the end is judged."""

    def __init__(self, replicas: Sequence[Replica], rule: Rule, counts: Counter[str]) -> None:
        self.replicas = replicas
        self.rule = rule
        self.counts = counts
        self.corrupted = False
        self.stable = 0  # the greatest that any replica has had
        self.purged: dict[int, Record] = {}  # by key, the best
        self.final: dict[int, Record] = {}  # first write wins
        self.acknowledged: dict[int, Record] = {}  # by key, the best
        self.kept: list[Write] = []  # only copies that clients count on

    def demand(self, truth: object, law: str, *details: object) -> None:
        if not truth:
            raise Violation(f"{law}: {', '.join(map(str, details))}")

    def look(self) -> None:
        """After every step."""
        stable = max(self.stable, *(replica.store.stable for replica in self.replicas))
        keys = set(KEYS) if stable > self.stable else set()
        self.stable = stable
        for replica in self.replicas:
            keys |= replica.touched
            replica.touched.clear()
            for key, record in replica.purged:
                self.purge(replica, key, record)
            replica.purged.clear()
        if not self.corrupted:
            for key in keys:
                self.look_at(key)

    def acknowledge(self, write: Write) -> None:
        """A quorum has applied it."""
        if not covers(self.rule, self.acknowledged.get(write.key), write.record):
            self.acknowledged[write.key] = write.record
            self.look_at_acknowledged(write.key)

    def look_at_acknowledged(self, key: int) -> None:
        """A strict quorum of whole replicas must meet it."""
        record = self.acknowledged.get(key)
        if record is None or self.corrupted:
            return
        whole = [replica for replica in self.replicas if not replica.store.forgetful]
        lacking = [replica.place for replica in whole if not self.has(replica, key, record)]
        missed = len(lacking) > (len(self.replicas) - 1) // 2
        self.demand(not missed, "acknowledged write missed by a quorum", key, record, lacking)

    def lose(self, waiting: set[int]) -> None:
        """All stores are in doubt at once: what none has is lost, and purged is only what one knows to be.
        `waiting`: stamps of writes of which hints are kept."""
        complete = max(map(self.complete, self.replicas))
        self.stable = max(replica.store.stable for replica in self.replicas)
        self.purged = {key: record for key, record in self.purged.items() if record.due <= complete}
        self.final = {key: record for key, record in self.final.items() if self.is_left(key, record)}
        self.acknowledged = {
            key: record for key, record in self.acknowledged.items() if self.is_left(key, record)
        }
        self.kept = [
            write
            for write in self.kept
            if write.record.stamp in waiting or self.is_left(write.key, write.record)
        ]

    @staticmethod
    def complete(replica: Replica) -> int:
        """What the store says, whatever the protocol makes of it."""
        return min(replica.store.kept, replica.store.stable)

    def is_left(self, key: int, record: Record) -> bool:
        return any(self.has(replica, key, record) for replica in self.replicas)

    def purge(self, replica: Replica, key: int, record: Record) -> None:
        upto = self.complete(replica) if replica.store.forgetful else replica.store.stable
        due = record.mortal and max(record.stamp, record.expiry) <= upto
        self.demand(due and self.rule is Rule.LAST_WRITE_WINS, "purged what was not due", key, record)
        if not covers(self.rule, self.purged.get(key), record):
            self.purged[key] = record

    def has(self, replica: Replica, key: int, record: Record) -> bool:
        """On its disk or in memory, or better, or rightly purged."""
        held = covers(self.rule, replica.held(key), record)
        return held or covers(self.rule, self.purged.get(key), record)

    def look_at(self, key: int) -> None:
        self.look_at_acknowledged(key)
        whole = [replica for replica in self.replicas if not replica.store.forgetful]
        purged = self.purged.get(key)
        for replica in whole:
            record = replica.held(key)
            if record is None:
                continue
            beaten = record != purged and covers(self.rule, purged, record)
            self.demand(not beaten, "resurrection", replica.place, key, record, purged)
            if record.stamp <= self.stable:
                for other in whole:
                    has = self.has(other, key, record)
                    self.demand(has, "stable unsound", self.stable, key, record, replica.place, other.place)
            if self.rule is Rule.FIRST_WRITE_WINS:
                self.look_at_final(replica, key, record)

    def look_at_final(self, replica: Replica, key: int, record: Record) -> None:
        if record.stamp <= replica.store.stable:
            self.counts["first write final"] += key not in self.final
            self.final.setdefault(key, record)
        final = self.final.get(key)
        changed = final is not None and record.stamp < final.stamp
        self.demand(not changed, "final win changed", replica.place, key, record, final)

    def certified(self, mine: Side, theirs: Side) -> None:
        """What either side's snapshot had must be on the other's disk, or better, or rightly purged."""
        unsound = "certificate unsound"
        for side, other in ((mine, theirs), (theirs, mine)):
            peer = other.replica
            if self.corrupted or side.shot is None or peer.id != side.peer_id:
                continue
            for key, record in side.shot.rows.items():
                row = peer.disk.rows.get(key)
                held = covers(self.rule, row.record if row else None, record)
                purged = covers(self.rule, self.purged.get(key), record)
                dropped = side.replica.store.forgetful and side.replica.held(key) != record
                self.demand(held or purged or dropped, unsound, side.replica.place, peer.place, key, record)

    def concluded(self, side: Side) -> None:
        if side.mine and side.theirs and side.mine.root != side.theirs.root:
            # A forgetful store may have dropped since what both had held, for it was purged, or not yet.
            forgetful = not side.complete == side.peer_complete == WHOLE
            dropped = any(
                replica.store.dropped or (replica.store.forgetful and replica.due(replica.store.stable))
                for replica in self.replicas
            )
            fair = self.corrupted or (side.delta and forgetful and dropped)
            self.demand(fair, "virtual roots unequal", side.replica.place, side.peer)

    def end(self, waiting: set[int]) -> None:
        """After everything healed; `waiting`: stamps of writes of which hints are kept, late ones."""
        first = self.replicas[0]
        for replica in self.replicas:
            same = all(replica.held(key) == first.held(key) for key in KEYS)
            self.demand(same, "not converged", replica.place)
            self.demand(not replica.store.forgetful, "not recovered", replica.place)
            for key, (record, _) in replica.store.rows.items():
                gone = not record.mortal or record.due > replica.store.stable
                self.demand(gone, "never purged", replica.place, key, record)
        if self.corrupted:
            return
        for key, record in self.acknowledged.items():
            self.demand(self.has(first, key, record), "acknowledged write lost", key, record)
        for write in self.kept:
            safe = write.record.stamp in waiting or self.has(first, write.key, write.record)
            self.demand(safe, "hint lost", write)
