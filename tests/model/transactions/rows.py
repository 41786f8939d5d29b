"""Rows: the registers of keys, given as what they are proven to be: each change is one step of one row.

What leaves a coordinator for a row may arrive late or twice. A *lay* is a compare: it puts an intent in the
place of the record that it names, however often it comes, and so again after it was rolled back.
"""

from typing import TYPE_CHECKING, NamedTuple

from tests.model.transactions.records import Intent, Row

if TYPE_CHECKING:
    from tests.model.transactions.judge import Judge

KEYS = "abcd"
FIRST = 0  # what was there before all


class Answered(NamedTuple):
    """`blocked`: by an intent; else whether it is stored; `identity`: what is there."""

    stored: bool
    identity: int
    blocked: Intent | None = None


class Rows:
    def __init__(self, judge: "Judge") -> None:
        self.judge = judge
        self.rows = dict.fromkeys(KEYS, Row(FIRST))
        self.stored: set[int] = set()  # plain writes: a register applies none twice

    def lay(self, key: str, intent: Intent) -> Answered:
        row = self.rows[key]
        if row.intent == intent:
            return Answered(True, row.identity)
        if row.intent is not None:
            return Answered(False, row.identity, row.intent)
        if not self.may_lay(row, intent):
            return Answered(False, row.identity)
        self.rows[key] = Row(intent.identity, intent)
        self.judge.lay(key, intent)
        return Answered(True, intent.identity)

    def may_lay(self, row: Row, intent: Intent) -> bool:
        return row.identity == intent.old

    def write(self, key: str, identity: int, expected: int | None) -> Answered:
        """A plain write, with a version that it names or without."""
        row = self.rows[key]
        if identity in self.stored:
            return Answered(True, identity)
        if row.intent is not None and self.blocks(row.intent, expected):
            return Answered(False, row.identity, row.intent)
        if expected is not None and expected not in (row.identity, row.intent and row.intent.old):
            return Answered(False, row.identity)
        self.stored.add(identity)
        self.put(key, identity)
        return Answered(True, identity)

    def blocks(self, intent: Intent, expected: int | None) -> bool:
        return True

    def resolve(self, key: str, intent: Intent, identity: int) -> None:
        if self.is_still(self.rows[key], intent):
            self.put(key, identity)

    def is_still(self, row: Row, intent: Intent) -> bool:
        return row.intent == intent

    def put(self, key: str, identity: int) -> None:
        self.rows[key] = Row(identity)
        self.judge.put(key, identity)
