"""Group commit: what one step stores, and which replies wait until that is durable.

Owns the engine's writes once the node speaks: the replica stages its records here, handoff its hints,
identity its facts. A step is one batch of the engine and one later sync serves every batch that was
applied before it began (group commit: DeWitt et al., "Implementation techniques for main memory database
systems", 1984), and one rule covers all replies:

    stage ... reply ... commit(); barrier = sequence   the batch is visible, replies wait
    engine.sync() begins, ends; durable(barrier)       replies of barriers up to this one leave

The barrier is read before the sync starts; what is committed while it runs belongs to the next one. A
reply that shows a reader something waits just like an acknowledgement, for as long as what it shows is not
durable: otherwise a crash could take back what somebody has seen.

Nothing is ever taken back. A batch that the engine refuses for the moment (StorageBusy: it stalls) stays
open: the group commit is *stalled*, and `commit` offers the same batch again, with all that was staged
meanwhile, once after each `offer_again` (a tick of the node: to offer a large batch costs as much as to
store it):

    step 1   stage a, ack a      commit refused         sequence 6, stalled: open is batch 7 {a}
    step 2   (an Apply comes)    full: it is refused, nothing of it is staged
    step 3   stage b             commit refused         open is batch 7 {a, b}
    step 4                       commit taken           sequence 7; the ack of a waits for the sync, as ever

What follows from that for those who stand above:

    a write that stands in a refused batch is neither acknowledged nor refused before the batch was taken and
    is durable; its caller's deadline may pass meanwhile, and the write may still be stored later
    a read of a row in it would wait behind it, so who admits reads asks `blocks`; all other rows are read
    as ever; a range is read from the engine alone, so nothing is scanned while a batch is open across steps
    so with a hint: one whose writer was told at ANY that it failed may still be kept
    while it is stalled it is `full`, and who admits writes asks for that first: so the batch cannot grow
    by more than what the node itself has to note (a row each of some facts, never of a request)

With durability `interval` and `memory` (`waits` is false) replies leave at the commit; what must be sure
(`surely`, `when_durable`) waits in any case.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.errors import StorageBusy, StorageFull
from basestore.protocol.codec import Message
from basestore.protocol.groups import AppliedGroups
from basestore.protocol.replication import Applied
from basestore.storage import keyspace
from basestore.storage.engine import Engine

PROGRESS = keyspace.fact("progress")
ACKS_MAX = 4096
UNSYNCED_BYTES_MAX = 64 << 20
BEHIND = "its disk does not keep up"
PROGRESS_BYTES = 8


class _Batch:
    """The rows of one commit, and what leaves once they are durable. `sure_...`: whatever the setting."""

    __slots__ = (
        "acks",
        "actions",
        "bytes",
        "groups",
        "number",
        "replies",
        "rows",
        "sure_acks",
        "sure_replies",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows: dict[bytes, bytes | None] = {}
        self.bytes = 0
        self.acks: dict[Outbox, list[int]] = {}
        self.sure_acks: dict[Outbox, list[int]] = {}
        self.groups: dict[Outbox, tuple[list[int], list[int]]] = {}  # as in AppliedGroups
        self.replies: list[tuple[Outbox, Message, int]] = []
        self.sure_replies: list[tuple[Outbox, Message, int]] = []
        self.actions: list[Callable[[], object]] = []


class GroupCommit:
    """The only writer of an engine, once the node speaks; others use `engine` itself only while a store is
    opened. `generation` names the present opening of the store, in what is said of its sequence. `stalled`:
    the engine has refused the open batch. `behind`: so much waits to be synced that nothing should be added
    to it, answers that would wait neither. `stuck_s`: for how long no sync has ended, if that is too long
    (`sync_watch.py`), else 0. `full`: one of these, so that new writes should be refused. `short`: in words,
    that there is little room on the disk (`disk_space.py`); `cramped`: next to none. `refusal`: in words, why
    nothing new should be taken; `wary`: the same, or why no new values should. Both are mostly empty."""

    def __init__(self, engine: Engine, generation: bytes, *, waits: bool) -> None:
        """`waits`: replies wait for durability."""
        self.engine = engine
        self._waits = waits
        self.generation = generation
        self.sequence = self._load_progress()
        self.durable_sequence = self.sequence
        self._open = _Batch(self.sequence + 1)
        self._waiting: deque[_Batch] = deque()
        self.unsynced_bytes = 0
        self.stuck_s = 0.0
        self.stalled = self.cramped = False
        self.short = self._refused = ""
        self.weigh()
        self._offered = False  # the open batch, since the last `offer_again`

    def _load_progress(self) -> int:
        stored = self.engine.get(PROGRESS)
        return 0 if stored is None else int.from_bytes(stored[:PROGRESS_BYTES])

    def note_stuck(self, stuck_s: float) -> None:
        """For how long no sync has ended, if that is too long; else 0."""
        self.stuck_s = stuck_s
        self.weigh()

    def note_room(self, short: str, *, cramped: bool) -> None:
        """That there is little room on the disk, in words, or that there is enough; next to none."""
        self.short, self.cramped = short, cramped
        self.weigh()

    def weigh(self) -> None:
        """Whether the disk keeps up; worked out when that may have changed, for every request asks."""
        self.behind = self.unsynced_bytes > UNSYNCED_BYTES_MAX
        self.full = self.stalled or self.behind or self.stuck_s > 0
        if self.full:
            self.refusal = (self._refused if self.stalled else "") or BEHIND
        else:
            self.refusal = self.short if self.cramped else ""
        self.wary = self.refusal or self.short

    @property
    def down(self) -> bool:
        """The disk does not keep up for long: no sync ends, or it is full."""
        return self.stuck_s > 0 or (self.stalled and bool(self._refused))

    @property
    def trouble(self) -> str:
        """How the disk does not keep up, in words; empty while it does."""
        if self.stuck_s:
            return f"no sync has ended for {self.stuck_s:.0f} s"
        if self.stalled:
            return self._refused or "it takes no writes for the moment"
        return f"{self.unsynced_bytes >> 20} MiB wait to be synced" if self.behind else self.short

    @property
    def held(self) -> int:
        """How many rows the open batch has, and what waits for it besides."""
        batch = self._open
        return len(batch.rows) + len(batch.actions) + len(batch.replies) + len(batch.sure_replies)

    def blocks(self, key: bytes) -> bool:
        """Whether an answer about `key` would wait for a batch that the engine has refused, or for a sync
        that does not end."""
        if self.stuck_s and self._holding(key, surely=False) is not None:
            return True
        return self.stalled and key in self._open.rows

    def offer_again(self) -> None:
        """Time has passed: the next `commit` offers a refused batch once more."""
        self._offered = False

    @property
    def open_batch(self) -> int:
        """The number of the batch that what is staged now is stored with, as `sequence` counts them."""
        return self._open.number

    @property
    def waits(self) -> bool:
        """Whether all replies wait for durability, as the setting `sync` has it."""
        return self._waits

    @property
    def urgent(self) -> bool:
        """Whether a sync should begin at once: an answer or an action waits for it, or too much does."""
        if any(batch.actions or batch.sure_acks or batch.sure_replies for batch in self._waiting):
            return True
        answers = self._waits and any(batch.acks or batch.groups or batch.replies for batch in self._waiting)
        return answers or self.behind

    def get(self, key: bytes) -> bytes | None:
        """What is stored, the open batch included."""
        rows = self._open.rows
        return rows[key] if key in rows else self.engine.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """As `get`, of each."""
        rows = self._open.rows
        if not rows or rows.keys().isdisjoint(keys):
            return self.engine.get_many(keys)
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < end in order, as the engine holds them: without the open batch. So
        who scans does it where the open batch has nothing of this range, or asks `get` of each key, or
        waits behind the open batch with what it says. To be used up before the next `commit`."""
        return self.engine.scan(start, end)

    @property
    def rows(self) -> dict[bytes, bytes | None]:
        """The open batch, for whoever stages small rows beside a record on the way of every write."""
        return self._open.rows

    def stage(self, key: bytes, value: bytes | None) -> None:
        """Put (None deletes) with the open batch."""
        batch = self._open
        batch.rows[key] = value
        batch.bytes += len(key) + (len(value) if value is not None else 0)

    def stage_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Put all of these with the open batch."""
        batch = self._open
        batch.rows.update(zip(keys, values, strict=True))
        batch.bytes += sum(map(len, keys)) + sum(map(len, values))

    def ack(self, outbox: Outbox, request: int, key: bytes | None = None, *, surely: bool = False) -> None:
        """Say Applied once what is stored under `key` is durable; without one, once the open batch is."""
        # The key, not the newest batch: what is acknowledged may have been stored long ago (a repeated
        # write), and is then durable already.
        batch = self._open if key is None else self._holding(key, surely)
        if batch is None:
            outbox.put(Applied([request], self.generation, self.durable_sequence))
            return
        acks = batch.sure_acks if surely else batch.acks
        if outbox in acks:
            acks[outbox].append(request)
        else:
            acks[outbox] = [request]

    def ack_group(self, outbox: Outbox, group: int, count: int, skipped: Iterable[int]) -> None:
        """Say AppliedGroups of this one once the open batch is durable, less the requests `skipped`."""
        groups, ids = self._open.groups.setdefault(outbox, ([], []))
        groups += (group, count)
        ids += skipped

    def reply(
        self,
        outbox: Outbox,
        message: Message,
        key: bytes | None = None,
        size: int = SMALL_BYTES,
        *,
        surely: bool = False,
    ) -> None:
        """Send a message once what is stored under `key` is durable; without one, once all is."""
        if key is not None:
            batch = self._holding(key, surely)
        else:
            waits = self._open.rows or (self._waiting and (self._waits or surely))
            batch = self._open if waits else None
        if batch is None:
            outbox.put(message, size)
        else:
            (batch.sure_replies if surely else batch.replies).append((outbox, message, size))

    def reply_group(
        self, outbox: Outbox, message: Message, keys: Sequence[bytes], size: int, *, surely: bool = False
    ) -> None:
        """Send a message once what is stored under all of these is durable."""
        for batch in (self._open, *(reversed(self._waiting) if self._waits or surely else ())):
            if batch.rows and not batch.rows.keys().isdisjoint(keys):
                (batch.sure_replies if surely else batch.replies).append((outbox, message, size))
                return
        outbox.put(message, size)

    def when_durable(self, action: Callable[[], object]) -> None:
        """Call `action` once everything stored so far is durable, whatever the durability setting;
        actions keep their order."""
        if self._open.rows or self._open.actions or self._waiting:  # else it would overtake what waits
            self._open.actions.append(action)
        else:
            action()

    def _holding(self, key: bytes, surely: bool) -> _Batch | None:
        """The last batch that stores `key` and that a reply has to wait for, if any."""
        # A key that was deleted counts as well (its value there is None): a crash could take back an
        # absence that somebody was shown.
        if key in self._open.rows:
            return self._open
        if self._waits or surely:
            # The newest first: of a key that was written twice the last value is what the reply shows.
            for batch in reversed(self._waiting):
                if key in batch.rows:
                    return batch
        return None

    def commit(self) -> None:
        """Store the open batch; `sequence` is then its barrier. If the engine refuses it, it stays open."""
        if self.stalled and self._offered:
            return
        batch = self._open
        # A batch of replies alone is committed too: they wait, in their order, for the batches before it.
        if not (batch.rows or batch.replies or batch.sure_replies or batch.actions):
            return
        # In the batch that it counts: so a store never says that it holds more, or less, than it does.
        batch.rows[PROGRESS] = batch.number.to_bytes(PROGRESS_BYTES)
        try:
            self.engine.apply(batch.rows)
        except StorageBusy as error:
            self.stalled = self._offered = True
            self._refused = str(error) if isinstance(error, StorageFull) else ""
            self.weigh()
            return
        self.stalled = False
        self.sequence = batch.number
        self._open = _Batch(batch.number + 1)
        self._waiting.append(batch)
        self.unsynced_bytes += batch.bytes
        self.weigh()
        if not self._waits:
            self._release(batch)

    def durable(self, barrier: int) -> None:
        """Everything committed up to `barrier` is durable: what waited for it leaves."""
        # <=: the barrier is the number of the last batch that the engine had when the sync began.
        while self._waiting and self._waiting[0].number <= barrier:
            batch = self._waiting.popleft()
            self.durable_sequence = batch.number
            self.unsynced_bytes -= batch.bytes
            self.weigh()
            for action in batch.actions:  # first: a reply may tell what an action has made known
                action()
            self._release(batch)
            for outbox, message, size in batch.sure_replies:
                outbox.put(message, size)
            if batch.sure_acks:
                self._acknowledge(batch.sure_acks)

    def _release(self, batch: _Batch) -> None:
        if batch.replies:
            for outbox, message, size in batch.replies:
                outbox.put(message, size)
            batch.replies = []
        if batch.acks:
            self._acknowledge(batch.acks)
            batch.acks = {}
        for outbox, (groups, skipped) in batch.groups.items():
            said = AppliedGroups(groups, skipped, self.generation, self.durable_sequence)
            outbox.put(said, SMALL_BYTES + 9 * (len(groups) + len(skipped)))
        batch.groups = {}

    def _acknowledge(self, acks: Mapping[Outbox, list[int]]) -> None:
        for outbox, ids in acks.items():
            for start in range(0, len(ids), ACKS_MAX):
                chunk = ids[start : start + ACKS_MAX]
                applied = Applied(chunk, self.generation, self.durable_sequence)
                outbox.put(applied, SMALL_BYTES + 9 * len(chunk))
