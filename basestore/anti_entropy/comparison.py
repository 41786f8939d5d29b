"""Comparison: two replicas of a partition compare their snapshots, and send each other what is lacking.

    offer     list what the snapshot holds; take what the other side pushes; send what it wants
    compare   with a list: want what is lacking, push what the lister lacks; take what comes

A list is of numbers since a certificate, or of digests of all that is held in the leaves that differ
(`repair.exchange`). Entries come in chunks; the next is sent when an earlier one is durable on the other
side. Owns its snapshot; whether both are the same in the end, and what that proves, is for `exchange.py`.

Writes go on meanwhile, and must not disturb the proof. So a comparison is of two *snapshots*, and what a
snapshot had is kept aside when it is overwritten (copy on write). For example, row k has head A in the
snapshot and is overwritten with head B before it is sent:

    the list says                       A, by its number or digest, for the list is of the snapshot
    the entry that is sent              (k, record B, head A): there is no need to send A any more
    the receiver stores                 B, if it wins there
    both virtual roots change by        A: B is outside both snapshots, and the next exchange's concern
"""

import struct
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from basestore.anti_entropy.dialogue import Broken, Dialogue, Story
from basestore.anti_entropy.pace import Pace
from basestore.errors import DamagedRecord
from basestore.metrics import Metrics
from basestore.protocol.anti_entropy import Entries, Listing, Taken, Want
from basestore.repair.digest_tree import decode_leaves, leaf_of
from basestore.repair.exchange import DIGEST_BYTES, Merge, Snapshot, decode_digests, encode_digests
from basestore.repair.runs import RUNS_MAX, Members, Runs, decode_runs, encode_runs, runs_of, without
from basestore.repair.version import HEAD_BYTES, VERSION_BYTES, Record
from basestore.replica.apply_log import Slot
from basestore.replica.replica import Replica
from basestore.storage import keyspace

SLICE_ROWS = 500
PART_BYTES = 256 << 10
LIST_BYTES_MAX = 64 << 20
CHUNK_BYTES = 512 << 10
CHUNKS_AHEAD = 2
CHANGED_MAX = 200_000
NONE = -1  # in place of a certificate's sequences: all that is held is compared
_IDENTITY = struct.Struct(">QQ")  # origin and number, in a version behind its stamp
_STAMP_BYTES = 8


class Unlistable(Broken):
    """No list can say what has changed since the certificate: all that is held is to be compared."""


