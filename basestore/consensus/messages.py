"""Messages: what the voters of a group say to each other. Pure: whoever carries them knows who has said them.

RequestVote of the paper      Stand, and Granted
AppendEntries                 Append, and Appended
InstallSnapshot               Install, answered as an Append is
"""

from typing import NamedTuple

from basestore.consensus.log import BATCH_ENTRIES_MAX, Entry, Kind
from basestore.consensus.voters import decode_voters

_KINDS = frozenset(Kind)


class EntryRow(NamedTuple):
    """An entry as it travels."""

    term: int
    kind: int
    data: bytes


def rows_of(entries: list[Entry]) -> list[EntryRow]:
    return [EntryRow(entry.term, int(entry.kind), entry.data) for entry in entries]


def entries_of(rows: list[EntryRow]) -> list[Entry]:
    """Inverse of `rows_of`; what `check_entries` lets pass can be read."""
    return [Entry(row.term, Kind(row.kind), row.data) for row in rows]


def check_entries(rows: list[EntryRow], after: int = 0, until: int | None = None) -> str:
    """What makes no sense in these, or nothing. Terms never fall: from the one before, up to the leader's."""
    terms = [row.term for row in rows]
    row = [after, *terms, *([] if until is None else [until])]
    if row != sorted(row) or 0 in terms or len(rows) > BATCH_ENTRIES_MAX:
        return "has entries that cannot be"
    if any(row.kind not in _KINDS for row in rows):
        return "has entries that cannot be"
    try:
        changes = [decode_voters(row.data) for row in rows if row.kind == Kind.CHANGE]
    except ValueError:
        return "has a change of voters that names none"
    return "" if all(changes) else "has a change to no voters"


class Stand(NamedTuple):
    """The sender stands for `term`, and its log ends so. `pre`: would it be granted? Nothing is promised."""

    term: int
    last: int
    last_term: int
    pre: bool

    def check(self) -> str:
        return "" if self.last >= 0 and 0 <= self.last_term < self.term else "stands for no term"


class Granted(NamedTuple):
    """The vote, or not, and then the term that the sender has come to."""

    term: int
    pre: bool
    yes: bool

    def check(self) -> str:
        return "" if self.term >= 0 else "names no term"


class Append(NamedTuple):
    """Of the leader of `term`: these entries follow the one at `prev`, which has the term `prev_term`; all up
    to `commit` are decided. `round`: counts the leader's rounds of heartbeats."""

    term: int
    prev: int
    prev_term: int
    entries: list[EntryRow]
    commit: int
    round: int

    def check(self) -> str:
        if self.term < 1 or min(self.prev, self.commit) < 0 or not 0 <= self.prev_term <= self.term:
            return "names no place in a log"
        return check_entries(self.entries, self.prev_term, self.term)


class Appended(NamedTuple):
    """The answer. `ok`: the log is that of the leader up to `held`, durably; otherwise nothing was appended,
    and from `held` on the leader may try. A greater term says that the leader's is over."""

    term: int
    held: int
    round: int
    ok: bool

    def check(self) -> str:
        return "" if self.term >= 0 and self.held >= 0 else "names no place in a log"


class Install(NamedTuple):
    """What the receiver lacks begins before the leader's log does: this stands for all of that."""

    term: int
    last: int
    snapshot_term: int
    voters: bytes
    state: bytes
    round: int

    def check(self) -> str:
        try:
            voters = decode_voters(self.voters)
        except ValueError as error:
            return str(error)
        sound = self.term > 0 and self.last >= 0 and 0 <= self.snapshot_term <= self.term and voters
        return "" if sound else "names no place in a log"


RaftMessage = Stand | Granted | Append | Appended | Install
