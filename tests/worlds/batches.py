"""Atomic batches in a world (`world.py`): what is asked, and what lies where."""

from collections.abc import Callable
from typing import Any

from basestore.batches.part import part_row
from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.protocol.client import DELETE, SET, BatchWritten, Failed, WriteBatch
from basestore.protocol.codec import Message
from basestore.protocol.groups import LOOK, AskPart, HoldPart
from basestore.protocol.replication import Apply
from basestore.repair.version import Record
from basestore.rows import row_bucket
from basestore.storage.keyspace import SEQUENCE_BYTES, record, records_of, row_of
from basestore.topology.buckets import PARTS
from tests.worlds.registers import RegisterWorld
from tests.worlds.world import Call, Sent

MEMBERS = 5


class BatchWorld(RegisterWorld):
    """Nodes that write batches to bucket `default`, unless another is named."""

    def __init__(self, count: int = 3, **facts: Any) -> None:
        super().__init__(count, **{"timeout_ms_max": 20_000, **facts})
        self._drawn = 0

    def identity(self) -> bytes:
        """What a client draws; the last is `drawn`."""
        self._drawn += 1
        return self.drawn

    @property
    def drawn(self) -> bytes:
        return self._drawn.to_bytes(8)

    def batch(
        self, at: int, values: dict[str, str | None], *, bucket: str | dict[str, str] = "default",
        timeout_s: float = 2.0, level: int = Level.QUORUM, identity: bytes = b"", repeats: bool = False,
        ttl_s: float = 0.0,
    ) -> Call:  # fmt: skip
        """Ask a node to write this, in one bucket or, by key, in several; None deletes. Nothing moves yet."""
        identity = identity or self.identity()
        keys, ttl_ms = [key.encode() for key in values], round(ttl_s * 1e3)
        buckets = [bucket if isinstance(bucket, str) else bucket[key] for key in values]

        def make(request: int) -> Message:
            return WriteBatch(
                request, level, round(timeout_s * 1e3), identity, repeats, buckets, keys,
                [DELETE if value is None else SET for value in values.values()],
                [(value or "").encode() for value in values.values()],
                [0 if value is None else ttl_ms for value in values.values()],
            )  # fmt: skip

        return self.ask(at, make)

    def answered(self, call: Call, seconds: float = 25.0) -> Any:
        self.until(lambda: call.done, seconds)
        return call.reply()

    def written(self, at: int, values: dict[str, str | None], **more: Any) -> BatchWritten:
        answer = self.answered(self.batch(at, values, **more))
        assert isinstance(answer, BatchWritten), answer
        return answer

    def refused(self, at: int, values: dict[str, str | None], **more: Any) -> Failed:
        answer = self.answered(self.batch(at, values, **more))
        assert isinstance(answer, Failed), answer
        return answer

    def answers_of_parts(self, index: int, *requests: Message) -> list[Message]:
        """What a store says to these, of which none has come over a link."""
        node, outbox = self.node(index), Outbox(set())
        for request in requests:
            node.batches.handlers[type(request)](node.me, outbox, request, self.now(index))
        node.group_commit.commit()
        node.engine.sync()
        node.group_commit.durable(node.group_commit.sequence)
        return outbox.take()

    def spoil_row(self, index: int, row: bytes) -> None:
        """Change one byte of a stored record of this row."""
        self.engines[index].spoil_at(record(row), 60)
        self.node(index).replica.marks.clear()

    # --- what lies where -------------------------------------------------------------------------

    def key_in(self, partition: int, number: int = 0) -> str:
        """A key of `default` there; another one for each number."""
        keys = (f"k{at}" for at in range(10_000))
        return [key for key in keys if self.row(key)[:2] == partition.to_bytes(2)][number]

    def parts(self) -> int:
        """How many parts lie in any store, of batches that are not over."""
        return sum(node.batches.count for node in self.running)

    def part_at(self, index: int, partition: int, proposal: bytes) -> Record | None:
        stored = self.engines[index].get(record(part_row(partition, proposal)))
        return None if stored is None else Record(stored[:-SEQUENCE_BYTES])

    def part_rows(self) -> int:
        """How many rows of parts there are, with those of tombstones."""
        return sum(
            row_bucket(row_of(key)) == PARTS
            for node in self.running
            for partition in node.summaries.of
            for key, _ in node.group_commit.scan(*records_of(partition))
        )

    def over(self, seconds: float = 60.0) -> None:
        """Until nothing of any batch is unfinished."""
        self.until(lambda: not self.parts(), seconds)


def holds(partition: int) -> Callable[[Sent], bool]:
    """Whether what is sent asks to hold a part of this partition."""

    def told(sent: Sent) -> bool:
        return isinstance(sent.message, HoldPart) and sent.message.row[:2] == partition.to_bytes(2)

    return told


def says(kind: type[Any], **facts: Any) -> Callable[[Sent], bool]:
    """Whether what is sent is of this kind, and its fields are so."""

    def told(sent: Sent) -> bool:
        of = sent.message
        return isinstance(of, kind) and all(getattr(of, name) == value for name, value in facts.items())

    return told


def ended(sent: Sent) -> bool:
    """Whether this is a tombstone of a part."""
    return isinstance(sent.message, Apply) and row_bucket(sent.message.row) == PARTS


class Scene:
    """Five nodes, of which three hold each partition; a batch for two partitions, `out` and `other`, begun at
    one that holds neither, if there is one."""

    def __init__(self, count: int = MEMBERS, **facts: object) -> None:
        self.world = world = BatchWorld(count, **{"partitions": 8, "reconcile": True, **facts})
        pairs = [(a, b) for a in range(8) for b in range(a)]

        def idle(pair: tuple[int, int]) -> list[int]:
            held = {at for partition in pair for at in world.placement.replicas[partition]}
            return [at for at in range(count) if at not in held]

        best = max(pairs, key=lambda pair: (len(idle(pair)), pair))
        self.at = (idle(best) or [0])[0]
        self.first, self.second = best
        self.keys = [world.key_in(at) for at in best]
        self.values: dict[str, str | None] = dict.fromkeys(self.keys, "batch")

    def begin(self, lose: Callable[[Sent], bool], seconds: float = 1.0) -> Call:
        """The batch is asked for, and so much time passes in which what is lost is."""
        self.world.lose = lose
        call = self.world.batch(self.at, self.values, timeout_s=1.0)
        self.world.run(seconds)
        return call

    def die(self) -> None:
        """The coordinator does; from now on nothing is lost."""
        self.world.crash(self.at)
        self.world.lose = lambda sent: False

    def replicas(self, partition: int) -> tuple[int, ...]:
        return self.world.placement.replicas[partition]

    def reader(self) -> int:
        return next(at for at, node in enumerate(self.world.nodes) if node is not None)

    def found(self) -> list[str | None]:
        return [self.world.look(self.reader(), key).text for key in self.keys]

    def row_at(self, index: int, partition: int) -> bytes:
        """Of the part that a node holds there."""
        rows = self.world.node(index).batches.parts.rows
        return next(row for row in rows if row[:2] == partition.to_bytes(2))

    def state_at(self, index: int, partition: int) -> int:
        """What a node answers of its part."""
        row = next(
            row for row in self.world.node(index).batches.parts.rows if row[:2] == partition.to_bytes(2)
        )
        (told,) = self.world.answers_of_parts(index, AskPart(1, row, b"", LOOK, 0))
        state: int = told.state  # type: ignore[attr-defined]
        return state

    def over(self, *values: str | None) -> None:
        """It comes to an end, at all that run, and this is what is found then."""
        self.world.over()
        assert self.found() == list(values)
