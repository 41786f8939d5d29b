"""Admission: whether this store answers now what a member asks of it, and by which way a record comes in.

A store that is not whole answers nothing: it may have forgotten what it once acknowledged. One whose disk
does not keep up, or has refused a batch, takes nothing new: what waits must not grow; nor does one whose disk
is nearly full, but for deletes and copies as long as they fit (`disk_space.py`). What comes after its
deadline is not done: nobody waits for it, and its sender may have concluded that it was not. Each of them
says so (Rejected, passing), and the sender turns to another replica or keeps a hint. What is read to heal a
damaged record is answered in any case: who asks knows what a store that is not whole is worth.

Nor does it answer who goes by other seats: links tell under which epoch what comes on them is said
(`Peers.tell_epoch`). With partition 7 changed last at epoch 12:

    this node at 14, a request of 7 said under 14, 13 or 12    the seats that it means are those here
    said under 11                                              Moved: it meant others, and nothing is done
    said under 15                                              held, until this node goes by 15, too, or has
                                                               heard that nothing changes there by it

So a quorum is one of replicas that all mean the same seats. And a replica that does not hold yet all that it
must of a partition answers for it no more than a store that is not whole. Compares no records and stores
none: that is the replica's. It refuses a member's requests; those of clients are refused by the coordinator.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from basestore.cluster.operations import Operations
from basestore.cluster.outbox import SMALL_BYTES, Outbox, weight
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement
from basestore.consistency import Level
from basestore.instant import Instant
from basestore.protocol.groups import ApplyGroup, ReadGroup
from basestore.protocol.replication import COPY, DIRECT, Apply, Hinted, Moved, Read, ReadRange, Rejected
from basestore.repair.seats import Seats
from basestore.repair.version import HEAD_BYTES, is_tombstone
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.many_rows import ManyRows
from basestore.replica.replica import HINTED_COPY, HINTED_DIRECT, Replica
from basestore.rows import row_partition
from basestore.storage import keyspace
from basestore.storage.keyspace import STAMP_BYTES

HELD_S: Final = 1.0
HELD_MAX: Final = 1024  # of a link
HELD_BYTES_MAX: Final = 8 << 20
_UNFIT: Final = "it does not hold yet all that it must of this partition"
_BEHIND: Final = "it does not know yet who holds the key now"


class _Held(NamedTuple):
    """A request that waits for this node to go by the epoch that it was said under."""

    epoch: int
    outbox: Outbox
    message: Any
    size: int
    until_s: float


class Admission:
    """What members ask of one node's replica, the node itself among them."""

    def __init__(
        self,
        replica: Replica,
        group_commit: GroupCommit,
        identity: StoreIdentity,
        peers: Peers,
        operations: Operations,
        in_use: Callable[[int, bytes], bool],
        placement: Placement,
    ) -> None:
        """`in_use(partition, stores)`: whether a replica of the partition runs on one of these stores."""
        self._placement = placement
        self._unfit = replica.summaries.unfit
        self._held: dict[int, deque[_Held]] = {}
        self._moved: set[int] = set()  # partitions with other seats, since operations were told last
        self._replica = replica
        self._many_rows = ManyRows(replica, group_commit)
        self._group_commit = group_commit
        self._identity = identity
        self._peers = peers
        self._operations = operations
        self._in_use = in_use
        self._clock = peers.clock
        self.handlers: dict[type, Callable[[int, Outbox, Any, Instant], None]] = {
            Apply: self.apply,
            ApplyGroup: self.apply_group,
            Hinted: self.hinted,
            Read: self.read,
            ReadGroup: self.read_group,
            ReadRange: self.read_range,
        }

    def apply(self, member: int, outbox: Outbox, message: Apply, now: Instant) -> None:
        if (self._unfit or not self._peers.all_level) and self._fenced(member, outbox, message, now):
            return
        if message.way not in (DIRECT, COPY):
            outbox.put(Rejected(message.id, "there is no such way in", False))
            return
        late = self._group_commit.wary
        if late and (message.way == COPY or self._is_delete(message.record)):
            late = self._group_commit.refusal
        if self._serves(member, outbox, message.id, message.deadline_ms, now, late):
            # By the time as it is known: a clock that is behind would refuse what others stamp now.
            self._replica.apply(outbox, message, now.wall_ms + self._clock.off_ms)

    def apply_group(self, member: int, outbox: Outbox, message: ApplyGroup, now: Instant) -> None:
        """As `apply` of each; all at once where nothing stands against any of them."""
        level = (self._peers.all_level and not self._unfit) or self._level(member, outbox, message, now)
        if level is None:
            return
        if level and not self._refusal(member, message.deadline_ms, now, self._group_commit.wary):
            self._operations.served += len(message.rows)
            sealed = member == self._peers.me  # this very process has made the digests
            self._many_rows.apply(outbox, message, now.wall_ms + self._clock.off_ms, sealed=sealed)
            return
        for each in message.single():
            self.apply(member, outbox, each, now)

    @staticmethod
    def _is_delete(record: bytes) -> bool:
        return len(record) > HEAD_BYTES and is_tombstone(record)

    def hinted(self, member: int, outbox: Outbox, message: Hinted, now: Instant) -> None:
        """A hint is a copy if a store that is still in use has taken its record; otherwise it may be the
        first delivery of a write that nobody holds."""
        if (self._unfit or not self._peers.all_level) and self._fenced(member, outbox, message, now):
            return
        if self._serves(member, outbox, message.id, 0, now, self._group_commit.refusal):
            row = message.row
            copy = len(row) > 3 and self._in_use(row_partition(row), message.stores)
            way = HINTED_COPY if copy else HINTED_DIRECT
            self._replica.apply(outbox, Apply(message.id, row, message.record, way, 0), now.wall_ms)

    def taken_by(self, row: bytes, head: bytes, numbers: list[int]) -> bytes:
        """The stores, where they are known, that have taken this record: the members', and this one's. Of
        those that leave the partition nothing is said, for they may have taken it after all were compared;
        nor of those that come, for they give it up if the change is taken back."""
        me, identity = self._peers.me, self._identity
        lasting = self._placement.quorums[row_partition(row)][Level.ANY].lasting
        indices = (self._peers.index_of.get(number, -1) for number in numbers)
        members = [self._peers.all[index] for index in indices if index in lasting]
        takers = {identity.store_of(each.name) if each.index != me else identity.store for each in members}
        if (
            me in lasting
            and row_partition(row) in self._replica.summaries.of
            and self._replica.holds(row, head)
        ):
            takers.add(identity.store)
        return b"".join(sorted(takers - {b""}))

    def read(self, member: int, outbox: Outbox, message: Read, now: Instant) -> None:
        if (self._unfit or not self._peers.all_level) and self._fenced(member, outbox, message, now):
            return
        # A disk that refuses batches still shows what it holds. Only of a row in the refused batch nothing
        # can be said: what was held before is beaten, and what is new is not stored.
        group_commit = self._group_commit
        late = ""
        if group_commit.full and (group_commit.behind or group_commit.blocks(keyspace.record(message.row))):
            late = group_commit.refusal
        if message.healing or self._serves(member, outbox, message.id, message.deadline_ms, now, late):
            self._replica.read(outbox, message)

    def read_group(self, member: int, outbox: Outbox, message: ReadGroup, now: Instant) -> None:
        """As `read` of each; all at once where nothing stands against any of them."""
        level = (self._peers.all_level and not self._unfit) or self._level(member, outbox, message, now)
        if level is None:
            return
        late = self._group_commit.refusal if self._group_commit.full else ""
        if level and not self._refusal(member, message.deadline_ms, now, late):
            self._operations.served += len(message.rows)
            self._many_rows.read(outbox, message)
            return
        for each in message.single():
            self.read(member, outbox, each, now)

    def read_range(self, member: int, outbox: Outbox, message: ReadRange, now: Instant) -> None:
        if (self._unfit or not self._peers.all_level) and self._fenced(member, outbox, message, now):
            return
        # A range is read from the engine alone, which lacks what stands in a refused batch.
        late = self._group_commit.refusal if self._group_commit.full else ""
        if self._serves(member, outbox, message.id, message.deadline_ms, now, late):
            self._many_rows.read_range(outbox, message)

    # --- registers (`registers/acceptors.py`) ------------------------------------------------

    def lets_in(self, member: int, outbox: Outbox, message: Any, now: Instant, *, writes: bool) -> bool:
        """Whether this store answers now what is asked of a row; if not, it has said why not, or waits."""
        if (self._unfit or not self._peers.all_level) and self._fenced(member, outbox, message, now):
            return False
        group_commit = self._group_commit
        late = group_commit.wary if writes else group_commit.refusal if group_commit.full else ""
        return self._serves(member, outbox, message.id, message.deadline_ms, now, late)

    def credible(self, ballot: bytes, now: Instant) -> bool:
        """Take note of a ballot; False when its stamp is too far ahead of this clock."""
        stamp = int.from_bytes(ballot[:STAMP_BYTES])
        return self._replica.clock.observe(stamp, now.wall_ms + self._clock.off_ms)

    # --- epochs ------------------------------------------------------------------------------

    def _fenced(self, member: int, outbox: Outbox, message: Any, now: Instant) -> bool:
        """Whether the member goes by other seats, so that nothing is done: it is told so, or waits."""
        level = self._level(member, outbox, message, now)
        if level is False:
            if self._is_unfit(message):
                outbox.put(Rejected(message.id, _UNFIT, True), SMALL_BYTES + len(_UNFIT))
            else:
                outbox.put(Moved(message.id, self._peers.epoch))
        return not level

    def _is_unfit(self, message: Any) -> bool:
        if isinstance(message, Read) and message.healing:
            return False
        return not self._unfit.isdisjoint(_partitions(message))

    def _level(self, member: int, outbox: Outbox, message: Any, now: Instant) -> bool | None:
        """Whether this node answers for these seats, and the member means the same; None: it waits until that
        is known."""
        told, own = self._peers.all[member].told_epoch, self._peers.epoch
        if member != self._peers.me and told > own and self._awaits(told, message):
            self._hold(member, outbox, message, now)
            return None
        if self._unfit and self._is_unfit(message):
            return False
        level = member == self._peers.me or told == own
        return level or told >= max(map(self._placement.since, _partitions(message)), default=0)

    def _awaits(self, told: int, message: Any) -> bool:
        """Whether what was said under a later epoch than this node goes by must wait until it does, too."""
        if told > self._peers.heard_epoch:
            return True
        if isinstance(message, ReadRange):
            return message.bucket not in self._replica.buckets.rules
        return any(map(self._replica.buckets.is_strange, _rows(message)))

    def _hold(self, member: int, outbox: Outbox, message: Any, now: Instant) -> None:
        held, size = self._held.setdefault(member, deque()), weight(message)
        if len(held) >= HELD_MAX or sum(each.size for each in held) + size > HELD_BYTES_MAX:
            _refuse(outbox, message)
            return
        epoch = self._peers.all[member].told_epoch
        held.append(_Held(epoch, outbox, message, size, now.monotonic + HELD_S))

    def adopt(self, epoch: int, changed: Mapping[int, Seats]) -> None:
        """This node goes by this epoch from now on, and these partitions have these seats: say so on all
        links, then `begin_anew`."""
        self._peers.adopt_epoch(epoch)
        self._moved |= self._placement.adopt(changed)
        self._peers.spare = self._placement.spare

    def begin_anew(self, now: Instant) -> None:
        """All links say the epoch by now: behind that, what is asked of those who have changed is asked anew;
        and what others have asked under it is taken up."""
        moved, self._moved = self._moved, set()
        self._operations.moved(moved, now)
        self._resume(now)

    def _resume(self, now: Instant) -> None:
        for member, held in list(self._held.items()):
            if self._peers.all[member].told_epoch <= self._peers.heard_epoch:
                del self._held[member]
                for each in held:
                    if not each.outbox.closed:
                        self._take_up(member, each, now)

    def _take_up(self, member: int, held: _Held, now: Instant) -> None:
        """The member may go by a later epoch by now than it has said this under."""
        message = held.message
        if held.epoch < max(map(self._placement.since, _partitions(message)), default=0):
            for each in _singles(message):
                held.outbox.put(Moved(each.id, self._peers.epoch))
        else:
            self.handlers[type(message)](member, held.outbox, message, now)

    def tick(self, now: Instant) -> None:
        """What has waited for too long is refused."""
        for member, held in list(self._held.items()):
            while held and (held[0].until_s <= now.monotonic or held[0].outbox.closed):
                _refuse(held[0].outbox, held.popleft().message)
            if not held:
                del self._held[member]

    # --- states ------------------------------------------------------------------------------

    def _serves(
        self, member: int, outbox: Outbox, request: int, deadline_ms: int, now: Instant, late: str
    ) -> bool:
        """Whether this store answers now; if not, it says why not."""
        refusal = self._refusal(member, deadline_ms, now, late)
        if refusal:
            outbox.put(Rejected(request, refusal, True), SMALL_BYTES + len(refusal))
            return False
        self._operations.served += 1
        return True

    def _refusal(self, member: int, deadline_ms: int, now: Instant, late: str) -> str:
        """Why this store does not answer now; empty if it does. The deadline is by the member's clock, which
        may differ. `late`: why the disk does not allow what is asked."""
        if not self._peers.alive[self._peers.me]:
            return f"its store is {'forgetful' if self._identity.state is State.FORGETFUL else 'starting'}"
        if late:
            return late
        # The member's clock is this one plus its offset. One that was not compared yet may be anywhere: to
        # answer too late costs a little work; to refuse too early would fail a request.
        offset_ms = self._clock.offsets[member]
        if offset_ms is not None and 0 < deadline_ms < now.wall_ms + offset_ms:
            return "its deadline has passed"
        return ""


def _partitions(message: Any) -> Iterable[int]:
    """Of which partitions a member asks something."""
    if isinstance(message, ReadRange):
        return message.partitions
    return set(map(row_partition, _rows(message)))


def _rows(message: Any) -> Iterable[bytes]:
    return message.rows if isinstance(message, ApplyGroup | ReadGroup) else (message.row,)


def _singles(message: Any) -> Iterable[Any]:
    return message.single() if isinstance(message, ApplyGroup | ReadGroup) else (message,)


def _refuse(outbox: Outbox, message: Any) -> None:
    for each in _singles(message):
        outbox.put(Rejected(each.id, _BEHIND, True), SMALL_BYTES + len(_BEHIND))
