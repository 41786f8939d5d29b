"""Exchanging: the story of one anti-entropy session, on either side (decisions: `repair.exchange`).

    open      Syn: root, certificate, stamps               answered by Same, Listing, Ask or Sums
    respond   the other side of that
    descend   without a certificate: sums of nodes, then of leaves, until the leaves that differ are known
    list      list what is here; then take what the other side pushes, and send what it wants
    compare   with a list: want what is lacking, push what the lister lacks
    conclude  both virtual roots are equal: the certificate, at both snapshots' sequences

A story is a generator that the reconciler resumes: it yields how many rows it has just worked on, to
let others run, or None when it waits for a message. Nothing of the partition is purged while its
session is open, and no other session of it is open on this node.

Each message leaves once all that is stored by then is durable, so nothing is proven that a crash could
take back. Whatever goes wrong ends the session (`Broken`), and nothing came of it but the entries
that were taken, which do no harm.
"""

import struct
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from basestore.errors import DamagedRecord
from basestore.ledgers import Slot
from basestore.messages import (
    Ask,
    Certify,
    Entries,
    Listing,
    Message,
    Same,
    Sums,
    Syn,
    Taken,
    Want,
)
from basestore.outbox import SMALL_BYTES, Outbox, weight
from basestore.peers import Instant
from basestore.storage.engine import DATA
from repair.certificate import Certificate, newer_base
from repair.digest import FANOUT, LEAVES, NODES, leaf_of, leaves_under, nodes_of
from repair.exchange import (
    DIGEST_BYTES,
    Members,
    Merge,
    Runs,
    Snapshot,
    Step,
    decode_digests,
    decode_runs,
    encode_digests,
    encode_runs,
    lister,
    next_step,
    runs_of,
    without,
)
from repair.version import HEAD_BYTES, RECORD_BYTES_MIN, VERSION_BYTES, Record

if TYPE_CHECKING:
    from basestore.reconciler import Reconciler

SLICE_ROWS = 500
PART_BYTES = 256 << 10
LIST_BYTES_MAX = 64 << 20
CHUNK_BYTES = 512 << 10
CHUNKS_AHEAD = 2
CHANGED_MAX = 200_000
SEAL_BYTES = 12
UNTOLD = -1
NONE = -1
ALL = (NONE, NONE)  # no certificate to build on: all that is held is compared
ALL_LEAVES = b"\xff\xff"
_SUM_BYTES = 8
_IDENTITY = struct.Struct(">QQ")  # origin and number, in a version behind its stamp
_STAMP_BYTES = 8

T = TypeVar("T")
Story = Generator[int | None, None, T]


class Broken(Exception):
    """The session ends here, without a result."""


class Outcome(NamedTuple):
    """What a session has proven, and how: `same`, `delta` or `full`."""

    kind: str
    certificate: Certificate


