"""The judge of register loads: what it lets pass, and what it does not."""

from dataclasses import replace

import pytest

from basestore.repair.version import Version
from tests.cluster.register_ledger import NOT_MADE, NOTHING, STORED, UNKNOWN, Ledger, Shown, Write


def stored(value: bytes, over: bytes, begun: float) -> Write:
    version = Version(int(begun) + 1, 1, 1)
    return Write("w", "chain", value, over, begun, begun + 1, STORED, version)


A, B, C = stored(b"a", NOTHING, 0.0), stored(b"b", b"a", 2.0), stored(b"c", b"b", 4.0)
ADDED = [Write("w", "counter", b"%d" % n, b"", 2.0 * n, 2.0 * n + 1, STORED) for n in (1, 2, 3)]


def complaints(final: bytes, writes: list[Write], *shown: Shown) -> str:
    ledger = Ledger()
    for write in writes:
        ledger.begin(write)
    for look in shown:
        ledger.show(look)
    return "\n".join(ledger.complaints(dict.fromkeys(ledger.keys, final)))


def test_what_follows_each_other_is_right_and_what_is_unknown_may_be_there_or_not() -> None:
    lost = Write("w", "chain", b"x", b"a", 2.5, 3.5, NOT_MADE, lost_to=b"b")
    assert complaints(b"c", [A, B, C, lost], Shown("chain", b"a", A.version, 0.5, 2.5)) == ""
    unknown = replace(B, outcome=UNKNOWN, version=None, ended=float("inf"))
    assert complaints(b"c", [A, unknown, C]) == ""
    assert complaints(b"a", [A, unknown]) == ""
    assert complaints(b"3", ADDED) == ""
    maybe = replace(ADDED[2], outcome=UNKNOWN, value=b"")
    assert complaints(b"3", [*ADDED[:2], maybe]) == complaints(b"2", [*ADDED[:2], maybe]) == ""


@pytest.mark.parametrize(
    ("final", "writes", "shown", "words"),
    [
        (b"b", [A, B, C], [], "acknowledged, and it is not in the chain"),
        (b"", [A], [], "acknowledged, and it is not in the chain"),
        (b"c", [A, replace(B, outcome=NOT_MADE), C], [], "it was said not to be made, and it was"),
        (b"b", [A, B, replace(C, outcome=NOT_MADE, lost_to=b"b")], [], "lost to what it was to replace"),
        (b"c", [A, C], [], "nobody wrote it"),
        (b"b", [A, B, replace(A, over=b"b")], [], "was there twice"),
        (b"b", [A, B], [Shown("chain", b"x", None, 3.0, 4.0)], "was never there"),
        (b"b", [A, B], [Shown("chain", b"a", A.version, 3.5, 4.0)], "had been shown"),
        (b"b", [A, replace(B, begun=3.5)], [Shown("chain", b"b", B.version, 2.0, 3.0)], "had been shown"),
        (b"b", [A, B], [Shown("chain", b"b", A.version, 3.5, 4.0)], "is known by"),
        (b"2", ADDED, [], "2 at the end; 3 were added, and perhaps 0 more"),
        (b"4", ADDED, [], "4 at the end"),
        (b"3", [*ADDED[:2], replace(ADDED[1])], [], "2 have made b'2'"),
        (b"3", [*ADDED[:2], replace(ADDED[2], value=b"1")], [], "2 have made b'1'"),
        (b"3", ADDED, [Shown("counter", b"2", None, 8.0, 9.0)], "after place 3 had been shown"),
    ],
)
def test_what_is_wrong_is_found(final: bytes, writes: list[Write], shown: list[Shown], words: str) -> None:
    assert words in complaints(final, writes, *shown)
