"""Group commit: what one step stores, and which replies wait until that is durable.

Every part of a node that stores something stores it here: the replica its records, handoff its
hints, standing its facts. So a step is one storage batch, and one rule covers all replies:

    stage ... reply ... commit(); barrier = sequence   the batch is visible, replies wait
    engine.sync() begins, ends; durable(barrier)       replies of barriers up to this one leave

The barrier must be read before the sync starts; what is committed while it runs belongs to the
next. A reply that shows a reader something waits just like an acknowledgement, for as long as what
it shows is not durable: otherwise a crash could take back what somebody has seen.

With durability `interval` and `memory` replies leave at the commit; what must be sure (`ack_surely`,
`reply_surely`, `effect`) waits in any case.
"""

from collections import deque
from collections.abc import Callable, Mapping

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.errors import StorageBusy
from basestore.protocol.codec import Message
from basestore.protocol.operator import Traced
from basestore.protocol.replication import Applied, Held, HeldDigest, Kept, Range, Rejected, Superseded
from basestore.storage.engine import META, Engine

PROGRESS = META + b"progress"
ACKS_MAX = 4096
UNSYNCED_BYTES_MAX = 64 << 20
PROGRESS_BYTES = 8


class _Commit:
    """One commit: its rows, and what leaves once they are durable."""

    __slots__ = ("acks", "bytes", "effects", "number", "replies", "rows", "sure_acks", "sure_replies")

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows: dict[bytes, bytes | None] = {}
        self.bytes = 0
        self.acks: dict[Outbox, list[int]] = {}
        self.sure_acks: dict[Outbox, list[int]] = {}
        self.sure_replies: list[tuple[Outbox, Message]] = []
        self.replies: list[tuple[Outbox, Message, int]] = []
        self.effects: list[Callable[[], None]] = []


