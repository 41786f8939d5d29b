"""Session: two replicas find what differs since their last certificate, exchange it, and certify.

    opener                           acceptor
    SYN     (when durable)      ->   adopts the greater stable stamp, purges, snapshots
    certifies                   <-   equal roots: SAME (when durable), and certifies
                                     else it LISTs, or says TURN and the opener does

    lister                           comparer
    LIST    versions above the base -> adopts, purges, snapshots; if less complete, without its ghosts
    merges                      <-   WANT, and what the lister lacks
    what is wanted              ->   merges
    CERT    (when durable)     <->   CERT (when durable): equal virtual roots certify the *snapshots*

Both say up to which stamp they are complete (`Store.complete`): above all stamps while they are whole. Who is
complete up to a lower one compares, and drops what it alone has at or below the other's: its ghosts.

The virtual root of a side is the root of both snapshots merged: its own, plus, for each entry whose
snapshot version wins over what its own snapshot had, the difference. Whatever is written meanwhile
changes neither. A side that cannot go on closes in silence, and the old certificate holds.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from tests.model.record import KEYS, Record, covers, digest
from tests.model.replica import WHOLE, Certificate, Replica, Row, Snapshot, Way


class Base(NamedTuple):
    """What some certificate of the two stores certified: a sequence number of each."""

    opener: int
    acceptor: int


class Cert(NamedTuple):
    """A side's snapshot and its root, virtual at the end of a session."""

    root: int
    seq: int
    closed: int
    tag: tuple[int, ...]  # empty once the side knows of a newer store than at the snapshot
    forgetful: bool


class Syn(NamedTuple):
    cert: Cert
    stable: int
    base: Base | None
    complete: int


class Same(NamedTuple):
    cert: Cert
    stable: int
    complete: int


class Turn(NamedTuple):
    """The opener shall list."""

    stable: int
    base: Base | None
    complete: int


class List(NamedTuple):
    """Versions only, neither keys nor values."""

    stamps: frozenset[int]
    stable: int
    base: Base | None
    complete: int


class Want(NamedTuple):
    stamps: frozenset[int]


class Room(NamedTuple):
    """To itself: there is room to send these keys by now. Other writes came between."""

    keys: list[int]


class Entry(NamedTuple):
    key: int
    now: Record
    then: Record  # what the sender's snapshot had


class Entries(NamedTuple):
    entries: list[Entry]


Message = Syn | Same | Turn | List | Want | Room | Entries | Cert


