"""Transactions in a world of registers (`registers.py`): what is asked, and what lies where."""

from typing import Any, NamedTuple

from basestore.protocol.client import DELETE, HOLDS_NOTHING, READ, SET, Commit, Committed, Failed, Got
from basestore.protocol.replication import Accept
from basestore.repair.intents import decided
from basestore.repair.version import Record
from basestore.rows import row_bucket
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES
from basestore.topology.buckets import DECISIONS
from tests.worlds.registers import RegisterWorld
from tests.worlds.world import Call, Sent

WHATEVER = b""  # is expected of a key that was not read


class Step(NamedTuple):
    """What is done with a key of bucket `cas`, unless another is named."""

    kind: int
    key: str
    value: str | bytes = ""
    expected: bytes = WHATEVER
    bucket: str = "cas"
    ttl_s: float = 0.0


def sets(key: str, value: str, expected: bytes = WHATEVER, **more: Any) -> Step:
    return Step(SET, key, value, expected, **more)


def deletes(key: str, expected: bytes = WHATEVER) -> Step:
    return Step(DELETE, key, "", expected)


def reads(key: str, expected: bytes, **more: Any) -> Step:
    return Step(READ, key, "", expected, **more)


ASIDE = sets("aside", "1")


class TransactionWorld(RegisterWorld):
    """`said`: all that went between nodes since the last look."""

    def __init__(self, count: int = 3, **facts: Any) -> None:
        super().__init__(count, **{"timeout_ms_max": 3000, **facts})

    def transact(self, at: int, *steps: Step, timeout_s: float = 2.0) -> Call:
        """Ask a node to commit this; nothing moves yet. What is one write would be a compare-and-set, which
        lays no intent: so with that another key is written, aside."""
        if len(steps) == 1 and steps[0].kind in (SET, DELETE):
            steps = (*steps, ASIDE)
        return self.ask(
            at,
            lambda request: Commit(
                request, round(timeout_s * 1e3),
                [step.bucket for step in steps],
                [step.key.encode() for step in steps],
                [step.kind for step in steps],
                [step.expected for step in steps],
                [step.value.encode() if isinstance(step.value, str) else step.value for step in steps],
                [round(step.ttl_s * 1e3) for step in steps],
            ),
        )  # fmt: skip

    def committed(self, at: int, *steps: Step, timeout_s: float = 2.0) -> list[bytes]:
        """Have it committed; the versions of what was written."""
        answer = self.answered(self.transact(at, *steps, timeout_s=timeout_s))
        assert isinstance(answer, Committed), answer
        return answer.versions

    def refused(self, at: int, *steps: Step, timeout_s: float = 2.0) -> Failed:
        answer = self.answered(self.transact(at, *steps, timeout_s=timeout_s))
        assert isinstance(answer, Failed), answer
        return answer

    def answered(self, call: Call, seconds: float = 10.0) -> Any:
        self.until(lambda: call.done, seconds)
        return call.reply()

    def version_of(self, key: str, at: int = 0) -> bytes:
        """As which a read finds it; HOLDS_NOTHING if it finds nothing."""
        got = self.answered(self.seek(at, key))
        assert isinstance(got, Got), got
        return got.version if got.found else HOLDS_NOTHING

    # --- what lies where -------------------------------------------------------------------------

    def intents(self) -> int:
        """How many rows of any store hold one."""
        return sum(record.intent for _, record in self.held_rows())

    def decisions(self) -> dict[bytes, bytes]:
        """By transaction what any store holds to be decided; what is deleted is left out."""
        return {
            row: decided(record)
            for row, record in self.held_rows()
            if row_bucket(row) == DECISIONS and not record.tombstone
        }

    def held_rows(self) -> list[tuple[bytes, Record]]:
        """Of all stores, rows and their records."""
        return [
            (row, record)
            for node in self.running
            for partition in node.summaries.of
            for row, record in held_of(node, partition)
        ]

    def tidied(self) -> None:
        """Until nothing of any transaction is left anywhere."""
        self.until(lambda: not (self.intents() or self.decisions()), 30.0)


def held_of(node: Any, partition: int) -> list[tuple[bytes, Record]]:
    """Rows and records that a node's replica holds of a partition."""
    return [
        (keyspace.row_of(key), Record(stored[:-SEQUENCE_BYTES]))
        for key, stored in node.group_commit.scan(*keyspace.records_of(partition))
    ]


def accepts_decision(sent: Sent) -> bool:
    """Whether this asks an acceptor to accept what was decided."""
    return isinstance(sent.message, Accept) and row_bucket(sent.message.row) == DECISIONS


__all__ = ["HOLDS_NOTHING", "TransactionWorld", "accepts_decision", "deletes", "reads", "sets"]
