"""Registers in a world (`world.py`): what is asked of them, and what was said of them between nodes."""

from collections.abc import Callable
from typing import Any

from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.protocol.client import (
    ADD,
    IF_ABSENT,
    IF_VALUE,
    IF_VERSION,
    NO_CONDITION,
    Delete,
    Get,
    Got,
    Set,
    Written,
)
from basestore.protocol.codec import Message
from basestore.protocol.replication import Accept, Forward, Learn, Peek, Prepare
from basestore.repair.rule import Rule
from basestore.repair.version import Version
from basestore.results.receipts import Item
from basestore.rows import row_partition
from tests.worlds.world import Call, World

SAID = (Prepare, Accept, Learn, Peek, Forward)


class RegisterWorld(World):
    """Nodes with buckets `cas`, of registers, and `agreed`, of those that are written once."""

    def __init__(self, count: int = 3, **facts: Any) -> None:
        buckets = {"cas": Rule.REGISTER, "agreed": Rule.FIRST_WRITE_AGREED}
        super().__init__(count, logged=True, buckets=buckets, **facts)
        self.until(lambda: all(self._is_acceptor(index) for index in range(count)))
        self.log.clear()

    def _is_acceptor(self, index: int) -> bool:
        """Whether a node is an acceptor of all that it holds."""
        node = self.node(index)
        seating = node.certificates.seating
        return all(
            seating.votes(partition, node.registers.acceptors.accepts()) for partition in seating.seats
        )

    def until(self, true: Callable[[], bool], seconds: float = 30.0) -> None:
        """Let time pass until this is so."""
        end_s = self.monotonic + seconds
        while not true():
            assert self.monotonic < end_s, "it does not come to be so"
            self.run(0.05)

    def votes(self, index: int, key: str) -> bool:
        """Whether a node is an acceptor of a row."""
        node = self.node(index)
        acceptor = node.registers.acceptors.accepts()
        return node.certificates.seating.votes(row_partition(self.row(key, "cas")), acceptor)

    def lose_store(self, index: int) -> None:
        """It comes back with nothing."""
        self.wipe(index)
        self.start(index)

    def home(self, key: str, bucket: str = "cas") -> int:
        """The node that writes it while all are alive."""
        return self.replicas(key, bucket)[0]

    def answers(self, index: int, *requests: Message) -> list[Message]:
        """What an acceptor says to these, of which none has come over a link."""
        node, outbox = self.node(index), Outbox(set())
        for request in requests:
            node.registers.acceptors.handlers[type(request)](node.me, outbox, request, self.now(index))
        node.group_commit.commit()
        node.engine.sync()
        node.group_commit.durable(node.group_commit.sequence)
        return outbox.take()

    # --- asking: nothing moves yet ---------------------------------------------------------------

    def write(
        self, at: int, key: str, value: str, condition: int = NO_CONDITION, expected: bytes = b"", *,
        bucket: str = "cas", timeout_s: float = 1.0, ttl_s: float = 0.0, identity: bytes = b"",
        again: bool = False, level: Level = Level.QUORUM,
    ) -> Call:  # fmt: skip
        ms, ttl_ms = round(timeout_s * 1e3), round(ttl_s * 1e3)
        return self.ask(
            at,
            lambda request: Set(
                request, bucket, key.encode(), value.encode(), level, ms, ttl_ms, identity, again, 0, False,
                condition, expected,
            ),
            level,
        )  # fmt: skip

    def remove(self, at: int, key: str, version: Version | None = None) -> Call:
        condition, expected = (IF_VERSION, version.encode()) if version else (NO_CONDITION, b"")
        return self.ask(
            at,
            lambda request: Delete(
                request, "cas", key.encode(), Level.QUORUM, 1000, b"", False, 0, False, condition, expected
            ),
        )

    def seek(self, at: int, key: str, level: Level = Level.QUORUM, *, bucket: str = "cas") -> Call:
        return self.ask(at, lambda request: Get(request, bucket, key.encode(), level, 1000, b"", True), level)

    # --- asking, until it is answered ------------------------------------------------------------

    def done(self, call: Call) -> Any:
        self.until(lambda: call.done, 5.0)
        return call.reply()

    def done_page(self, call: Call) -> tuple[list[Item], bytes | None]:
        self.until(lambda: call.done, 5.0)
        return call.page()

    def put_register(
        self, at: int, key: str, value: str, condition: int = NO_CONDITION, expected: bytes = b""
    ) -> Written:
        answer = self.done(self.write(at, key, value, condition, expected))
        assert isinstance(answer, Written), answer
        return answer

    def found_at(self, at: int, key: str, level: Level = Level.QUORUM) -> bytes | None:
        answer = self.done(self.seek(at, key, level))
        assert isinstance(answer, Got), answer
        return answer.value if answer.found else None

    def rounds(self) -> list[str]:
        """What proposers have said since this was asked last, each once a round, in order."""
        said: list[str] = []
        rounds: set[tuple[type, int]] = set()
        for sent in self.log:
            kind = type(sent.message)
            number = getattr(sent.message, "id", len(said))
            if kind in SAID and kind is not Learn and (kind, number) not in rounds:
                rounds.add((kind, number))
                said.append(kind.__name__)
        self.log.clear()
        return said


__all__ = ["ADD", "IF_ABSENT", "IF_VALUE", "IF_VERSION", "RegisterWorld"]
