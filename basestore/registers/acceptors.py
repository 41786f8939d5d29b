"""Acceptors: what this store has promised and accepted of the rows of registers, and what it answers by that.

What an acceptor answers, and why, is in `repair/paxos.py`. Here it is stored, beside the records:

    q row      since, promised, accepted     until it is closed that far, and nothing is accepted
    q          a floor of the partition      likewise
    r row      the record that is learned    as of any bucket: exchanges, purges and reads know no Paxos

Whatever is promised, accepted or shown is durable before, under every setting; a store that does not outlive
its process accepts nothing. An acceptor is a store: it answers for a partition only if the topology binds
this very store, and does not bar it there (`cluster/seating.py`), and what it has accepted in an earlier
*tenure*, before it gave its seat up and got it again, is void.

What is accepted and not learned is `unlearned`, also in the summaries, where it holds closed stamps down. It
goes when a record at or above it comes in, by whatever way. What stays for FINISH_S, or from before the last
change of the seats, is to be finished: `tick` has this node's registers do it (`finish`).
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.seating import Seating
from basestore.errors import DamagedRecord
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.replication import (
    Accept,
    Learn,
    Peek,
    Prepare,
    Promised,
    ReadRange,
    Refused,
    Rejected,
)
from basestore.registers.floors import Floors
from basestore.repair.paxos import TOLD, Acceptor, TooLow, ballot_of, is_closed
from basestore.repair.version import FLAGS_AT, LAID, MARKED, Record
from basestore.replica.admission import Admission
from basestore.replica.group_commit import GroupCommit
from basestore.replica.many_rows import ManyRows
from basestore.replica.replica import Replica
from basestore.rows import row_bucket, row_partition
from basestore.storage import keyspace

FINISH_S: Final = 5.0
SWEEP_S: Final = 1.0
STORE: Final = keyspace.fact("acceptor")
SWEPT_MAX: Final = 2000  # rows that one sweep looks at
LOOKED_MAX: Final = 256  # likewise one tick, for what is to be finished
KNOWN_MAX: Final = 10_000
KNOWN_BYTES_MAX: Final = 4096  # of an accepted record that is kept in memory
_NEW: Final = Acceptor()
_ABOVE: Final = b"\xff" * 17  # all ballots
NOT_BOUND: Final = "its store is no acceptor of the partition now: the topology names another, or none"
NOT_KEPT: Final = "its durability is memory, so it could not keep what it promises"
Handler = Callable[[int, Outbox, Any, Instant], None]


class Acceptors:
    """Of one store, all rows. `accepts()`: by which id it does; nothing while that is not known.
    `finish(row, now)`: have it finished, by this node."""

    def __init__(
        self, replica: Replica, group_commit: GroupCommit, accepts: Callable[[], bytes], seating: Seating,
        admission: Admission, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._replica, self._group_commit, self._admission = replica, group_commit, admission
        self._many_rows = ManyRows(replica, group_commit)
        self.accepts, self._seating, self._metrics = accepts, seating, metrics
        self._unlearned = replica.summaries.unlearned
        self._accepted_s: dict[bytes, float] = {}  # since when a row is unlearned
        self._known: dict[bytes, Acceptor] = {}
        self._since: dict[int, int] = {}  # the epoch of seats under which `_owed` of a partition was noted
        self._owed: dict[int, dict[bytes, bytes]] = {}  # what was accepted there then, and is to be finished
        self._swept = b""  # the row up to which the last sweep came
        self._due_s = 0.0
        self.finish: Callable[[bytes, Instant], None] = lambda row, now: None
        self.handlers: Mapping[type, Handler] = {
            Prepare: self.prepare, Accept: self.accept, Peek: self.peek, Learn: self.learn,
            ReadRange: self.read_range,
        }  # fmt: skip
        self.floors = Floors(replica.summaries)
        replica.learned, replica.pending, replica.healed = self._learned, self._pending, self._healed
        self._store = group_commit.get(STORE) or b""
        self._void_others()
        for key, stored in group_commit.scan(*keyspace.acceptors()) if self._store else ():
            row = keyspace.row_of(key)
            if len(row) == keyspace.PARTITION_BYTES:
                self.floors.raise_to(row_partition(row), stored)
                continue
            state = Acceptor.decode(stored)
            self.floors.note(row_partition(row), max(state.promised, ballot_of(state.accepted)))
            if state.accepted and self._is_unlearned(row, state.accepted):
                self._note(row, ballot_of(state.accepted), 0.0)

    def _void_others(self) -> None:
        """An acceptor is a store: what was promised and accepted by another one, of which this is a copy, or
        what is left of it, is void."""
        store = self.accepts()
        if self._store and store not in (b"", self._store):
            self._store = b""
            for key, _ in self._group_commit.scan(*keyspace.acceptors()):
                self._group_commit.stage(key, None)
            self._group_commit.stage(STORE, None)
            for table in (self._known, self._unlearned, self._accepted_s, self._owed):
                table.clear()
            self._since.clear()
            self.floors.clear()

    def _stage(self, key: bytes, value: bytes) -> None:
        if not self._store:  # the first that this store keeps
            self._store = self.accepts()
            self._group_commit.stage(STORE, self._store)
        self._group_commit.stage(key, value)

    # --- what is asked -----------------------------------------------------------------------

    def prepare(self, member: int, outbox: Outbox, message: Prepare, now: Instant) -> None:
        row = message.row
        found = self._look(member, outbox, message, ballot_of(message.ballot), now)
        if found is None:
            return
        state, learned, since = found
        summary = self._replica.summaries.of[row_partition(row)]
        promise = state.prepare(message.ballot, learned, summary.closed, summary.stable, since)
        if isinstance(promise, TooLow):
            self._refuse(outbox, message.id, promise)
            return
        after, told = promise
        self._keep(row, after)
        size = SMALL_BYTES + len(told.record)
        self._group_commit.reply(outbox, Promised(message.id, *told), None, size, surely=True)

    def accept(self, member: int, outbox: Outbox, message: Accept, now: Instant) -> None:
        row = message.row
        found = self._look(member, outbox, message, ballot_of(message.record), now, whole=False)
        if found is None:
            return
        state, learned, since = found
        if not Record(message.record).intact(self._replica.digester, row):
            outbox.put(Rejected(message.id, "the record was damaged on its way", True))
            return
        summary = self._replica.summaries.of[row_partition(row)]
        after = state.accept(message.record, message.following, ballot_of(learned), summary.closed, since)
        if isinstance(after, TooLow):
            self._refuse(outbox, message.id, after)
            return
        self._keep(row, after)
        self._note(row, ballot_of(message.record), now.monotonic)
        self._group_commit.ack(outbox, message.id, surely=True)

    def _refuse(self, outbox: Outbox, request: int, why: TooLow) -> None:
        self._metrics.count("register_conflicts")
        outbox.put(Refused(request, why.ballot))

    def peek(self, member: int, outbox: Outbox, message: Peek, now: Instant) -> None:
        row = message.row
        found = self._look(member, outbox, message, b"", now)
        if found is None:
            return
        state, learned, _ = found
        told = state.told(learned, self._replica.summaries.of[row_partition(row)].stable)
        keys = keyspace.acceptor(row), keyspace.record(row)
        size = SMALL_BYTES + len(told.record)
        self._group_commit.reply_group(outbox, Promised(message.id, *told), keys, size, surely=True)

    def learn(self, member: int, outbox: Outbox, message: Learn, now: Instant) -> None:
        """Of what is not accepted here under these ballots nothing is learned, and nothing while the
        engine takes no writes: exchanges bring it."""
        if self._group_commit.stalled:
            return
        replica, rows, records, helds = self._replica, list[bytes](), list[bytes](), list[bytes]()
        for row, ballot in zip(message.rows, message.ballots, strict=True):
            partition = row_partition(row)
            if self._unlearned.get(partition, {}).get(row) != ballot or partition not in replica.summaries.of:
                continue
            try:
                held = replica.mark(row)
            except DamagedRecord:
                continue
            record = self._state(row).accepted
            if not record:  # of an earlier tenure: void
                continue
            if (record[FLAGS_AT] | (held[FLAGS_AT] if held else 0)) & (MARKED | LAID):
                replica.note_due(row, record, held)
            rows.append(row)
            records.append(record)
            helds.append(held)
        if rows:
            # What holds closed stamps down is as good as a first delivery; its digest was looked at.
            self._many_rows.store(rows, records, helds, now.wall_ms)
            for row, record in zip(rows, records, strict=True):
                self._learned(row, record)

    def read_range(self, member: int, outbox: Outbox, message: ReadRange, now: Instant) -> None:
        """Of buckets of registers an acceptor of all these partitions answers, if that is asked for."""
        store, votes = self.accepts(), self._seating.votes
        if message.serial and not all(votes(partition, store) for partition in message.partitions):
            outbox.put(Rejected(message.id, NOT_BOUND, True), SMALL_BYTES + len(NOT_BOUND))
        else:
            self._admission.read_range(member, outbox, message, now)

    def _look(
        self, member: int, outbox: Outbox, message: Any, ballot: bytes, now: Instant, *, whole: bool = True
    ) -> tuple[Acceptor, bytes, int] | None:
        """What is promised and accepted of a row, what is held, or nothing, and the epoch of its seats; None
        if this store does not answer now: it has said why. `whole`: the record, and not its mark only."""
        row, refusal, passing = message.row, "", True
        if not self._admission.lets_in(member, outbox, message, now, writes=bool(ballot)):
            return None
        partition = row_partition(row)
        rule = self._replica.rule_of(row[: 3 + row[2]]) if len(row) > 3 else None
        if rule is None or not rule.serial:
            refusal, passing = self._replica.buckets.refusal(row)
        elif not self._group_commit.engine.persistent:
            refusal, passing = NOT_KEPT, False
        elif not self._seating.votes(partition, self.accepts()):
            refusal = NOT_BOUND
        elif ballot and not self._admission.credible(ballot, now):
            refusal = "the ballot is too far ahead of its clock"
        if refusal:
            outbox.put(Rejected(message.id, refusal, passing), SMALL_BYTES + len(refusal))
            return None
        try:
            if whole:
                record = self._replica.record(row)
                learned = record.blob if record is not None else b""
            else:
                learned = self._replica.mark(row)
        except DamagedRecord as damage:
            outbox.put(Rejected(message.id, str(damage), True))
            return None
        return self.floors.bind(row, self._state(row)), learned, self._seating.since(partition) or 0

    # --- what is kept ------------------------------------------------------------------------

    def _state(self, row: bytes) -> Acceptor:
        """Void is what an earlier tenure has left. What is accepted stays on the disk when it is learned: so
        it counts only above the record that is held; and above what is stable, for that may be purged."""
        state, partition = self._known.get(row), row_partition(row)
        if state is None:
            stored = self._group_commit.get(keyspace.acceptor(row))
            state = Acceptor.decode(stored) if stored is not None else _NEW
            if state.accepted and not self._is_unlearned(row, state.accepted):
                state = state._replace(accepted=b"")
        return state if state.since >= self._seating.tenure(partition) else _NEW

    def _is_unlearned(self, row: bytes, accepted: bytes) -> bool:
        summary = self._replica.summaries.of.get(row_partition(row))
        held = self._group_commit.get(keyspace.record(row)) or b""
        settled = summary is not None and is_closed(summary.stable, accepted)
        return not settled and ballot_of(accepted) > ballot_of(held)

    def _keep(self, row: bytes, state: Acceptor) -> None:
        self._known.pop(row, None)
        if len(state.accepted) <= KNOWN_BYTES_MAX:
            self._known[row] = state
            if len(self._known) > KNOWN_MAX:
                del self._known[next(iter(self._known))]
        self.floors.note(row_partition(row), state.promised)
        self._stage(keyspace.acceptor(row), state.encode())

    def raise_floor(self, partition: int, ballot: bytes) -> None:
        """Take no ballot up to this, in any row of the partition. Durable with the open batch."""
        if self.floors.raise_to(partition, ballot):
            self._stage(keyspace.floor(partition), ballot)

    def _drop(self, row: bytes) -> None:
        self._known.pop(row, None)
        self._forget(row)
        self._group_commit.stage(keyspace.acceptor(row), None)

    def _note(self, row: bytes, ballot: bytes, now_s: float) -> None:
        self._unlearned.setdefault(row_partition(row), {})[row] = ballot
        self._accepted_s.pop(row, None)  # the newest stand last
        self._accepted_s[row] = now_s

    def _forget(self, row: bytes) -> None:
        partition = row_partition(row)
        self._accepted_s.pop(row, None)
        self._owed.get(partition, {}).pop(row, None)
        rows = self._unlearned.get(partition)
        if rows is not None and rows.pop(row, None) is not None and not rows:
            del self._unlearned[partition]

    def _learned(self, row: bytes, head: bytes) -> None:
        """A record comes in: what is accepted up to it goes."""
        partition, ballot = row_partition(row), ballot_of(head)
        rows, owed = self._unlearned.get(partition, {}), self._owed.get(partition, {})
        if rows.get(row, _ABOVE) <= ballot:
            state = self._known.get(row)
            if state is not None:
                self._known[row] = state.learn(head)
            self._forget(row)
        if owed.get(row, _ABOVE) <= ballot:
            del owed[row]

    def _pending(self, row: bytes) -> bytes:
        """What is accepted of a row, and not learned."""
        return self._state(row).accepted if row in self._unlearned.get(row_partition(row), {}) else b""

    def _healed(self, row: bytes, told: Iterable[bytes]) -> None:
        """The record that is held is another now: it may have been chosen, and learned nowhere else, and the
        one that it is now may be older. So what is stored here as accepted stands again; what others have
        accepted is told from here too, and counted for nothing."""
        self._known.pop(row, None)
        state = self._state(row)
        sound = [each for each in told if Record(each).intact(self._replica.digester, row)]
        later = [each for each in sound if self._is_unlearned(row, each)]
        greatest = max((state.accepted, *later), key=ballot_of)
        if ballot_of(greatest) > ballot_of(state.accepted):
            state = Acceptor(TOLD, max(state.promised, ballot_of(greatest)), greatest)
            self._keep(row, state)
        if state.accepted:
            self._note(row, ballot_of(state.accepted), 0.0)
            self._accepted_s = {row: 0.0, **self._accepted_s}  # it may have waited for longer than all others

    def take(self, row: bytes, chosen: Record) -> None:
        """A record that is known to be chosen: what is accepted here up to it is learned with it."""
        ballot = self._unlearned.get(row_partition(row), {}).get(row)
        if ballot is not None and ballot <= ballot_of(chosen.blob):
            self._replica.take_over(row, chosen)

    def unfinished(self, partition: int, since: int) -> bool:
        """Whether something was accepted there before this epoch, and nothing at or above it is learned yet.
        What is accepted since may have come in its place, and not be chosen: so it is not asked what the rows
        have now, but what they had when this was asked first. More than that does no harm."""
        if self._since.get(partition) != since:
            self._since[partition] = since
            self._owed[partition] = dict(self._unlearned.get(partition, {}))
        return bool(self._owed[partition])

    @property
    def count(self) -> int:
        """How many rows are accepted and not learned."""
        return len(self._accepted_s)

    @property
    def oldest_s(self) -> float | None:
        """Since when the oldest of them is; 0: since before this start. None: there is none."""
        return next(iter(self._accepted_s.values()), None)  # the oldest stand first

    # --- what it is asked by whoever looks on ------------------------------------------------------

    def standing(self, row: bytes) -> tuple[Acceptor, float]:
        """What it has promised and accepted of a row, and since when what it has accepted waits; 0: since
        before this start."""
        return self.floors.bind(row, self._state(row)), self._accepted_s.get(row, 0.0)

    # --- what goes ---------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Have finished what waits for it; now and then drop promises that are closed."""
        if self._group_commit.stalled:
            return
        self._void_others()
        for row, accepted_s in list(islice(self._accepted_s.items(), LOOKED_MAX)):  # the oldest first
            if now.monotonic - accepted_s < FINISH_S:
                break
            self._see_to(row, now)
        for owed in self._owed.values():
            for row in list(islice(owed, LOOKED_MAX)):
                self._see_to(row, now)
        if now.monotonic >= self._due_s:
            self._due_s = now.monotonic + SWEEP_S
            self._sweep()

    def _see_to(self, row: bytes, now: Instant) -> None:
        """Have it finished, unless this store has given up its seat, or the bucket is gone."""
        partition = row_partition(row)
        if partition not in self._replica.summaries.of or self._replica.buckets.is_gone(row_bucket(row)):
            self._drop(row)
        elif self._state(row).accepted:
            self.finish(row, now)
        else:  # accepted in an earlier tenure, and void; what was promised since stands
            self._forget(row)

    def _sweep(self) -> None:
        """Go on through what is stored. The open batch may have more of it: that is seen the next time."""
        of, at = self._replica.summaries.of, self._swept
        stored = self._replica.scan(*keyspace.acceptors(self._swept), SWEPT_MAX)
        for key, _ in stored:
            row = at = keyspace.row_of(key)
            held, partition = self._group_commit.get(key), row_partition(row)
            if held is None:
                continue
            if len(row) == keyspace.PARTITION_BYTES:
                if partition not in of or is_closed(of[partition].closed, held):
                    self.floors.drop(partition)
                    self._group_commit.stage(key, None)
            elif partition not in of or not self._state(row).needed(of[partition].closed):
                self._drop(row)
        self._swept = at if len(stored) == SWEPT_MAX else b""