class _Watch:
    """Keeps in a snapshot what is overwritten while its session is open."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def note(self, row: bytes, held: bytes, head: bytes) -> None:
        self._snapshot.note(row, held[:HEAD_BYTES], int.from_bytes(held[HEAD_BYTES:]))


class Exchanging:
    """One session. `now` is the moment of the present step; `taken` the sequences under which entries
    of the other side, or their equals, are stored here."""

    def __init__(
        self, reconciler: "Reconciler", number: int, member: int, partition: int, outbox: Outbox, now: Instant
    ) -> None:
        self._reconciler = reconciler
        self._replica = reconciler.replica
        self._ledgers = reconciler.ledgers
        self._proofs = reconciler.proofs
        self._ledger = reconciler.ledgers.of[partition]
        self.number = number
        self.member = member
        self.partition = partition
        self.outbox = outbox
        self.now = now
        self.begun = now
        self.heard_s = now.monotonic
        self.inbox: deque[Message] = deque()
        self.waiting = False
        self.opened_here = True
        self.story: Story[Outcome] | None = None
        self.taken: array[int] = array("Q")
        self._whole = reconciler.standing.whole
        self.peer_whole = True
        self._sent = 0
        self._heard = 0
        self._stable = 0  # what stamps in messages count from
        self._their_closed = 0
        self._their_tag = 0
        self._snapshot: Snapshot | None = None
        self._watch: _Watch | None = None
        self._merge: Merge | None = None

    # --- saying and hearing ------------------------------------------------------------------

    def _say(self, message: Message) -> None:
        """Send a message, with its number, once all that is stored is durable."""
        if not isinstance(message, Syn):
            self._sent += 1
            message = message._replace(number=self._sent)  # type: ignore[call-arg]
        size = weight(message)
        self._reconciler.metrics.count("exchange_bytes_sent", size - SMALL_BYTES)
        self._reconciler.journal.after_all(lambda: self._leave(message, size))

    def _leave(self, message: Message, size: int) -> None:
        self.outbox.put(message, size)

    def hear(self, message: Message, number: int) -> None:
        """A message of the other side; a repeated one is not heard twice."""
        if number <= self._heard:
            return
        if number != self._heard + 1:
            raise Broken("a message was lost")
        self._heard = number
        self.inbox.append(message)

    def _next(self, *kinds: type[T]) -> Story[T]:
        while not self.inbox:
            yield None
        message = self.inbox.popleft()
        if not isinstance(message, kinds):
            raise Broken(f"a {type(message).__name__} message came out of turn")
        return message

    # --- opening -----------------------------------------------------------------------------

    def open(self) -> Story[Outcome]:
        """Begin a session."""
        yield from self._purge()
        probe = self._probe()
        self._stable = self._ledger.stable
        base = self._proofs.certificate(self.partition, self.member)
        mine, theirs = (base.mine, base.theirs) if base else (NONE, probe.sequence)
        self._say(
            Syn(
                self.number, self.partition, self._seal(probe.root), mine, theirs,
                probe.sequence - mine if base else 0, self._stable, self._relative(probe.closed), self._whole,
                self._proofs.tag(self.partition), self._proofs.rows_for(self.partition, self.member),
            )
        )  # fmt: skip
        answer = yield from self._next(Same, Listing, Ask, Sums)
        self.peer_whole = answer.whole
        if isinstance(answer, Same):
            self._proofs.adopt(self.partition, self._stable + answer.stable)
            self._hear_closed(answer.closed, answer.tag, answer.rows)
            return self._proven("same", probe, answer.sequence)
        if isinstance(answer, Sums):
            return (yield from self._descend(answer))
        if isinstance(answer, Ask):
            yield from self._adopt(self._stable + answer.stable)
            return (yield from self._list((answer.theirs, answer.mine), answer.leaves))
        return (yield from self._compare(answer))

    def respond(self, syn: Syn) -> Story[Outcome]:
        """Answer an opened session."""
        self._stable = syn.stable
        self.peer_whole = syn.whole
        yield from self._adopt(syn.stable)
        self._hear_closed(syn.closed, syn.tag, syn.rows)
        yield from self._purge()
        snapshot = self._probe()
        held = self._proofs.certificate(self.partition, self.member)
        named = (syn.theirs, syn.mine) if syn.mine != NONE else None
        base = newer_base(held, named)
        step = next_step(
            equal=syn.root == self._seal(snapshot.root),
            based=base is not None,
            mine=snapshot.sequence - base[0] if base else 0,
            theirs=syn.ahead,
            empty=not self._ledger.count,
            peer_empty=syn.root == self._seal(0),
            forgetful=not self._whole,
            peer_forgetful=not syn.whole,
        )
        if step is Step.SAME:
            self._say_same(snapshot)
            return self._proven("same", snapshot, syn.mine + syn.ahead if named else syn.theirs)
        if step is Step.TREE:
            return (yield from self._sum_up())
        if step is Step.LIST:
            return (yield from self._list(base or ALL, b"" if base else ALL_LEAVES))
        self._say_ask(base or ALL, b"" if base else ALL_LEAVES)
        return (yield from self._compare((yield from self._next(Listing))))

    def _say_same(self, snapshot: Snapshot) -> None:
        stable = self._ledger.stable - self._stable
        rows = self._proofs.rows_for(self.partition, self.member)
        tag, closed = self._proofs.tag(self.partition), self._relative(snapshot.closed)
        self._say(Same(self.number, 0, snapshot.sequence, stable, closed, self._whole, tag, rows))

    def _say_ask(self, base: tuple[int, int], leaves: bytes) -> None:
        stable = self._ledger.stable - self._stable
        self._say(Ask(self.number, 0, *base, stable, self._whole, leaves))

    def _relative(self, closed: int) -> int:
        return closed - self._stable if closed >= self._stable and closed else UNTOLD

    def _hear_closed(self, closed: int, tag: int, rows: list[int]) -> None:
        """What the other side enforces, and what it knows of others."""
        self._their_closed = 0 if closed == UNTOLD else self._stable + closed
        self._their_tag = tag
        self._proofs.inherit(self.partition, self._their_closed)
        self._proofs.hear_rows(self.partition, rows)

    def _seal(self, root: int) -> bytes:
        """A root bound to the two stores: it means nothing to others."""
        stores = self._proofs.stores(self.member)
        return blake2b(root.to_bytes(16) + stores, digest_size=SEAL_BYTES).digest()

    # --- snapshots ---------------------------------------------------------------------------

    def _adopt(self, stable: int) -> Story[None]:
        """Take over the greater stable stamp, and purge up to it."""
        self._proofs.adopt(self.partition, stable)
        yield from self._purge()

    def _purge(self) -> Story[None]:
        """What is due is outside all roots: it goes before a snapshot is taken."""
        while self._ledger.purged < self._ledger.stable:
            yield self._replica.purge(self.partition, SLICE_ROWS)

    def _probe(self, *, leaves: bool = False) -> Snapshot:
        """What is held now, and the stamp closed now."""
        closed = self._proofs.close(self.partition, self.now)
        return Snapshot(self._ledger, leaves=leaves, closed=closed)

    def _begin(self, *, leaves: bool) -> Snapshot:
        """The snapshot that this session is about, unless it was begun."""
        if self._snapshot is None:
            self._snapshot = self._probe(leaves=leaves)
            self._watch = _Watch(self._snapshot)
            self._merge = Merge(self._snapshot)
            self._ledgers.watch(self.partition, self._watch)
        return self._snapshot

    def end(self) -> None:
        """Nothing is kept any more."""
        if self._watch is not None:
            self._ledgers.unwatch(self.partition, self._watch)

    @property
    def snapshot(self) -> Snapshot:
        assert self._snapshot is not None
        if len(self._snapshot.changed) > CHANGED_MAX:
            raise Broken("the partition changes faster than it can be compared")
        return self._snapshot

    @property
    def merge(self) -> Merge:
        assert self._merge is not None
        return self._merge

    # --- without a certificate: which leaves differ ------------------------------------------

    def _sum_up(self) -> Story[Outcome]:
        """The side that was asked: sums of all nodes; then compare the leaves of those that differ."""
        mine = self._begin(leaves=True).leaves
        sums = _encode_sums(nodes_of(mine))
        self._say(Sums(self.number, 0, self._whole, b"", sums))
        answer = yield from self._next(Sums)
        nodes = list(answer.nodes)
        if len(answer.sums) != len(nodes) * FANOUT * _SUM_BYTES or max(nodes, default=0) >= NODES:
            raise Broken("sums do not fit their nodes")
        theirs = _decode_sums(answer.sums)
        leaves = [node * FANOUT + at for node in nodes for at in range(FANOUT)]
        pairs = zip(leaves, _shorten(leaves_under(mine, nodes)), theirs, strict=True)
        differing = _encode_leaves(leaf for leaf, ours, other in pairs if ours != other)
        if lister(0, 0, not self._whole, not self.peer_whole) is Step.LIST:
            return (yield from self._list(ALL, differing))
        self._say_ask(ALL, differing)
        return (yield from self._compare((yield from self._next(Listing))))

    def _descend(self, top: Sums) -> Story[Outcome]:
        """The side that opened: the leaves of the nodes that differ."""
        mine = self._begin(leaves=True).leaves
        theirs = _decode_sums(top.sums)
        if len(theirs) != NODES:
            raise Broken("there are not as many sums as nodes")
        pairs = enumerate(zip(_shorten(nodes_of(mine)), theirs, strict=True))
        nodes = bytes(node for node, (ours, other) in pairs if ours != other)
        sums = _encode_sums(leaves_under(mine, nodes))
        self._say(Sums(self.number, 0, self._whole, nodes, sums))
        answer = yield from self._next(Listing, Ask)
        if isinstance(answer, Ask):
            return (yield from self._list(ALL, answer.leaves))
        return (yield from self._compare(answer))

    # --- listing -----------------------------------------------------------------------------

    def _list(self, base: tuple[int, int], leaves: bytes) -> Story[Outcome]:
        """List; take what is pushed; send what is wanted and was not beaten by that."""
        full = base == ALL
        self._begin(leaves=full)
        listed: list[bytes] = []
        if full:
            heads: list[bytes] = []

            def add(row: bytes, head: bytes) -> None:
                listed.append(row)
                heads.append(head)

            yield from self._walk_rows(_decode_leaves(leaves), add)
            whole = encode_digests(heads)
        else:
            numbers: dict[int, array[int]] = {}

            def note(version: bytes, row: bytes, known: bool) -> None:
                if not known:
                    origin, number = _IDENTITY.unpack_from(version, _STAMP_BYTES)
                    numbers.setdefault(origin, array("Q")).append(number)

            yield from self._walk_log(base[0], note)
            whole = encode_runs(runs_of(numbers))
        stable = self._ledger.stable - self._stable
        for part, more in _parts(whole):
            self._say(Listing(self.number, 0, *base, stable, self._whole, leaves, part, more))
        wanted = decode_runs((yield from self._gather(Want, (yield from self._next(Want)))))
        yield from self._receive()
        rows = yield from self._wanted_rows(wanted, base, listed if full else None)
        yield from self._send(row for row in rows if row not in self.merge.beaten)
        return (yield from self._conclude("full" if full else "delta"))

    def _wanted_rows(self, wanted: Runs, base: tuple[int, int], listed: list[bytes] | None) -> Story[list[bytes]]:
        """The rows that the other side wants: by their places in the list, or by their numbers."""
        if not wanted:
            return []
        if listed is not None:
            places = [p for first, last in wanted.get(0, []) for p in range(first, min(last + 1, len(listed)))]
            return [listed[place] for place in places]
        members = Members(wanted)
        rows: list[bytes] = []

        def find(version: bytes, row: bytes, known: bool) -> None:
            if _IDENTITY.unpack_from(version, _STAMP_BYTES) in members:
                rows.append(row)

        yield from self._walk_log(base[0], find)
        return rows

    # --- comparing ---------------------------------------------------------------------------

    def _compare(self, listing: Listing) -> Story[Outcome]:
        """Compare a list with what is here: want what is lacking, push what the other side lacks."""
        if self._snapshot is None:
            yield from self._adopt(self._stable + listing.stable)
        if self._ledger.stable > self._stable + listing.stable:
            raise Broken("the stable stamp has moved on")
        self.peer_whole = listing.whole
        base = (listing.theirs, listing.mine)
        full = base == ALL
        self._begin(leaves=full)
        whole = yield from self._gather(Listing, listing)
        if full:
            want, push = yield from self._compare_digests(_decode_leaves(listing.leaves), whole)
        else:
            want, push = yield from self._compare_runs(decode_runs(whole), base[0])
        for part, more in _parts(encode_runs(want)):
            self._say(Want(self.number, 0, part, more))
        yield from self._send(push)
        yield from self._receive()
        return (yield from self._conclude("full" if full else "delta"))

    def _compare_runs(self, theirs: Runs, base: int) -> Story[tuple[Runs, list[bytes]]]:
        members = Members(theirs)
        numbers: dict[int, array[int]] = {}
        push: list[bytes] = []

        def look(version: bytes, row: bytes, known: bool) -> None:
            origin, number = _IDENTITY.unpack_from(version, _STAMP_BYTES)
            numbers.setdefault(origin, array("Q")).append(number)
            if not known and (origin, number) not in members:
                push.append(row)

        yield from self._walk_log(base, look)
        return without(theirs, runs_of(numbers)), push

    def _compare_digests(self, leaves: frozenset[int], digests: bytes) -> Story[tuple[Runs, list[bytes]]]:
        """By digests. What a forgetful store alone still holds at or below the stable stamp of one that is
        whole, the others have purged: it is dropped, not pushed."""
        places = {digest: place for place, digest in enumerate(decode_digests(digests))}
        mine = bytearray(len(digests) // DIGEST_BYTES)
        push: list[bytes] = []
        drop: list[bytes] = []
        purged = self._ledger.stable if self.peer_whole and not self._whole else 0

        def look(row: bytes, head: bytes) -> None:
            place = places.get(encode_digests((head,)))
            if place is not None:
                mine[place] = 1
            elif int.from_bytes(head[:_STAMP_BYTES]) <= purged:
                drop.append(row)
            else:
                push.append(row)

        yield from self._walk_rows(leaves, look)
        for row in drop:
            self._drop(row)
        lacking = (place for place, held in enumerate(mine) if not held)
        return runs_of({0: lacking}), push

    def _drop(self, row: bytes) -> None:
        mark = self._mark(row)
        had = self.snapshot.had(row, mark[:HEAD_BYTES])
        if mark[:HEAD_BYTES] == had:
            self._replica.drop(row)
            self.merge.drop(row, had)
            self._reconciler.metrics.count("records_dropped")

    # --- entries -----------------------------------------------------------------------------

    def _send(self, rows: Iterable[bytes]) -> Story[None]:
        """Send what is held of these rows, a few chunks ahead of what the other side has taken."""
        ahead = 0
        chunk: list[bytes] = []
        size = 0
        rows_max = self._reconciler.chunk_rows
        for row in rows:
            record = self._record(row)
            if record is None:
                continue
            had = self.snapshot.had(row, record.head)
            chunk += (row, record.blob, b"" if had == record.head else had)
            size += len(row) + len(record.blob)
            if size >= CHUNK_BYTES or len(chunk) >= 3 * rows_max:
                if ahead == CHUNKS_AHEAD:
                    yield from self._next(Taken)
                    ahead -= 1
                self._say_entries(chunk, last=False)
                ahead += 1
                yield len(chunk) // 3
                chunk, size = [], 0
        for _ in range(ahead):
            yield from self._next(Taken)
        self._say_entries(chunk, last=True)

    def _say_entries(self, chunk: list[bytes], *, last: bool) -> None:
        self._reconciler.metrics.count("records_sent", len(chunk) // 3)
        self._say(Entries(self.number, 0, chunk, last))

    def _receive(self) -> Story[None]:
        """Take entries until the last: durable before the next is asked for."""
        last = False
        while not last:
            entries = yield from self._next(Entries)
            rows, last = entries.rows, entries.last
            for at in range(0, len(rows), 3):
                self._take(rows[at], Record(rows[at + 1]), rows[at + 2])
            if not last:
                self._say(Taken(self.number, 0))
            yield len(rows) // 3

    def _take(self, row: bytes, record: Record, head: bytes) -> None:
        """One entry. `head`: what the sender's snapshot had of the row; empty: this record."""
        if int.from_bytes(row[:2]) != self.partition or not self._replica.intact(row, record):
            raise Broken("an entry is damaged, or does not belong here")
        rule, mark = self._replica.rule(row), self._mark(row)
        had = self.snapshot.had(row, mark[:HEAD_BYTES])
        needed = self.merge.receive(rule, row, head or record.head, had)
        try:
            self._replica.take_over(row, record)
        except DamagedRecord as damage:
            raise Broken(str(damage)) from damage
        mark = self._mark(row)
        if mark.startswith(record.head):
            self.taken.append(int.from_bytes(mark[HEAD_BYTES:]))
        self._reconciler.metrics.count("records_taken" if needed else "records_unneeded")

    def _mark(self, row: bytes) -> bytes:
        try:
            return self._replica.mark(row)
        except DamagedRecord as damage:
            raise Broken(str(damage)) from damage

    def _record(self, row: bytes) -> Record | None:
        try:
            return self._replica.record(row)
        except DamagedRecord as damage:
            raise Broken(str(damage)) from damage

    # --- concluding --------------------------------------------------------------------------

    def _conclude(self, kind: str) -> Story[Outcome]:
        """All entries of the other side are here. Equal virtual roots on both sides are the proof."""
        snapshot, root = self.snapshot, self._seal(self.merge.root)
        self._say(
            Certify(
                self.number, 0, root, snapshot.sequence, self._relative(snapshot.closed),
                self._proofs.tag(self.partition), self._proofs.rows_for(self.partition, self.member),
            )
        )  # fmt: skip
        theirs = yield from self._next(Certify)
        if theirs.root != root:
            self._reconciler.mismatch(self.partition, self.member)
            raise Broken("the virtual roots differ: something was silently lost or altered")
        self._hear_closed(theirs.closed, theirs.tag, theirs.rows)
        return self._proven(kind, snapshot, theirs.sequence)

    def _proven(self, kind: str, snapshot: Snapshot, sequence: int) -> Outcome:
        tag = self._proofs.tag(self.partition)
        agreed = tag if tag == self._their_tag else 0
        closed = (snapshot.closed, self._their_closed)
        return Outcome(kind, Certificate(snapshot.sequence, sequence, *closed, agreed, self.now.wall_ms))

    # --- walking -----------------------------------------------------------------------------

    def _walk_log(self, base: int, visit: Callable[[bytes, bytes, bool], None]) -> Story[None]:
        """Version and row of all that the snapshot holds and was stored after `base`, and whether the
        other side is known to hold it."""
        end, cursor = self.snapshot.sequence, base
        known = self._reconciler.known_to(self.partition, self.member)
        while cursor < end:
            slots: list[Slot] = self._ledgers.log(self.partition, cursor, SLICE_ROWS)
            for slot in slots:
                if slot.sequence <= end:
                    visit(slot.version, slot.row, (0, slot.sequence) in known)
            cursor = slots[-1].sequence if len(slots) == SLICE_ROWS else end
            yield len(slots)
        for row, (head, sequence) in list(self.snapshot.changed.items()):
            if base < sequence <= end:
                visit(head[:VERSION_BYTES], row, (0, sequence) in known)

    def _walk_rows(self, leaves: frozenset[int], visit: Callable[[bytes, bytes], None]) -> Story[None]:
        """Row and head of all that the snapshot holds in these leaves."""
        prefix = self.partition.to_bytes(2)
        if leaves:
            cursor, end = DATA + prefix, DATA + (self.partition + 1).to_bytes(2)
            while stored := self._replica.scan(cursor, end, SLICE_ROWS):
                for key, held in stored:
                    row = key[len(DATA) :]
                    if leaf_of(row) in leaves:
                        had = self.snapshot.had(row, held[:HEAD_BYTES])
                        if had:
                            visit(row, had)
                cursor = stored[-1][0] + b"\0"
                yield len(stored)
        for row, (head, _) in list(self.snapshot.changed.items()):
            if head and leaf_of(row) in leaves and not self._mark(row):
                visit(row, head)

    def _gather(self, kind: type[T], first: T) -> Story[bytes]:
        """All parts of a list."""
        whole = bytearray()
        message: Listing | Want = first  # type: ignore[assignment]
        while True:
            whole += message.part
            if len(whole) > LIST_BYTES_MAX:
                raise Broken("a list is too long")
            if not message.more:
                return bytes(whole)
            message = yield from self._next(kind)  # type: ignore[assignment]


