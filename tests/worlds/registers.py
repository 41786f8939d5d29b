"""Registers in a world (`world.py`): what is asked of them, and what was said of them between nodes."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from basestore.consistency import Level
from basestore.protocol.client import (
    ADD,
    ANYHOW,
    IF_ABSENT,
    IF_VALUE,
    IF_VERSION,
    Delete,
    Get,
    Got,
    Set,
    Written,
)
from basestore.protocol.replication import Accept, Learn, Peek, Prepare, Serial
from basestore.registers import learning
from basestore.repair.rule import Rule
from basestore.repair.version import Version
from basestore.results.receipts import Item
from basestore.rows import row_partition
from tests.worlds.world import Call, World

SAID = (Prepare, Accept, Learn, Peek, Serial)


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
        return all(seating.votes(partition, node.identity.store) for partition in seating.seats)

    def until(self, true: Callable[[], bool], seconds: float = 30.0) -> None:
        """Let time pass until this is so."""
        end_s = self.monotonic + seconds
        while not true():
            assert self.monotonic < end_s, "it does not come to be so"
            self.run(0.05)

    def votes(self, index: int, key: str) -> bool:
        """Whether a node is an acceptor of a row."""
        node = self.node(index)
        return node.certificates.seating.votes(row_partition(self.row(key, "cas")), node.identity.store)

    def lose_store(self, index: int) -> None:
        """It comes back with nothing."""
        self.wipe(index)
        self.start(index)

    def accepted_by(self, key: str, value: str, *who: int) -> None:
        """A write that only these accept, and nobody learns."""
        self.lose = lambda sent: (
            isinstance(sent.message, Learn) or (isinstance(sent.message, Accept) and sent.target not in who)
        )
        with patch.object(learning, "Learn", lambda rows, ballots: Learn(rows, [bytes(16) for _ in ballots])):
            call = self.write(self.home(key), key, value, timeout_s=0.3)
            self.until(lambda: call.done)
        self.lose = lambda sent: False

    def home(self, key: str, bucket: str = "cas") -> int:
        """The node that writes it while all are alive."""
        return self.replicas(key, bucket)[0]

    # --- asking: nothing moves yet ---------------------------------------------------------------

    def write(
        self, at: int, key: str, value: str, condition: int = ANYHOW, expected: bytes = b"", *,
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
        condition, expected = (IF_VERSION, version.encode()) if version else (ANYHOW, b"")
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
        self, at: int, key: str, value: str, condition: int = ANYHOW, expected: bytes = b""
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
