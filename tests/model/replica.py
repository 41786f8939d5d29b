"""Replica: what one holds of the partition, and by which guard a record may come in.

Owns the store, its image on disk, and when promises leave. What happens between two replicas is
`session`'s.

    stable <= closed <= clock - lag
    at or below stable   every version is on all whole replicas, for good: copies have settled
    at or below closed   nothing will come but what some replica has applied: first deliveries are refused
"""

import enum
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from basestore.repair.rule import Rule
from tests.model.record import KEYS, STAMPS, Record, covers, digest

LAG = 60  # of the closed stamp behind the clock
SILENCE_MAX = 120  # how long a name in a heartbeat counts
WHOLE = 1 << 62  # above all stamps


class Way(enum.Enum):
    """How a record comes in."""

    DIRECT = "direct"  # a coordinator's first delivery
    UNSURE = "unsure"  # a hint of a write that nobody is known to have; the client was told "unknown"
    ONLY_COPY = "only copy"  # the same, but the client was told that it is kept
    COPY = "copy"  # what some replica is known to have applied: hints, read and write repair
    SESSION = "session"


class Answer(enum.Enum):
    """What a replica says of a record. Both refusals are for good: the guards never go back."""

    APPLIED = "applied"  # or held already
    SUPERSEDED = "superseded"  # something better is held; the record itself may be nowhere
    CLOSED = "closed"
    SETTLED = "settled"


class Row(NamedTuple):
    record: Record
    seq: int


class Certificate(NamedTuple):
    """All that this replica held at `seq`, or better, the peer holds, and the other way round."""

    peer_id: int
    seq: int
    peer_seq: int
    closed: int  # this replica's, enforced since the snapshot
    tag: tuple[int, ...]  # the store ids that both knew of from the snapshots to the end; else empty


class Claim(NamedTuple):
    """The row of a replica, gossiped: what it had at or below `closed`, all stores of `tag` have."""

    closed: int
    tag: tuple[int, ...]


@dataclass
class Store:
    """What one batch of the engine changes, all at once."""

    ids: list[int]  # the newest store id known of each replica, this one's among them
    rows: dict[int, Row] = field(default_factory=dict)
    seq: int = 0
    closed: int = 0
    stable: int = 0
    certificates: dict[int, Certificate] = field(default_factory=dict)
    forgetful: bool = False
    recovered: frozenset[int] = frozenset()  # whole peers with which this forgetful store was certified
    met: frozenset[int] = frozenset()  # all peers with which it was
    dropped: bool = False  # what peers had purged, since it became forgetful
    kept: int = WHOLE  # what a forgetful store lacks at or below it, and below `stable`, was purged

    @property
    def complete(self) -> int:
        """Up to which stamp this store, if it is forgetful, lacks only what was purged."""
        return min(self.kept, self.stable)

    @property
    def purgeable(self) -> int:
        """Of what a forgetful store lacks beyond, its tombstone may be all that keeps an older value away."""
        return self.complete if self.forgetful else self.stable

    def copy(self) -> "Store":
        return replace(self, ids=[*self.ids], rows={**self.rows}, certificates={**self.certificates})


@dataclass
class Snapshot:
    """What a replica held at an instant, kept by what has been overwritten since."""

    seq: int
    closed: int
    stable: int
    tag: tuple[int, ...]
    root: int
    rows: dict[int, Record]  # for the judge, who trusts no copy-on-write
    before: dict[int, Record | None]