def check_entries(rows: list[bytes]) -> bool:
    """Whether the rows of an Entries message have the form of rows, records and heads."""
    return (
        len(rows) % 3 == 0
        and all(len(row) > 3 for row in rows[::3])
        and all(len(blob) >= RECORD_BYTES_MIN for blob in rows[1::3])
        and all(len(head) in (0, HEAD_BYTES) for head in rows[2::3])
    )


def _parts(whole: bytes) -> Iterator[tuple[bytes, bool]]:
    """A list in parts, and whether more follow; one part at least."""
    for at in range(0, max(1, len(whole)), PART_BYTES):
        yield whole[at : at + PART_BYTES], at + PART_BYTES < len(whole)


def _shorten(sums: Iterable[int]) -> list[int]:
    return [total & ((1 << 8 * _SUM_BYTES) - 1) for total in sums]


def _encode_sums(sums: Iterable[int]) -> bytes:
    return b"".join(total.to_bytes(_SUM_BYTES) for total in _shorten(sums))


def _decode_sums(data: bytes) -> list[int]:
    if len(data) % _SUM_BYTES:
        raise Broken("sums are cut off")
    return [int.from_bytes(data[at : at + _SUM_BYTES]) for at in range(0, len(data), _SUM_BYTES)]


def _encode_leaves(leaves: Iterable[int]) -> bytes:
    return b"".join(leaf.to_bytes(2) for leaf in leaves)


def _decode_leaves(data: bytes) -> frozenset[int]:
    if data == ALL_LEAVES:
        return frozenset(range(LEAVES))
    return frozenset(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