class Comparison:
    """One side of it. `merge` has the virtual root; `taken` the sequences under which entries of the other
    side, or their equals, are stored here. A watch (`summaries.Watch`) of its partition."""

    def __init__(
        self,
        dialogue: Dialogue,
        replica: Replica,
        metrics: Metrics,
        pace: Pace,
        known: Runs,
        partition: int,
        snapshot: Snapshot,
    ) -> None:
        """`known`: as in `Exchange`."""
        self._dialogue = dialogue
        self._replica = replica
        self._summaries = replica.summaries
        self._metrics = metrics
        self._pace = pace
        self._known = Members(known)
        self._partition = partition
        self.snapshot = snapshot
        self.merge = Merge(snapshot)
        self.taken: array[int] = array("Q")
        self._ghosts: set[bytes] = set()
        self._summaries.watch(partition, self)

    def note(self, row: bytes, held: bytes, head: bytes) -> None:
        self.snapshot.note(row, held[:HEAD_BYTES], int.from_bytes(held[HEAD_BYTES:]))

    def end(self) -> None:
        """Nothing is kept aside any more."""
        self._summaries.unwatch(self._partition, self)

    def _keep_up(self) -> None:
        """Broken when so much was kept aside that it had better begin anew."""
        if len(self.snapshot.changed) > CHANGED_MAX:
            raise Broken("the partition changes faster than it can be compared")

    # --- listing -----------------------------------------------------------------------------

    def offer(self, heading: Listing) -> Story[None]:
        """List, under this heading; take what is pushed; send what is wanted and not beaten by that."""
        base = heading.mine
        listed: list[bytes] = []
        if base == NONE:
            heads: list[bytes] = []

            def add(row: bytes, head: bytes) -> None:
                listed.append(row)
                heads.append(head)

            yield from self._walk_rows(decode_leaves(heading.leaves), add)
            whole = encode_digests(heads)
        else:
            numbers = _Numbers()
            yield from self._walk_log(base, lambda slots: numbers.add(self._not_known(slots)))
            runs = runs_of(numbers.of)
            if sum(map(len, runs.values())) > RUNS_MAX:
                raise Unlistable("too much has changed since the certificate")
            whole = encode_runs(runs)
        for part, more in _parts(whole):
            self._dialogue.say(heading._replace(part=part, more=more))
        wanted = decode_runs((yield from self._gather((yield from self._dialogue.next(Want)))))
        yield from self._receive()
        if not wanted:
            return  # the other side waits for nothing
        # What was pushed came first, so that a row where it won is not sent back: the other side has it.
        rows = yield from self._wanted_rows(wanted, base, listed)
        yield from self._send(row for row in rows if row not in self.merge.beaten)

    def _wanted_rows(self, wanted: Runs, base: int, listed: list[bytes]) -> Story[list[bytes]]:
        """The rows that the other side wants: by their places in the list, or by their numbers."""
        if base == NONE:
            spans = (range(first, min(last + 1, len(listed))) for first, last in wanted.get(0, []))
            return [listed[place] for span in spans for place in span]
        members = Members(wanted)
        rows: dict[bytes, None] = {}

        def find(slots: Sequence[Slot]) -> None:
            for (_, line), version in zip(slots, _identities(slots), strict=True):
                if version in members:
                    rows[line[VERSION_BYTES:]] = None

        yield from self._walk_log(base, find)
        return list(rows)

    # --- comparing ---------------------------------------------------------------------------

    def compare(self, listing: Listing, purged: int) -> Story[None]:
        """Compare a list with what is here: want what is lacking, push what the lister lacks.

        What is here alone at or below `purged` is a ghost: it is not pushed. By digests of all that is
        held it is dropped in the end (`lay_ghosts`). By numbers nobody can tell it from what the other side
        holds and need not list; if there is one the roots will differ, and all that is held is compared."""
        whole = yield from self._gather(listing)
        if listing.mine == NONE:
            leaves = decode_leaves(listing.leaves)
            want, push = yield from self._compare_digests(leaves, whole, purged)
        else:
            want, push = yield from self._compare_runs(decode_runs(whole), listing.theirs, purged)
        for part, more in _parts(encode_runs(want)):
            self._dialogue.say(Want(self._dialogue.number, 0, part, more))
        yield from self._send(push)
        if want:
            yield from self._receive()

    def lay_ghosts(self) -> None:
        """Drop the ghosts: all entries are here, for one of them may be what beat a ghost; and both virtual
        roots are equal, so the other side really holds what its sums say, and lacks nothing that it lost."""
        for row in self._ghosts:
            if self._mark(row):
                self._replica.drop(row)
        self._metrics.count("records_dropped", len(self._ghosts))

    def _compare_runs(self, theirs: Runs, base: int, purged: int) -> Story[tuple[Runs, list[bytes]]]:
        members = Members(theirs)
        numbers = _Numbers()
        push: dict[bytes, None] = {}

        def look(slots: Sequence[Slot]) -> None:
            # Before the filter: known or not, it is held here, and is not wanted.
            numbers.add(slots)
            slots = self._not_known(slots)  # what came from there need not go back
            if purged:
                slots = [slot for slot in slots if int.from_bytes(slot[1][:_STAMP_BYTES]) > purged]
            push.update(
                (slots[place][1][VERSION_BYTES:], None) for place in members.lacking(_identities(slots))
            )

        yield from self._walk_log(base, look)
        return without(theirs, runs_of(numbers.of)), list(push)

    def _compare_digests(
        self, leaves: frozenset[int], digests: bytes, purged: int
    ) -> Story[tuple[Runs, list[bytes]]]:
        places = {digest: place for place, digest in enumerate(decode_digests(digests))}
        mine = bytearray(len(digests) // DIGEST_BYTES)
        push: list[bytes] = []

        def look(row: bytes, head: bytes) -> None:
            place = places.get(encode_digests((head,)))
            if place is not None:
                mine[place] = 1  # both hold it
            elif int.from_bytes(head[:_STAMP_BYTES]) <= purged:
                self._ghosts.add(row)
                self.merge.drop(row, head)
            else:
                push.append(row)

        yield from self._walk_rows(leaves, look)
        lacking = (place for place, held in enumerate(mine) if not held)
        return runs_of({0: lacking}), push

    # --- entries -----------------------------------------------------------------------------

    def _send(self, rows: Iterable[bytes]) -> Story[None]:
        """Send what is held of these rows, a few chunks ahead of what the other side has taken."""
        ahead = 0
        chunk: list[bytes] = []
        size = 0
        for row in rows:
            record = self._record(row)
            if record is None:
                continue
            if size >= CHUNK_BYTES or len(chunk) >= 3 * self._pace.chunk_rows:  # and more follow
                if ahead == CHUNKS_AHEAD:
                    yield from self._dialogue.next(Taken)
                    ahead -= 1
                self._say_entries(chunk, last=False)
                ahead += 1
                yield self._pace.cost(len(chunk) // 3)
                chunk, size = [], 0
            had = self.snapshot.had(row, record.head)  # another record, if the row was overwritten since
            chunk += (row, record.blob, b"" if had == record.head else had)
            size += len(row) + len(record.blob)
        # The last chunk is said even if it is empty: the other side waits for it.
        if ahead == CHUNKS_AHEAD:
            yield from self._dialogue.next(Taken)
            ahead -= 1
        self._say_entries(chunk, last=True)
        for _ in range(ahead):
            yield from self._dialogue.next(Taken)

    def _say_entries(self, chunk: list[bytes], *, last: bool) -> None:
        self._metrics.count("records_sent", len(chunk) // 3)
        self._dialogue.say(Entries(self._dialogue.number, 0, chunk, last))

    def _receive(self) -> Story[None]:
        """Take entries until the last: durable before the next is asked for."""
        last = False
        while not last:
            entries: Entries = yield from self._dialogue.next(Entries)
            rows, last = entries.rows, entries.last
            for at in range(0, len(rows), 3):
                self._take(rows[at], Record(rows[at + 1]), rows[at + 2])
            if not last:
                # It leaves once these entries are durable, so the sender is never far ahead of this disk.
                self._dialogue.say(Taken(self._dialogue.number, 0))
            yield self._pace.cost(len(rows) // 3)

    def _take(self, row: bytes, record: Record, head: bytes) -> None:
        """One entry. `head`: what the sender's snapshot had of the row; empty: this record."""
        if int.from_bytes(row[:2]) != self._partition or not self._replica.intact(row, record):
            raise Broken("an entry is damaged, or does not belong here")
        if self._replica.buckets.is_strange(row):  # its rule is not known: another time it is
            raise Broken("an entry is of a bucket that is not known here")
        if self._dialogue.cramped and not record.tombstone:
            raise Broken("the disk of the side that lacks this is nearly full")
        rule, mark = self._replica.rule(row), self._mark(row)
        had = self.snapshot.had(row, mark[:HEAD_BYTES])
        # The proof goes by what both snapshots had (`head`, `had`), the store by what both sides hold now.
        needed = self.merge.receive(rule, row, head or record.head, had)
        try:
            # The others have purged what is held here, and hold this instead.
            if row in self._ghosts:  # whatever the rule says
                self._ghosts.remove(row)
                self._replica.drop(row)
            self._replica.take_over(row, record)
        except DamagedRecord as damage:
            raise Broken(str(damage)) from damage
        mark = self._mark(row)
        if mark.startswith(record.head):  # not if a better record is held here
            self.taken.append(int.from_bytes(mark[HEAD_BYTES:]))
        self._metrics.count("records_taken" if needed else "records_unneeded")

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

    # --- walking -----------------------------------------------------------------------------

    def _walk_log(self, base: int, visit: Callable[[Sequence[Slot]], None]) -> Story[None]:
        """All that the snapshot holds and was stored after `base`, slice by slice."""
        end, cursor = self.snapshot.sequence, base
        while cursor < end:
            slots = self._summaries.summary_log.log(self._partition, cursor, SLICE_ROWS)
            cursor = slots[-1][0] if len(slots) == SLICE_ROWS else end
            visit(slots if cursor < end else [slot for slot in slots if slot[0] <= end])
            self._keep_up()
            yield len(slots)
        # A row that was overwritten since stands in the log under its new sequence only.
        visit(
            [
                (sequence, head[:VERSION_BYTES] + row)
                for row, (head, sequence) in self.snapshot.changed.items()
                if base < sequence <= end
            ]
        )

    def _not_known(self, slots: Sequence[Slot]) -> Sequence[Slot]:
        """Those that the other side is not known to hold."""
        known = self._known
        return [slot for slot in slots if (0, slot[0]) not in known] if known else slots

    def _walk_rows(self, leaves: frozenset[int], visit: Callable[[bytes, bytes], None]) -> Story[None]:
        """Row and head of all that the snapshot holds in these leaves."""
        if leaves:
            cursor, end = keyspace.records_of(self._partition)
            while stored := self._replica.scan(cursor, end, SLICE_ROWS):
                for key, held in stored:
                    row = keyspace.row_of(key)
                    if leaf_of(row) in leaves:
                        had = self.snapshot.had(row, held[:HEAD_BYTES])
                        # What came after the snapshot had nothing here then.
                        if had:
                            visit(row, had)
                cursor = keyspace.after(stored[-1][0])
                self._keep_up()
                yield len(stored)
        # A row that was dropped since is not on the disk any more, but the snapshot had it.
        for row, (head, _) in list(self.snapshot.changed.items()):
            if head and leaf_of(row) in leaves and not self._mark(row):
                visit(row, head)

    def _gather(self, first: Listing | Want) -> Story[bytes]:
        """All parts of a list."""
        whole = bytearray()
        message = first
        while True:
            whole += message.part
            if len(whole) > LIST_BYTES_MAX:
                raise Broken("a list is too long")
            if not message.more:
                return bytes(whole)
            message = yield from self._dialogue.next(type(first))


class _Numbers:
    """Numbers of versions, by origin, in any order."""

    def __init__(self) -> None:
        self.of: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))

    def add(self, slots: Sequence[Slot]) -> None:
        of = self.of
        for origin, number in _identities(slots):
            of[origin].append(number)


def _identities(slots: Iterable[Slot]) -> list[tuple[int, int]]:
    """Origin and number of each."""
    unpack = _IDENTITY.unpack_from
    return [unpack(line, _STAMP_BYTES) for _, line in slots]


def _parts(whole: bytes) -> Iterator[tuple[bytes, bool]]:
    """A list in parts, and whether more follow; one part at least."""
    for at in range(0, max(1, len(whole)), PART_BYTES):
        yield whole[at : at + PART_BYTES], at + PART_BYTES < len(whole)