class Replica:
    """One of the replicas of the partition, at its `place` among them."""

    def __init__(self, place: int, ids: list[int], rule: Rule, counts: Counter[str]) -> None:
        self.place = place
        self.rule = rule
        self.counts = counts
        self.store = Store(list(ids))
        self.disk = self.store.copy()
        self.backup = self.store.copy()
        self.skew = 0
        self.waiting: list[Callable[[], None]] = []  # promises: they leave when all is on disk
        self.snapshots: list[Snapshot] = []
        self.claims: dict[int, Claim] = {}
        self.named: dict[int, tuple[int, int]] = {}  # by holder: its oldest only copy, when heard
        self.touched: set[int] = set()  # keys that the judge has yet to look at
        self.purged: list[tuple[int, Record]] = []

    @property
    def id(self) -> int:
        return self.store.ids[self.place]

    def held(self, key: int) -> Record | None:
        row = self.store.rows.get(key)
        return row.record if row else None

    # Ways in

    def take(self, key: int, record: Record, way: Way, holders: Collection[int] = ()) -> Answer | None:
        """The one door. `holders`: stores that are known to have applied it. Forgetful: silence."""
        if self.is_silent(way):
            self.counts["silent while forgetful"] += 1
            return None
        held = self.held(key)
        if covers(self.rule, held, record):
            return Answer.APPLIED if held == record else Answer.SUPERSEDED
        refusal = self.refusal(record, way, holders)
        if refusal is None:
            self.put(key, record)
            return Answer.APPLIED
        self.counts[f"{way.value} refused: {refusal.value}"] += 1
        return refusal

    def is_silent(self, way: Way) -> bool:
        return self.store.forgetful and way is not Way.SESSION

    def refusal(self, record: Record, way: Way, holders: Collection[int]) -> Answer | None:
        """The guards, for what would be stored."""
        if way is Way.SESSION:
            return None
        if way is Way.COPY and self.is_vouched(holders):
            return Answer.SETTLED if record.stamp <= self.store.stable else None
        return Answer.CLOSED if record.stamp <= self.store.closed else None

    def is_vouched(self, holders: Collection[int]) -> bool:
        """Whether a store that applied it is still there: only its sessions carry it to all others. Were
        all wiped, the others may have gone on to a stable stamp without it."""
        vouched = any(store_id in self.store.ids for store_id in holders)
        self.counts["copy not vouched for"] += not vouched
        return vouched

    def put(self, key: int, record: Record) -> None:
        self.keep_before(key)
        self.store.seq += 1
        self.store.rows[key] = Row(record, self.store.seq)
        self.touched.add(key)

    def drop(self, key: int) -> None:
        self.keep_before(key)
        del self.store.rows[key]
        self.touched.add(key)

    def ghosts(self, stamps: Collection[int], floor: int) -> set[int]:
        """Keys of what a peer that is more complete, and has these versions, settled without."""
        rows = self.store.rows.items()
        return {key for key, (record, _) in rows if record.stamp <= floor and record.stamp not in stamps}

    def keep_before(self, key: int) -> None:
        """Copy on write: open snapshots keep what they had."""
        for snapshot in self.snapshots:
            snapshot.before.setdefault(key, self.held(key))

    # Stamps and purge

    def close(self, now: int) -> int:
        """The stamp at or below which direct deliveries are refused from here on."""
        names = [stamp - 1 for stamp, heard in self.named.values() if now - heard <= SILENCE_MAX]
        limit = (now + self.skew - LAG) * STAMPS
        self.counts["closed held back by an only copy"] += min([limit, *names]) < limit
        self.store.closed = max(self.store.closed, min([limit, *names]))
        return self.store.closed

    def prepare(self, floor: int) -> bool:
        """Adopt the session's floor and purge up to it; False, with nothing done, when open snapshots
        forbid the purge. A forgetful replica has one at a time."""
        if self.snapshots and (self.store.forgetful or self.due(max(floor, self.store.stable))):
            self.counts["session refused: purge due"] += 1
            return False
        self.adopt(floor)
        self.purge()
        return True

    def adopt(self, stable: int) -> None:
        if stable > self.store.stable:
            self.counts["stable adopted"] += 1
            if self.store.forgetful:
                self.freeze()
            self.store.stable = stable
            self.store.closed = max(self.store.closed, stable)

    def freeze(self) -> None:
        """It hears the stamp before it has got what the other one holds."""
        self.store.kept = self.store.complete

    def due(self, stable: int) -> list[int]:
        rows = self.store.rows.items()
        return [key for key, (record, _) in rows if record.mortal and record.due <= stable]

    def purge(self) -> None:
        """Drop what is due. Never while a snapshot is open: the peer would miss what it was promised."""
        if self.snapshots:
            return
        for key in self.due(self.store.purgeable):
            record = self.store.rows[key].record
            self.counts["purged tombstone" if record.value is None else "purged expired"] += 1
            self.purged.append((key, record))
            self.drop(key)

    def claim(self) -> Claim:
        """This replica's row: the least of its closed stamps in certificates of the present tag."""
        tag = tuple(self.store.ids)
        found = [self.store.certificates.get(peer) for peer in self.peers()]
        if self.store.forgetful:
            return Claim(0, tag)
        return Claim(min(item.closed if item and item.tag == tag else 0 for item in found), tag)

    def settle(self) -> None:
        """Compute the stable stamp from all claims, and purge."""
        self.claims[self.place] = self.claim()
        tag = tuple(self.store.ids)
        closed = [claim.closed for claim in self.claims.values() if claim.tag == tag]
        self.counts["claims of other tags"] += len(closed) < len(self.claims) == len(tag)
        if len(closed) == len(tag):
            self.counts["stable advanced"] += min(closed) > self.store.stable
            self.store.stable = max(self.store.stable, min(closed))
        self.purge()

    def peers(self) -> list[int]:
        return [place for place in range(len(self.store.ids)) if place != self.place]

    def learn(self, place: int, store_id: int) -> bool:
        """A peer's store id, as it says hello; whether that is news."""
        news = self.store.ids[place] != store_id
        self.store.ids[place] = store_id
        return news

    def recover_with(self, peer: int, closed: int, needed: int) -> None:
        """A certificate with a whole peer: so many, and this store answers again."""
        self.store.recovered |= {peer}
        self.store.closed = max(self.store.closed, closed)
        self.meet(peer, needed)

    def meet(self, peer: int, needed: int) -> None:
        """A certificate with a peer: one with each, whatever its state, will do too."""
        self.store.met |= {peer}
        if len(self.store.recovered) >= needed or len(self.store.met) == len(self.peers()):
            self.counts["recovered"] += 1
            self.counts["recovered from all others"] += len(self.store.recovered) < needed
            self.store.forgetful = False
            self.touched.update(KEYS)

    def found_complete(self, stamp: int) -> None:
        """It was found to lack only what was purged, up to this stamp. What it has dropped for that, others
        that are not whole may still hold: these are to be met again."""
        if stamp > self.store.complete:
            self.counts["complete up to a higher stamp"] += 1
            self.store.kept = stamp
            self.meet_again()

    def meet_again(self) -> None:
        self.keep_only(self.store.recovered)

    def took(self, peer: int) -> None:
        """It has taken what another forgetful store had: perhaps what others have purged."""
        self.keep_only(frozenset({peer}))

    def keep_only(self, peers: frozenset[int]) -> None:
        """What was proven with others is void."""
        store = self.store
        store.met, store.recovered = store.met & peers, store.recovered & peers
        store.certificates = {peer: held for peer, held in store.certificates.items() if peer in peers}

    # Snapshots

    def snapshot(self, now: int, ghosts: Collection[int] = ()) -> Snapshot:
        """To be taken only after `prepare`. Ghosts are left out."""
        store = self.store
        rows = {key: row.record for key, row in store.rows.items() if key not in ghosts}
        root = sum(digest(key, record) for key, record in rows.items())
        closed = 0 if store.forgetful else self.close(now)
        before = dict.fromkeys(ghosts)
        opened = Snapshot(store.seq, closed, store.stable, tuple(store.ids), root, rows, before)
        self.snapshots.append(opened)
        return opened

    def had(self, snapshot: Snapshot, key: int) -> Record | None:
        return snapshot.before[key] if key in snapshot.before else self.held(key)

    def release(self, snapshot: Snapshot | None) -> None:
        self.snapshots = [other for other in self.snapshots if other is not snapshot]

    # Disk

    def promise(self, send: Callable[[], None]) -> None:
        """To be sent once all that stands now is on disk."""
        self.waiting.append(send)

    def write_back(self) -> None:
        """The system writes to disk by itself, and tells nobody."""
        self.disk = self.store.copy()

    def sync(self) -> None:
        self.write_back()
        waiting, self.waiting = self.waiting, []
        for send in waiting:
            send()

    def crash(self) -> None:
        """What is not on disk is gone, promises and snapshots too. Sequence numbers are reserved ahead."""
        seq = self.store.seq
        self.store = self.disk.copy()
        self.store.seq = seq
        self.disk.seq = seq
        self.forget()

    def lose(self, image: Store | None, store_id: int) -> None:
        """An empty disk, or an old copy of the store: it starts over under a new store id."""
        ids = [*self.store.ids]
        self.store = image.copy() if image and self.is_last(image) else Store(ids)
        self.store.ids = ids
        self.store.ids[self.place] = store_id
        self.store.certificates = {}
        self.store.forgetful, self.store.recovered, self.store.met = True, frozenset(), frozenset()
        self.store.dropped = False
        self.disk = self.store.copy()
        self.forget()

    def is_last(self, image: Store) -> bool:
        """Whether it is a copy of the store that the peers last knew. What only an older one had may be
        below stable stamps that were reached without it: such a copy is no better than an empty disk."""
        self.counts["copy of an older store"] += image.ids[self.place] != self.id
        return image.ids[self.place] == self.id

    def forget(self) -> None:
        self.waiting, self.snapshots = [], []
        self.claims, self.named = {}, {}
        self.touched.update(KEYS)