class Side:
    """One replica's end of a session. `needed`: whole peers that make a forgetful replica whole."""

    def __init__(
        self, replica: Replica, peer: int, *, opener: bool, needed: int, post: Callable[[int, Message], None]
    ) -> None:
        self.replica = replica
        self.peer = peer
        self.peer_id = replica.store.ids[peer]
        self.opener = opener
        self.needed = needed
        self.post = post  # to a place, perhaps its own
        self.lister = False
        self.shot: Snapshot | None = None
        self.root = 0
        self.complete = WHOLE
        self.peer_complete = WHOLE
        self.delta = False  # compared by a list of changes
        self.ghosts: set[int] = set()  # keys
        self.wanted: frozenset[int] = frozenset()
        self.beaten: set[int] = set()  # keys of which the peer's snapshot had better
        self.mine: Cert | None = None  # as it was sent
        self.theirs: Cert | None = None
        self.certificate: Certificate | None = None
        self.over = False

    def receive(self, message: Message, now: int) -> None:
        if isinstance(message, Syn | Same | Turn | List):
            self.peer_complete = message.complete
        if self.is_too_late():
            self.close()
            return
        match message:
            case Syn():
                self.answer(message, now)
            case Same():
                self.replica.adopt(message.stable)
                self.certify(self.cert(), message.cert)
            case Turn():
                if self.begin(message.stable, now):
                    self.say_list(message.base)
            case List():
                self.compare(message, now)
            case Want():
                self.wanted = message.stamps
            case Room():
                self.send(Entries(self.entries(message.keys)))
                if self.lister:
                    self.promise(self.say_cert)
            case Entries():
                self.merge(message.entries)
            case Cert():
                self.theirs = message
                self.conclude()

    def send(self, message: Message) -> None:
        self.post(self.peer, message)

    def promise(self, say: Callable[[], None]) -> None:
        """Say it once all that stands now is durable: the peer certifies on this word."""
        self.replica.promise(lambda: None if self.over else say())

    def close(self) -> None:
        self.over = True
        self.replica.release(self.shot)

    # The snapshot

    def begin(self, floor: int, now: int, foreign: frozenset[int] | None = None) -> bool:
        """Adopt the floor, purge, and snapshot anew; or give up. Who is less complete leaves out its ghosts:
        what is not among the `foreign` versions, all that the peer has, and was purged there."""
        self.replica.release(self.shot)
        if not self.replica.prepare(floor):
            self.close()
            return False
        if foreign is not None:
            self.ghosts = self.replica.ghosts(foreign, min(floor, self.peer_complete))
        self.shot = self.replica.snapshot(now, self.ghosts)
        self.root = self.shot.root
        return True

    def taken(self) -> Snapshot:
        assert self.shot is not None
        return self.shot

    def cert(self) -> Cert:
        shot, store = self.taken(), self.replica.store
        tag = shot.tag if shot.tag == tuple(store.ids) else ()
        return Cert(self.root, shot.seq, shot.closed, tag, store.forgetful)

    # Opening

    def open(self, now: int) -> None:
        self.measure()
        if self.begin(self.replica.store.stable, now):
            syn = Syn(self.cert(), self.replica.store.stable, self.base(), self.complete)
            self.promise(lambda: self.send(syn))

    def measure(self) -> None:
        """How complete this side is, from beginning to end."""
        store = self.replica.store
        self.complete = store.complete if store.forgetful else WHOLE

    def base(self) -> Base | None:
        """By this side's newest certificate with the peer's present store."""
        found = self.replica.store.certificates.get(self.peer)
        if found is None or found.peer_id != self.peer_id:
            return None
        return Base(found.seq, found.peer_seq) if self.opener else Base(found.peer_seq, found.seq)

    def answer(self, syn: Syn, now: int) -> None:
        """With SAME, LIST or TURN."""
        store = self.replica.store
        self.measure()
        if not self.begin(syn.stable, now):
            return self.close()
        self.replica.counts["session of two forgetful"] += store.forgetful and syn.cert.forgetful
        bases = [base for base in (syn.base, self.base()) if base and self.is_comparable()]
        base = max(bases, default=None)
        if self.root == syn.cert.root:
            return self.promise(lambda: self.say_same(syn))
        self.replica.counts["session: delta" if base else "session: FULL"] += 1
        even = self.complete == self.peer_complete
        if self.complete < self.peer_complete or (even and self.root % 2):  # as if by size of the deltas
            self.replica.release(self.shot)
            return self.send(Turn(store.stable, base, self.complete))
        return self.say_list(base)

    def is_comparable(self) -> bool:
        """Whether a list of changes will do: of two forgetful ones one may hold from before what the other
        has purged."""
        return self.complete == self.peer_complete or not self.is_among_forgetful()

    def is_too_late(self) -> bool:
        """Whether this store is whole by now: nobody would find out any more what it takes from one that is
        not, and others have purged."""
        return self.is_among_forgetful() and not self.replica.store.forgetful

    def is_among_forgetful(self) -> bool:
        return WHOLE not in (self.complete, self.peer_complete)

    def say_same(self, syn: Syn) -> None:
        self.replica.counts["session: SAME"] += 1
        cert = self.cert()
        self.send(Same(cert, self.taken().stable, self.complete))
        self.certify(cert, syn.cert)

    # Comparing

    def say_list(self, base: Base | None) -> None:
        self.lister, self.delta = True, base is not None
        stamps = frozenset(row.record.stamp for row in self.above(base).values())
        self.send(List(stamps, self.taken().stable, base, self.complete))

    def above(self, base: Base | None) -> dict[int, Row]:
        """What was stored after it, as the snapshot is taken."""
        seq = 0 if base is None else base.opener if self.opener else base.acceptor
        return {key: row for key, row in self.replica.store.rows.items() if row.seq > seq}

    def compare(self, message: List, now: int) -> None:
        if self.is_overtaken(message):
            self.replica.counts["session given up: floor moved"] += 1
            return self.close()
        self.delta = message.base is not None
        if not self.begin(message.stable, now, self.foreign(message)):
            return None
        self.wanted = message.stamps - {record.stamp for record in self.taken().rows.values()}
        self.send(Want(self.wanted))
        delta = self.above(message.base).items()
        lacking = [k for k, row in delta if row.record.stamp not in message.stamps and k not in self.ghosts]
        return self.post(self.replica.place, Room(lacking))

    def is_overtaken(self, message: List) -> bool:
        """Whether this side may have purged what the lister's snapshot still has."""
        return message.stable < self.replica.store.stable

    def foreign(self, message: List) -> frozenset[int] | None:
        """All that the peer has, if that is more complete. A delta does not say."""
        return message.stamps if self.complete < self.peer_complete and message.base is None else None

    # Exchange

    def entries(self, keys: list[int]) -> list[Entry]:
        """The present records, and what the snapshot had where that is another."""
        found = []
        for key in keys:
            then = self.replica.had(self.taken(), key)
            if then is not None:
                found.append(Entry(key, self.replica.held(key) or then, then))
        self.replica.counts["entry changed since the snapshot"] += sum(now != then for _, now, then in found)
        return found

    def merge(self, entries: list[Entry]) -> None:
        """Ghosts give way to what comes; the others go only once the roots are equal, for a session that
        breaks off must not leave a hole."""
        self.lay({key for key, _, _ in entries})
        for key, now, then in entries:
            had = self.replica.had(self.taken(), key)
            self.replica.counts["merged into an overwritten row"] += key in self.taken().before
            if not covers(self.replica.rule, had, then):
                self.root += digest(key, then) - digest(key, had)
                self.beaten.add(key)
            self.replica.take(key, now, Way.SESSION)
        if entries and self.is_among_forgetful():
            self.replica.took(self.peer)
        if self.lister:
            self.post(self.replica.place, Room([key for key in KEYS if self.is_owed(key)]))
        else:
            self.promise(self.say_cert)

    def lay(self, keys: set[int]) -> None:
        for key in self.ghosts & keys:
            self.replica.counts["ghost dropped"] += 1
            self.replica.drop(key)
        self.ghosts -= keys

    def is_owed(self, key: int) -> bool:
        """Whether the comparer wants what the snapshot had, and its own snapshot had nothing better."""
        had = self.replica.had(self.taken(), key)
        owed = had is not None and had.stamp in self.wanted
        self.replica.counts["wanted, but beaten by a push"] += owed and key in self.beaten
        return owed and key not in self.beaten

    # Certifying

    def say_cert(self) -> None:
        self.mine = self.cert()
        self.send(self.mine)
        self.conclude()

    def conclude(self) -> None:
        if self.mine is None or self.theirs is None:
            return
        if self.mine.root == self.theirs.root:
            self.replica.store.dropped |= len(self.ghosts) > 0
            self.lay(self.ghosts)
            self.certify(self.mine, self.theirs)
        else:
            self.replica.counts["virtual roots unequal"] += 1
            self.replica.store.certificates.pop(self.peer, None)
            self.close()

    def certify(self, mine: Cert, theirs: Cert) -> None:
        """At the snapshots' sequence numbers and closed stamps, not at the present ones."""
        store = self.replica.store
        tag = mine.tag if mine.tag == theirs.tag else ()
        self.replica.counts["certificate without a tag"] += not tag
        self.certificate = Certificate(self.peer_id, mine.seq, theirs.seq, mine.closed, tag)
        store.certificates[self.peer] = self.certificate
        if store.forgetful:
            self.replica.found_complete(self.proven())
            store.certificates[self.peer] = self.certificate
            if self.peer_complete == WHOLE and not theirs.forgetful:
                self.replica.recover_with(self.peer, theirs.closed, self.needed)
            else:
                self.replica.meet(self.peer, self.needed)
        elif all(peer in store.certificates for peer in self.replica.peers()):
            store.kept = WHOLE  # all others have given what this store may have lacked
        self.close()

    def proven(self) -> int:
        """Up to which stamp this side is complete, now that both hold the same. A delta says nothing of what
        was held before."""
        known = min(self.peer_complete, self.replica.store.stable)
        return self.complete if self.delta else max(self.complete, known)


class Session:
    """Two sides, and what is under way between them: in order, or not at all."""

    def __init__(self, opener: int, acceptor: int) -> None:
        self.places = (opener, acceptor)
        self.sides: dict[int, Side] = {}
        self.queue: deque[tuple[int, Message]] = deque()

    def post(self, place: int, message: Message) -> None:
        self.queue.append((place, message))

    def close(self) -> None:
        for side in self.sides.values():
            side.close()

    @property
    def over(self) -> bool:
        return all(side.over for side in self.sides.values())
