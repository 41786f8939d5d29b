"""Answers: what a request of a drill was answered, as a value and in words.

Adds nothing to what a node says: outcome, error and versions are read off its answer as the library reads
them (`results`).
"""

import re
from typing import Any, NamedTuple

from basestore.consistency import Level, Outcome
from basestore.errors import InvalidRequest, ReadTimeout, RequestFailed, WriteTimeout
from basestore.protocol.client import Committed
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Names
from basestore.repair.version import Version
from basestore.results.readers import read_result, receipt

FOUND, MISSING, STORED, LOST = "found", "not found", Outcome.STORED.value, Outcome.LOST.value
COMMITTED = "committed"
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Answer(NamedTuple):
    """One request, and what became of it.

    outcome   stored, superseded, lost; found, not found; committed; or the error, as write timeout
    definite  of an error: whether certainly nothing was done; otherwise None
    value     that the key holds, as far as the answer tells
    version   of the write, or of what was read; `winner`: what a write has lost to
    reached   how many replicas have confirmed, of `required`; of a read, have answered
    final     of a first-write bucket: whether it can no longer be contested
    """

    node: str
    asked: str
    at_s: float
    took_s: float
    outcome: str
    definite: bool | None = None
    value: str | None = None
    version: Version | None = None
    winner: Version | None = None
    reached: int = 0
    required: int = 0
    final: bool | None = None

    @property
    def refused(self) -> bool:
        """It is an error, and certainly nothing was done."""
        return self.definite is True

    @property
    def words(self) -> str:
        """In a few words, without the time."""
        if self.definite is not None:
            return f"{self.outcome}, {'definite' if self.definite else 'may have happened'}"
        final = {None: "", True: ", final", False: ", provisional"}[self.final]
        to = " to" if self.outcome == LOST else ""
        shown = f"{to} {self.value!r}" if self.value is not None else ""
        return f"{self.outcome}{shown}{final}"

    @property
    def cell(self) -> str:
        """The same with the time, for a table."""
        return f"{self.took_s * 1e3:6.1f} ms  {self.words}"

    def as_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "asked": self.asked,
            "at_s": round(self.at_s, 6),
            "took_ms": round(self.took_s * 1e3, 3),
            "outcome": self.outcome,
            "definite": self.definite,
            "value": self.value,
            "version": str(self.version) if self.version else None,
            "winner": str(self.winner) if self.winner else None,
            "reached": self.reached,
            "required": self.required,
            "final": self.final,
        }


class Asked(NamedTuple):
    """A request, as it was sent. `writes`: it is no read."""

    node: str
    what: str
    at_s: float
    writes: bool
    level: Level

    def answered(self, message: Message, now_s: float, members: Names) -> Answer:
        """With what has come now."""
        base = Answer(self.node, self.what, self.at_s, now_s - self.at_s, "")
        if isinstance(message, Committed):
            return base._replace(outcome=COMMITTED)
        try:
            return self._of_write(base, message, members) if self.writes else self._of_read(base, message)
        except (InvalidRequest, RequestFailed) as error:
            named = _WORDS.sub(" ", type(error).__name__).lower()
            late = error if isinstance(error, ReadTimeout | WriteTimeout) else None
            return base._replace(
                outcome=named,
                definite=error.definite,
                version=error.version if isinstance(error, RequestFailed) else None,
                reached=(late and late.received) or 0,
                required=(late and late.required) or 0,
            )

    def _of_write(self, base: Answer, message: Message, members: Names) -> Answer:
        told = receipt(message, self.level, members)
        return base._replace(
            outcome=told.outcome.value,
            value=told.value.decode() if told.value is not None else None,
            version=told.version,
            winner=told.superseded_by,
            reached=told.acknowledged,
            required=told.required,
            final=told.final,
        )

    def _of_read(self, base: Answer, message: Message) -> Answer:
        told = read_result(message, self.level)
        return base._replace(
            outcome=FOUND if told.found else MISSING,
            value=told.text,
            version=told.version,
            reached=told.responded,
            required=told.required,
            final=told.final,
        )
