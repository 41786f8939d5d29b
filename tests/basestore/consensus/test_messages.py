"""Messages: what makes no sense is told apart before it comes to Raft."""

import pytest

from basestore.consensus.log import BATCH_ENTRIES_MAX, Entry, Kind
from basestore.consensus.messages import (
    Append,
    Appended,
    EntryRow,
    Granted,
    Install,
    RaftMessage,
    Stand,
    entries_of,
    rows_of,
)
from basestore.consensus.voters import encode_voters
from tests.worlds.raft_stage import voter

VOTERS = encode_voters([voter(1)])
ROW = EntryRow(2, Kind.DATA, b"x")


def append(*entries: EntryRow, prev_term: int = 1, term: int = 2) -> Append:
    return Append(term, 4, prev_term, list(entries), 0, 1)


@pytest.mark.parametrize(
    "message",
    [
        Stand(1, 0, 0, True), Granted(0, True, False), append(), append(ROW), Appended(1, 0, 1, True),
        append(EntryRow(1, Kind.CHANGE, VOTERS), ROW), Install(2, 4, 2, VOTERS, b"", 1),
    ],
)  # fmt: skip
def test_what_makes_sense_passes(message: RaftMessage) -> None:
    assert message.check() == ""


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (Stand(2, 1, 2, False), "stands for no term"),
        (Stand(2, -1, 1, False), "stands for no term"),
        (Granted(-1, False, True), "names no term"),
        (append(prev_term=3), "names no place"),
        (append(ROW, EntryRow(1, Kind.DATA, b"")), "entries that cannot be"),
        (append(EntryRow(3, Kind.DATA, b"")), "entries that cannot be"),
        (append(EntryRow(0, Kind.DATA, b""), prev_term=0), "entries that cannot be"),
        (append(ROW, prev_term=2, term=3)._replace(entries=[EntryRow(1, Kind.DATA, b"")]), "cannot be"),
        (append(*[ROW] * (BATCH_ENTRIES_MAX + 1)), "entries that cannot be"),
        (append(EntryRow(2, 9, b"")), "entries that cannot be"),
        (append(EntryRow(2, Kind.CHANGE, b"x")), "names none"),
        (append(EntryRow(2, Kind.CHANGE, b"")), "no voters"),
        (append()._replace(commit=-1), "names no place"),
        (Appended(1, -1, 1, True), "names no place"),
        (Install(2, 4, 3, VOTERS, b"", 1), "names no place"),
        (Install(2, 4, 1, b"", b"", 1), "names no place"),
        (Install(2, 4, 1, b"x", b"", 1), "name no voters"),
    ],
)
def test_what_makes_none_is_refused(message: RaftMessage, problem: str) -> None:
    assert problem in message.check()


def test_entries_travel_as_rows() -> None:
    entries = [Entry(1, Kind.EMPTY, b""), Entry(2, Kind.CHANGE, VOTERS)]
    assert entries_of(rows_of(entries)) == entries