class GroupCommit:
    """The only writer of an engine, once the node speaks. `generation` names the present opening of the
    store, in what is said of its sequence."""

    def __init__(self, engine: Engine, generation: bytes, *, waits: bool, failed: Callable[[], None]) -> None:
        """`waits`: replies wait for durability. `failed` is called when a batch was not taken."""
        self.engine = engine
        self._waits = waits
        self._failed = failed
        self.generation = generation
        self.sequence = self._load_progress()
        self.durable_sequence = self.sequence
        self._open = _Commit(self.sequence + 1)
        self._waiting: deque[_Commit] = deque()
        self.unsynced_bytes = 0

    def _load_progress(self) -> int:
        stored = self.engine.get(PROGRESS)
        return 0 if stored is None else int.from_bytes(stored[:PROGRESS_BYTES])

    @property
    def full(self) -> bool:
        """So much waits to be synced that new work should be refused."""
        return self.unsynced_bytes > UNSYNCED_BYTES_MAX

    @property
    def urgent(self) -> bool:
        """Something waits for durability whatever the setting: sync soon."""
        return any(commit.effects or commit.sure_acks or commit.sure_replies for commit in self._waiting)

    def get(self, key: bytes) -> bytes | None:
        """What is stored, this step's batch included."""
        rows = self._open.rows
        return rows[key] if key in rows else self.engine.get(key)

    @property
    def rows(self) -> dict[bytes, bytes | None]:
        """This step's batch, for whoever stages small rows beside a record on the way of every write."""
        return self._open.rows

    def stage(self, key: bytes, value: bytes | None) -> None:
        """Put (None deletes) with this step's batch."""
        commit = self._open
        commit.rows[key] = value
        commit.bytes += len(key) + (len(value) if value is not None else 0)

    def ack(self, outbox: Outbox, request: int, key: bytes) -> None:
        """Say Applied once what is stored under `key` is durable."""
        commit = self._holding(key)
        if commit is None:
            outbox.put(Applied([request], self.generation, self.durable_sequence))
        else:
            commit.acks.setdefault(outbox, []).append(request)

    def ack_staged(self, outbox: Outbox, request: int) -> None:
        """Say Applied once this step's batch is durable."""
        acks = self._open.acks
        if outbox in acks:
            acks[outbox].append(request)
        else:
            acks[outbox] = [request]

    def ack_surely(self, outbox: Outbox, request: int, key: bytes) -> None:
        """Say Applied once what is stored under `key` is durable, whatever the durability setting."""
        commit = self._unsynced(key)
        if commit is None:
            outbox.put(Applied([request], self.generation, self.durable_sequence))
        else:
            commit.sure_acks.setdefault(outbox, []).append(request)

    def reply_surely(self, outbox: Outbox, message: Message, key: bytes) -> None:
        """Send a message once what is stored under `key` is durable, whatever the setting."""
        commit = self._unsynced(key)
        if commit is None:
            outbox.put(message)
        else:
            commit.sure_replies.append((outbox, message))

    def reply(self, outbox: Outbox, message: Message, key: bytes, size: int = SMALL_BYTES) -> None:
        """Send a message once what is stored under `key` is durable."""
        commit = self._holding(key)
        if commit is None:
            outbox.put(message, size)
        else:
            commit.replies.append((outbox, message, size))

    def reply_after_all(self, outbox: Outbox, message: Message, size: int = SMALL_BYTES) -> None:
        """Send a message once everything stored so far is durable."""
        if self._open.rows or (self._waiting and self._waits):
            self._open.replies.append((outbox, message, size))
        else:
            outbox.put(message, size)

    def after_all(self, action: Callable[[], None]) -> None:
        """Call `action` once everything stored so far is durable, whatever the durability setting;
        actions keep their order. Never, if a batch is not taken."""
        if self._open.rows or self._open.effects or self._waiting:
            self._open.effects.append(action)
        else:
            action()

    def effect(self, action: Callable[[], None]) -> None:
        """Call `action` once this step's batch is durable, whatever the durability setting."""
        self._open.effects.append(action)

    def _holding(self, key: bytes) -> _Commit | None:
        """The commit that stores `key` and whose replies still wait, if any."""
        if key in self._open.rows:
            return self._open
        return self._unsynced(key) if self._waits else None

    def _unsynced(self, key: bytes) -> _Commit | None:
        """The last commit that stores `key` and is not durable yet, if any."""
        if key in self._open.rows:
            return self._open
        for commit in reversed(self._waiting):
            if key in commit.rows:
                return commit
        return None

    def commit(self) -> None:
        """Store this step's batch; `sequence` is then its barrier."""
        commit = self._open
        if not (commit.rows or commit.replies or commit.effects):
            return
        commit.rows[PROGRESS] = commit.number.to_bytes(PROGRESS_BYTES)
        try:
            self.engine.apply(commit.rows)
        except StorageBusy as busy:
            self._reject(commit, str(busy))
            return
        self.sequence = commit.number
        self._open = _Commit(commit.number + 1)
        self._waiting.append(commit)
        self.unsynced_bytes += commit.bytes
        if not self._waits:
            self._release(commit)

    def durable(self, barrier: int) -> None:
        """Everything committed up to `barrier` is durable: what waited for it leaves."""
        while self._waiting and self._waiting[0].number <= barrier:
            commit = self._waiting.popleft()
            self.durable_sequence = commit.number
            self.unsynced_bytes -= commit.bytes
            for action in commit.effects:
                action()
            self._release(commit)
            for outbox, message in commit.sure_replies:
                outbox.put(message)
            self._acknowledge(commit.sure_acks)

    def _release(self, commit: _Commit) -> None:
        for outbox, message, size in commit.replies:
            outbox.put(message, size)
        self._acknowledge(commit.acks)
        commit.acks = {}
        commit.replies = []

    def _acknowledge(self, acks: Mapping[Outbox, list[int]]) -> None:
        for outbox, ids in acks.items():
            for start in range(0, len(ids), ACKS_MAX):
                chunk = ids[start : start + ACKS_MAX]
                applied = Applied(chunk, self.generation, self.durable_sequence)
                outbox.put(applied, SMALL_BYTES + 9 * len(chunk))

    def _reject(self, commit: _Commit, reason: str) -> None:
        """The engine did not take the batch: nothing was done, and who waits for a request hears so.
        What else waited is asked for or staged again."""
        self._open = _Commit(commit.number)
        self._failed()
        for acks in (commit.acks, commit.sure_acks):
            for outbox, ids in acks.items():
                for request in ids:
                    outbox.put(Rejected(request, reason, True))
        for outbox, message in commit.sure_replies:
            if isinstance(message, Kept):
                outbox.put(message._replace(stored=False))
        for outbox, message, _ in commit.replies:
            if isinstance(message, Superseded | Held | HeldDigest | Range | Traced):
                outbox.put(Rejected(message.id, reason, True))
