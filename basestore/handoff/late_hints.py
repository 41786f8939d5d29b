"""Late hints: what becomes, at an operator's word, of hints that their member takes no more.

Such a hint is the only copy of a write that came too late to be taken as that write: purged
tombstones may have been newer. So it is kept until an operator says `replay --late`. Then, for each, a
quorum is read: if what it holds beats the hint, the hint goes; so it does if its value has expired.
Where records are immutable whatever is found beats it, for a new write can only come after that.
Otherwise the value is written anew at QUORUM, as a new write of this node, and the hint goes once that
is stored. Whatever fails leaves the hint, for the next replay. Nothing is decided without that word.
One that is damaged is never written: it goes, and that is a loss. One whose bucket is dropped goes with all
else of it (`dropped_hints.py`).
"""

from collections import deque
from collections.abc import Mapping

from basestore.consistency import Level
from basestore.coordinator.attempts import Content, Decision
from basestore.coordinator.context import Context
from basestore.coordinator.finding import Finding
from basestore.coordinator.quorum_read import read
from basestore.coordinator.quorum_write import write
from basestore.errors import InvalidRequest, RequestFailed
from basestore.handoff.hints import Hints
from basestore.handoff.pile import Pile
from basestore.instant import Instant
from basestore.protocol.client import OUTCOME_STORED
from basestore.repair.rule import Rule
from basestore.repair.write_repair import Hint
from basestore.rows import row_bucket
from basestore.storage import keyspace

AT_ONCE = 16
LATE_S = 5.0
PAGE_ROWS = 200


class LateHints:
    """Decides the late hints of one node: page by page, a few at a time. Reads and writes as a client's
    request would, and keeps nothing of it but what is counted."""

    def __init__(self, hints: Hints, rules: Mapping[bytes, Rule], context: Context) -> None:
        self._hints = hints
        self._rules = rules
        self._context = context
        self._pages: deque[tuple[Pile, bytes]] = deque()  # piles, and where the next page begins
        self._waiting: deque[tuple[Pile, bytes]] = deque()
        self._under_way = 0

    def begin(self, now: Instant) -> None:
        """Decide all that are late by now; those too that an earlier word has passed by and left."""
        self._pages = deque((pile, pile.lates) for pile in self._hints.piles if pile.late_count)
        self.tick(now)

    @property
    def at_rest(self) -> bool:
        """Whether none is being decided."""
        return not (self._waiting or self._pages)

    def tick(self, now: Instant) -> None:
        """Go on with the next, a few at a time."""
        if not self._waiting and not self._under_way and self._pages:
            pile, start = self._pages.popleft()
            page = list(self._hints.by_age(pile, start, PAGE_ROWS))
            self._waiting += ((pile, row) for row, _ in page)
            if page:
                row, hint = page[-1]
                self._pages.append((pile, keyspace.after(pile.age_key(hint, row))))
        while self._waiting and self._under_way < AT_ONCE and self._context.operations.idle:
            pile, row = self._waiting.popleft()
            kept = self._hints.kept(pile, row)
            # Since its page was read it may have been decided, or have gone to a better hint.
            if kept is None or not kept.late:
                continue
            if not kept.record.intact(self._context.digester, row):
                self._hints.damaged(pile, row, kept, now)
            else:
                self._look(pile, row, kept, now)

    def _look(self, pile: Pile, row: bytes, hint: Hint, now: Instant) -> None:
        """Read a quorum."""
        rule = self._rules.get(row_bucket(row), Rule.OF_REMOVED_BUCKET)
        self._under_way += 1

        def after(result: Finding | RequestFailed, now: Instant) -> None:
            head, expires_ms = hint.record.head, hint.record.expires_ms
            time_ms = self._context.peers.clock.now_ms(now) if expires_ms else 0
            if isinstance(result, RequestFailed) or time_ms is None:
                self._end(pile, row, hint, "")
            elif 0 < expires_ms <= time_ms or (
                result.record is not None and (rule.immutable or not rule.beats(head, result.record.head))
            ):
                self._end(pile, row, hint, "hints_late_superseded")
            else:
                # The rest of its life: it expires about when it always would have, though written later.
                self._write(pile, row, hint, rule, expires_ms - time_ms if expires_ms else 0, now)

        try:
            read(self._context, row, rule, Level.QUORUM, now.monotonic + LATE_S, after, now)
        except RequestFailed:
            self._end(pile, row, hint, "")

    def _write(self, pile: Pile, row: bytes, hint: Hint, rule: Rule, ttl_ms: int, now: Instant) -> None:
        """Write the value anew; what the row holds has just been read."""
        record = hint.record
        content = Content(row, record.value, ttl_ms, record.tombstone, rule, proposal=record.proposal)

        def after(result: Decision | InvalidRequest | RequestFailed, now: Instant) -> None:
            stored = isinstance(result, Decision) and result.outcome == OUTCOME_STORED
            self._end(pile, row, hint, "hints_late_rewritten" if stored else "")

        try:
            write(self._context, content, Level.QUORUM, now.monotonic + LATE_S, after, now)
        except RequestFailed:
            self._end(pile, row, hint, "")

    def _end(self, pile: Pile, row: bytes, hint: Hint, outcome: str) -> None:
        """One is decided: what it counts as, or, if empty, it is left as it was."""
        self._under_way -= 1
        if outcome:
            self._hints.settle(pile, row, hint, outcome)
