"""The judge of transactions on histories known to be good and bad, and beside its exhaustive twin."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.serializable import Anomaly, Read, Transaction, Version, judge

INF = float("inf")


def t(name: str, start: float, end: float, *what: str) -> Transaction:
    """`what`: `rx1` reads version 1 of x, `rx` finds nothing there, `wx2` writes version 2."""
    return Transaction(
        name, start, end,
        tuple(Read(each[1], int(each[2:]) if each[2:] else None) for each in what if each[0] == "r"),
        tuple((each[1], int(each[2:])) for each in what if each[0] == "w"),
    )  # fmt: skip


def order(*versions: int, gone: Sequence[int] = ()) -> list[Version]:
    return [Version(each, b"%d" % each, each in gone) for each in versions]


XY = {"x": order(1, 2), "y": order(1, 2)}
BASE = t("base", 0, 1, "wx1", "wy1")

BAD: dict[str, tuple[str, list[Transaction], dict[str, list[Version]]]] = {
    "two write two rows in two orders": (
        "G0", [t("a", 2, 9, "wx1", "wy2"), t("b", 2, 9, "wx2", "wy1")], XY,
    ),
    "each has read what the other wrote": (
        "G1c", [BASE, t("a", 2, 9, "wx2", "ry2"), t("b", 2, 9, "wy2", "rx2")], XY,
    ),
    "a lost update": (
        "G-single", [BASE, t("a", 2, 9, "rx1", "wx2"), t("b", 2, 9, "rx1", "wx3")],
        {**XY, "x": order(1, 2, 3)},
    ),
    "half of another is read": (
        "G-single", [BASE, t("a", 2, 9, "wx2", "wy2"), t("b", 2, 9, "rx2", "ry1")], XY,
    ),
    "half of one that was not answered is read": (
        "G-single", [BASE, t("a", 2, INF, "wx2", "wy2"), t("b", 20, 21, "rx2", "ry1")], XY,
    ),
    "two reads of one row beside a plain write": (
        "G-single",
        [BASE, t("plain", 2, 9, "wx2"), t("a", 2, 9, "rx1", "ry2"), t("b", 2, 9, "rx2", "wy2")], XY,
    ),
    "a write skew": (
        "G2", [BASE, t("a", 2, 9, "rx1", "wy2"), t("b", 2, 9, "ry1", "wx2")], XY,
    ),
    "a write skew of what was not there": (
        "G2", [t("a", 2, 9, "rx", "wy1"), t("b", 2, 9, "ry", "wx1")], {"x": order(1), "y": order(1)},
    ),
    "two readers who see two orders": (
        "G2", [BASE, t("a", 2, INF, "wx2"), t("b", 2, INF, "wy2"), t("c", 3, 9, "rx2", "ry1"),
               t("d", 3, 9, "rx1", "ry2")], XY,
    ),
    "a later write stands before an earlier one": (
        "G0-realtime", [t("a", 0, 1, "wx2"), t("b", 2, 3, "wx1")], XY,
    ),
    "a read of what was written only later": (
        "G1c-realtime", [BASE, t("a", 2, 3, "rx2"), t("b", 4, 5, "wx2")], XY,
    ),
    "a read of what was replaced before": (
        "G-single-realtime", [BASE, t("a", 2, 3, "wx2"), t("b", 4, 5, "rx1")], XY,
    ),
    "nothing is found where something was written before": (
        "absent", [t("a", 2, 3, "wx1"), t("b", 4, 5, "rx")], XY,
    ),
    "a long fork in time": (
        "G2-realtime", [BASE, t("a", 2, 9, "wx2"), t("b", 10, 11, "ry1"), t("c", 4, 20, "rx1", "wy2")], XY,
    ),
    "something was read that nobody wrote": ("phantom", [BASE, t("a", 2, 3, "rx7")], XY),
    "what was committed is nowhere": ("lost", [BASE, t("a", 2, 3, "wx7")], XY),
    "a version of two": ("doubled", [t("a", 2, 3, "wx1"), t("b", 2, 3, "wx1")], XY),
    "it was taken for absent, and written, and was there": (
        "absent", [t("a", 0, 9, "wx1"), t("b", 0, 9, "rx", "wx2")], XY,
    ),
}  # fmt: skip

GOOD: dict[str, tuple[list[Transaction], dict[str, list[Version]]]] = {
    "nothing happened": ([], {}),
    "one after the other": ([BASE, t("a", 2, 3, "rx1", "wx2"), t("b", 4, 5, "rx2", "ry1")], XY),
    "the first to end may be the last": (
        [BASE, t("a", 2, 9, "wx2", "wy2"), t("b", 3, 4, "rx1", "ry1"), t("c", 5, 6, "rx2", "ry2")], XY,
    ),
    "one that was not answered is found late": (
        [BASE, t("a", 2, INF, "wx2", "wy2"), t("b", 50, 51, "rx1", "ry1"), t("c", 60, 61, "rx2", "ry2")],
        XY,
    ),
    "blind writes that pass each other": (
        [BASE, t("a", 2, 9, "wx2"), t("b", 3, 4, "wx3"), t("c", 5, 6, "rx3")], {**XY, "x": order(1, 3, 2)},
    ),
    "what is read and written is written once": (
        [BASE, t("a", 2, 9, "rx1", "wx2"), t("b", 2, 9, "rx2", "wx3")], {**XY, "x": order(1, 2, 3)},
    ),
    "a skew where one reads what the other wrote": (
        [BASE, t("a", 2, 9, "rx1", "wy2"), t("b", 2, 9, "ry2", "wx2")], XY,
    ),
    "nothing is found before it is written": ([t("a", 0, 9, "rx"), t("b", 0, 9, "wx1")], {"x": order(1)}),
    "nothing is found behind a delete": (
        [BASE, t("a", 2, 3, "wx2"), t("b", 4, 5, "rx", "wx3")], {**XY, "x": order(1, 2, 3, gone=(2,))},
    ),
    "nothing is found between two": (
        [BASE, t("a", 2, 3, "wx2"), t("b", 2, 9, "rx"), t("c", 6, 7, "wx3")],
        {**XY, "x": order(1, 2, 3, gone=(2,))},
    ),
    "nothing was there before it was begun, or behind a delete": (
        [t("a", 0, 1, "wx1"), t("b", 2, 9, "wx2"), t("c", 3, 4, "rx", "ry1"), t("d", 0, INF, "wy1")],
        {"x": order(1, 2, gone=(2,)), "y": order(1)},
    ),
    "versions of which nobody knows who wrote them": (
        [t("a", 2, 3, "rx1"), t("b", 4, 5, "rx2", "wx3"), t("c", 4, 5, "ry1")],
        {"x": order(1, 2, 3), "y": order(1)},
    ),
    "two at once who see each other's past": (
        [BASE, t("a", 2, 9, "rx1", "ry1"), t("b", 2, 9, "rx1", "ry2"), t("c", 2, 9, "wy2")], XY,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_called_by_its_name(name: str) -> None:
    kind, history, orders = BAD[name]
    found = judge(history, orders)
    assert [each.kind for each in found] == [kind], found


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name: str) -> None:
    assert judge(*GOOD[name]) == []


def test_what_was_rolled_back_is_not_read() -> None:
    found = judge([BASE, t("a", 2, 3, "rx7")], XY, {7})
    assert [each.kind for each in found] == ["G1a"]


def test_what_is_read_of_a_version_is_what_it_holds_in_the_end() -> None:
    read = Transaction("a", 2, 3, (Read("x", 1, b"not yet"), Read("y", 1, b"1")))
    assert [each.kind for each in judge([BASE, read], XY)] == ["G1b"]


def test_a_cycle_is_told_by_who_is_in_it() -> None:
    (found,) = judge(*BAD["half of another is read"][1:])
    assert found == Anomaly("G-single", found.text)
    assert "a -wr 'x'-> b" in found.text
    assert "b -rw 'y'-> a" in found.text


def test_versions_whose_writer_is_not_known_part_nobody() -> None:
    """a, and somebody, and b have written x in turn; b was over before a began."""
    history = [t("b", 0, 1, "wx3"), t("a", 2, 3, "wx1")]
    assert [each.kind for each in judge(history, {"x": order(1, 2, 3)})] == ["G0-realtime"]
    history = [t("reads", 2, 3, "rx1"), t("b", 0, 1, "wx3")]
    assert [each.kind for each in judge(history, {"x": order(1, 2, 3)})] == ["G-single-realtime"]


def test_each_knot_is_told_of_once_and_none_hides_another() -> None:
    one = BAD["a write skew"][1]
    other = [
        each._replace(
            name=f"{each.name}'",
            reads=[read._replace(row=f"{read.row}'") for read in each.reads],
            writes=[(f"{row}'", version) for row, version in each.writes],
        )
        for each in BAD["half of another is read"][1]
    ]
    orders = {**XY, "x'": XY["x"], "y'": XY["y"]}
    assert sorted(each.kind for each in judge([*one, *other], orders)) == ["G-single", "G2"]


def test_a_long_history_is_judged() -> None:
    """Deeper than any stack: each has read what the one before it wrote."""
    count = 10_000
    orders = {"x": [Version(at) for at in range(count)]}
    history = [
        Transaction(str(at), at, at + 3, [Read("x", at - 1)] if at else [], [("x", at)])
        for at in range(count)
    ]
    assert judge(history, orders) == []
    history[7] = history[7]._replace(start=count + 7.0, end=count + 8.0)
    assert [each.kind for each in judge(history, orders)] == ["G0-realtime"]


# --- beside its twin -------------------------------------------------------------------------------


def serial(history: Sequence[Transaction], orders: dict[str, list[Version]]) -> bool:
    """Whether some order, true to time, does: every one is tried."""
    return any(_plays(each, orders) for each in permutations(history))


def _plays(history: Sequence[Transaction], orders: dict[str, list[Version]]) -> bool:
    place = dict.fromkeys(orders, 0)
    for at, each in enumerate(history):
        if any(later.end < each.start for later in history[at + 1 :]):
            return False
        for read in each.reads:
            held = orders[str(read.row)][place[str(read.row)] - 1] if place[str(read.row)] else None
            if read.version is None and not (held is None or held.goes):
                return False
            if read.version is not None and (held is None or held.version != read.version):
                return False
        for row, version in each.writes:
            place[str(row)] += 1
            if orders[str(row)][place[str(row)] - 1].version != version:
                return False
    return True


@st.composite
def histories(draw: st.DrawFn, gone: bool) -> tuple[list[Transaction], dict[str, list[Version]]]:
    """A few transactions of two rows whose times all differ."""
    count = draw(st.integers(1, 5))
    times = draw(st.permutations(range(2 * count)))
    written: dict[str, list[int]] = {"x": [], "y": []}
    does: list[list[Any]] = []
    for at in range(count):
        writes = [row for row in "xy" if draw(st.booleans())]
        does.append(writes)
        for row in writes:
            written[row].append(at)
    orders = {}
    for row, by in written.items():
        deleted = [at for at in by if gone and draw(st.integers(0, 2)) == 0]
        orders[row] = order(*draw(st.permutations(by)), gone=deleted)
    history = []
    for at in range(count):
        start, end = sorted(times[2 * at : 2 * at + 2])
        forever = bool(does[at]) and draw(st.integers(0, 4)) == 0
        reads = [
            Read(row, draw(st.sampled_from([None, *(each for each in written[row] if each != at)])))
            for row in "xy"
            if draw(st.booleans())
        ]
        history.append(
            Transaction(str(at), start, INF if forever else end, reads, [(row, at) for row in does[at]])
        )
    return history, orders


@settings(max_examples=200, deadline=None)
@given(histories(gone=False))
def test_the_judge_and_the_exhaustive_search_agree(given_: tuple[list[Transaction], Any]) -> None:
    assert (judge(*given_) == []) == serial(*given_)


@settings(max_examples=100, deadline=None)
@given(histories(gone=True))
def test_where_rows_are_deleted_nothing_good_is_called_bad(given_: tuple[list[Transaction], Any]) -> None:
    if serial(*given_):
        assert judge(*given_) == []
