"""How an import asks again for what was refused as overloaded: in time, in order, not for ever, and with a
checkpoint that is right all along.

Covers `cli/data/pacing.py`, and what `cli/data/importing.py` makes of it.
"""

import io
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from basestore.cli import exits
from basestore.cli.data import importing, pacing
from basestore.cli.data.checkpoint import Checkpoint, Failed, Progress, identity
from basestore.cli.data.pacing import PATIENCE_S, Pace, Round
from basestore.cli.data.rows import START, Position, Row, read_ndjson
from basestore.consistency import Level, Outcome
from basestore.errors import Overloaded, Unreachable, WriteTimeout
from basestore.intake.limits import SECOND_NS, BucketLimits
from basestore.repair.version import Identity
from basestore.results.receipts import Receipt

TAKEN = Receipt(
    outcome=Outcome.STORED, final=None, identity=Identity(b"proposed"), level=Level.ONE, required=1,
    acknowledged=1, replicas={}, superseded_by=None, partition=0, cluster=b"c",
)  # fmt: skip
PROPOSED = str(Identity(b"proposed"))


def rows_of(*keys: str) -> list[Row]:
    """As they stand in a file, a line each."""
    lines = "".join(f'{{"key": "{key}", "value": {number}}}\n' for number, key in enumerate(keys))
    return [row for row in read_ndjson(io.BytesIO(lines.encode()), START) if isinstance(row, Row)]


class Node:
    """Takes what `takes` lets in, by a clock that goes on in pauses alone."""

    def __init__(self, takes: "Callable[[Node, Sequence[bytes]], list[Any]]") -> None:
        self.now_s = 0.0
        self.asked: list[tuple[float, list[bytes]]] = []
        self.stored: list[tuple[bytes, bytes]] = []
        self.repeated: list[str | None] = []
        self.pauses: list[float] = []
        self.takes = takes
        self.pace = self.paced(self, "default", None)

    def paced(self, store: Any, bucket: str, ttl_s: float | None) -> Pace:
        return Pace(
            store, bucket, ttl_s, lambda: self.now_s, lambda pause_s: self.pause(pause_s), lambda: 0.5
        )

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds

    def set_many(self, items: list[tuple[bytes, bytes]], **_: Any) -> list[Any]:
        keys = [key for key, _ in items]
        self.asked.append((self.now_s, keys))
        results = self.takes(self, keys)
        self.stored += [item for item, result in zip(items, results, strict=True) if result is TAKEN]
        return results

    def set(self, key: bytes, value: bytes, *, repeat: str | None, **_: Any) -> Receipt:
        self.repeated.append(repeat)
        (result,) = self.set_many([(key, value)])
        if isinstance(result, Exception):
            raise result
        return TAKEN

    # What an import asks besides.

    def cluster_id(self) -> str:
        return "c"

    def node_hints(self) -> Any:
        return SimpleNamespace(asked_ms=1)

    def missing(self, _: Any) -> list[Any]:
        return []


def limit(per_s: int) -> "Callable[[Node, Sequence[bytes]], list[Any]]":
    """As a bucket's `requests_per_s`."""
    limits = BucketLimits(per_s, 0)

    def takes(node: Node, keys: Sequence[bytes]) -> list[Any]:
        limits.begin(round(node.now_s * SECOND_NS))
        refusals = [limits.ask(b"") for _ in keys]
        return [Overloaded("full", each.wait_ns / SECOND_NS) if each else TAKEN for each in refusals]

    return takes


def refusing(retry_after: float) -> "Callable[[Node, Sequence[bytes]], list[Any]]":
    return lambda node, keys: [Overloaded("full", retry_after) for _ in keys]


# --- pace ------------------------------------------------------------------------------------------


def test_what_is_refused_is_asked_for_again_in_its_time_until_all_is_let_in() -> None:
    node, told = Node(limit(100)), list[Round]()
    waits: dict[bytes, float] = {}
    takes = node.takes

    def noted(node: Node, keys: Sequence[bytes]) -> list[Any]:
        assert all(node.now_s >= waits.get(key, 0.0) - 1e-9 for key in keys), "asked before its time"
        results = takes(node, keys)
        for key, result in zip(keys, results, strict=True):
            if isinstance(result, Overloaded):
                waits[key] = node.now_s + result.retry_after
        return results

    node.takes = noted
    rows = rows_of(*(f"k{number:03}" for number in range(500)))
    for each in node.pace.set_many(rows):
        told.append(each)
        assert sum(len(before.rows) for before in told) + len(each.waiting) == 500
        assert len(node.pauses) == len(told) - 1, "told before each pause"
    assert [key for key, _ in node.stored] == [row.key for row in rows]
    assert all(result is TAKEN for each in told for result in each.results)
    # 100 at once, and then all that the limit lets through: pauses waste nothing of it.
    assert node.now_s == pytest.approx(4.0, abs=0.8)


def test_what_is_let_in_by_no_time_is_given_up_with_its_last_error() -> None:
    node = Node(refusing(0.3))
    *_, last = node.pace.set_many(rows_of("a", "b"))
    assert [type(result) for result in last.results] == [Overloaded, Overloaded]
    assert last.waiting == []
    assert node.pace.stalled
    assert PATIENCE_S - 1 <= node.now_s <= PATIENCE_S
    assert all(pause >= 0.3 for pause in node.pauses[:-1])
    # What comes next is asked for, once; and when that is let in, there is patience again.
    assert len(list(node.pace.set_many(rows_of("c")))) == 1
    node.takes = lambda node, keys: [TAKEN for _ in keys]
    list(node.pace.set_many(rows_of("d")))
    assert not node.pace.stalled
    node.takes = limit(1)
    assert len(list(node.pace.set_many(rows_of("e", "f")))) == 2


def test_nobody_waits_for_a_time_that_is_too_far_away() -> None:
    node = Node(refusing(PATIENCE_S + 1))
    (only,) = node.pace.set_many(rows_of("a"))
    assert isinstance(only.results[0], Overloaded)
    assert (node.pauses, node.pace.stalled) == ([], True)


def test_no_row_is_asked_for_before_another_of_its_key_that_stands_before_it() -> None:
    calls = 0

    def takes(_: Node, keys: Sequence[bytes]) -> list[Any]:
        nonlocal calls
        calls += 1
        if calls == 1:  # the later one of `a` may come sooner
            return [Overloaded("full", after) for after in (2.0, 0.1, 0.1)]
        return [TAKEN for _ in keys]

    node = Node(takes)
    list(node.pace.set_many(rows_of("a", "b", "a")))
    assert [value for key, value in node.stored if key == b"a"] == [b"0", b"2"]


def test_what_a_later_row_of_its_key_has_overtaken_is_not_written_over_it() -> None:
    node = Node(lambda node, keys: [Overloaded("full", 0.1), TAKEN] if len(keys) == 2 else [TAKEN])
    told = list(node.pace.set_many(rows_of("a", "a")))
    assert node.stored == [(b"a", b"1")]
    assert [each.overtaken for each in told] == [1]


# --- imports ---------------------------------------------------------------------------------------


def imported(node: Node, file: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run an import of this file into this node."""
    monkeypatch.setattr(pacing, "Pace", node.paced)
    monkeypatch.setattr(importing, "open_store", lambda *_, **__: nullcontext(node))
    command = importing.import_command
    with command.make_context("import", [str(file), "-c", "one", "-o", "json"]) as context:
        code: int = command.invoke(context)
    return code


def kept(file: Path) -> Progress | None:
    with file.open("rb") as opened:
        settings = {"cluster": "c", "bucket": "default", "format": "ndjson"}
        imported = identity(opened, settings | {"key column": None, "value column": None})
    return Checkpoint(file.with_name(f"{file.name}.basestore-progress"), imported).load()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(f'{{"key": "k{i:03}", "value": {i}}}\n' for i in range(300)))
    return path


def test_while_rows_wait_they_stand_in_the_checkpoint(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node, pause = Node(limit(50)), Node.pause
    seen = []

    def looked(self: Node, seconds: float) -> None:
        progress = kept(file)
        assert progress is not None
        assert progress.stored == len(self.stored)
        assert progress.stored + len(progress.failed) == progress.position.line - 1
        seen.append(progress)
        if len(seen) == 3:
            raise KeyboardInterrupt
        pause(self, seconds)

    monkeypatch.setattr(Node, "pause", looked)
    with pytest.raises(KeyboardInterrupt):
        imported(node, file, monkeypatch)
    shown = json.loads(capsys.readouterr().out)
    assert shown["stored"] == len(node.stored)
    assert shown["stored"] + shown["failed"] == 256
    monkeypatch.setattr(Node, "pause", pause)
    assert imported(node, file, monkeypatch) == exits.DONE
    # Each of them once, whatever the moment at which it was stopped.
    assert sorted(node.stored) == [(b"k%03d" % i, b"%d" % i) for i in range(300)]
    assert kept(file) is None


def test_an_import_of_which_nothing_is_let_in_ends(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Node(refusing(0.1))
    assert imported(node, file, monkeypatch) == exits.REFUSED
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"] == 256
    assert said.err.count("asked for again") == 1
    assert "the import stops" in said.err
    assert "line 1: full. Try again in 0.1 s" in said.err
    node.takes = limit(50)
    assert imported(node, file, monkeypatch) == exits.DONE
    assert len(node.stored) == len(set(node.stored)) == 300


def test_a_node_that_goes_away_while_rows_wait_loses_none(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(limit(50))
    takes = node.takes

    def gone(node: Node, keys: Sequence[bytes]) -> list[Any]:
        return takes(node, keys) if node.now_s < 1 else [Unreachable("gone") for _ in keys]

    node.takes = gone
    assert imported(node, file, monkeypatch) == exits.UNREACHABLE
    node.takes = takes
    assert imported(node, file, monkeypatch) == exits.DONE
    assert sorted(node.stored) == [(b"k%03d" % i, b"%d" % i) for i in range(300)]


def test_what_is_not_known_of_a_write_stays_so_when_its_repetition_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, late = Node(limit(50)), WriteTimeout("late", None, None, Identity(b"proposed"))
    takes = node.takes
    node.takes = lambda node, keys: (
        [late, *takes(node, keys[1:])] if keys[0] == b"k000" else takes(node, keys)
    )
    assert imported(node, file, monkeypatch) == exits.UNKNOWN
    node.takes = refusing(PATIENCE_S + 1)
    assert imported(node, file, monkeypatch) == exits.UNKNOWN
    progress = kept(file)
    assert progress is not None
    assert [(failed.position, failed.identity) for failed in progress.failed] == [(START, PROPOSED)]
    # And one that has to wait is itself after that.
    node.takes, node.repeated = limit(1), []
    limited = node.takes
    limited(node, [b"other"])
    assert imported(node, file, monkeypatch) == exits.DONE
    assert node.repeated == [PROPOSED, PROPOSED]
    assert sorted(node.stored) == [(b"k%03d" % i, b"%d" % i) for i in range(300)]


def test_rows_that_failed_are_written_again_as_fast_as_they_are_taken(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in read_ndjson(io.BytesIO(file.read_bytes()), START) if isinstance(row, Row)]
    with file.open("rb") as opened:
        settings = {"cluster": "c", "bucket": "default", "format": "ndjson"}
        own = identity(opened, settings | {"key column": None, "value column": None})
    failed = [Failed(row.start, None, True, 0) for row in rows]
    checkpoint = Checkpoint(file.with_name(f"{file.name}.basestore-progress"), own)
    checkpoint.save(Progress(Position(file.stat().st_size, 301), failed=failed))
    node = Node(limit(50))
    assert imported(node, file, monkeypatch) == exits.DONE
    assert sorted(node.stored) == [(row.key, row.value) for row in rows]
    assert node.now_s == pytest.approx(5.0, abs=1.0)


def test_what_was_overtaken_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text('{"key": "a", "value": 0}\n{"key": "a", "value": 1}\n')
    node = Node(lambda node, keys: [Overloaded("full", 0.1), TAKEN] if len(keys) == 2 else [TAKEN])
    assert imported(node, file, monkeypatch) == exits.BEATEN
    counts = json.loads(capsys.readouterr().out)
    assert (counts["stored"], counts["superseded"], counts["failed"]) == (1, 1, 0)
