"""`transaction`: what a file may say, what is shown of it, and how it ends.

Covers `cli/data/transaction.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from basestore.cli import group
from basestore.cli.data.transaction import LINES_MAX
from basestore.errors import Conflict, Contended, OutcomeUnknown
from basestore.protocol.client import DELETE, HOLDS_NOTHING, READ, SET, Commit
from tests.worlds.fake_transactions import SERVING, TransactionRegisters
from tests.worlds.fakes import FakeNode, fake


@pytest.fixture
def registers() -> TransactionRegisters:
    return TransactionRegisters()


@pytest.fixture
def node(registers: TransactionRegisters) -> Iterator[FakeNode]:
    with fake(SERVING, answer=registers) as server:
        yield server


def transact(node: FakeNode, *lines: Any, words: tuple[str, ...] = ()) -> Result:
    """What becomes of these lines, from stdin; those that are no text are written as JSON."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    return raw(node, text.encode(), *words)


def raw(node: FakeNode, stdin: bytes, *words: str) -> Result:
    asked = ["-e", node.endpoint, "transaction", "-", *words]
    return CliRunner().invoke(group, asked, input=stdin, standalone_mode=False)


def commits(registers: TransactionRegisters) -> list[Commit]:
    return [request for request in registers.asked if isinstance(request, Commit)]


# --- what is done ----------------------------------------------------------------------------------


def test_all_lines_are_one_transaction(node: FakeNode, registers: TransactionRegisters) -> None:
    stock = registers.put("cas", b"stock", b"3")
    registers.put("cas", b"gone", b"x")
    done = transact(
        node,
        {"read": "other"},
        {"expect": "stock", "value": "3"},
        {"expect": "order", "absent": True},
        "",
        {"write": "stock", "value": "2"},
        {"write": "order", "value": {"of": ["stock"]}, "ttl": 60},
        {"write": "AP8=", "key_encoding": "base64", "value": "AQ==", "encoding": "base64", "bucket": "more"},
        {"delete": "gone"},
        {"read": "stock"},
    )
    assert (done.return_value, done.stderr) == (0, "")
    assert done.stdout == "other  (nothing)\nstock  2\ncommitted  4 keys written\n"
    (commit,) = commits(registers)
    assert list(
        zip(commit.buckets, commit.keys, commit.kinds, commit.expected, commit.values, strict=True)
    ) == [
        ("cas", b"stock", SET, stock.encode(), b"2"),
        ("cas", b"order", SET, HOLDS_NOTHING, b'{"of":["stock"]}'),
        ("more", b"\0\xff", SET, b"", b"\1"),
        ("cas", b"gone", DELETE, b"", b""),
        ("cas", b"other", READ, HOLDS_NOTHING, b""),
    ]
    assert commit.ttls_ms == [0, 60_000, 0, 0, 0]


def test_the_json_names_what_was_read_and_the_versions(
    node: FakeNode, registers: TransactionRegisters
) -> None:
    version = registers.put("cas", b"a", b"\xff")
    done = transact(node, {"read": "a"}, {"read": "b"}, {"write": "c", "value": 1}, words=("-o", "json"))
    told = json.loads(done.stdout)
    assert (done.return_value, told["outcome"]) == (0, "committed")
    place = {"bucket": "cas", "key_encoding": "utf8"}
    assert told["read"] == [
        place | {"key": "a", "found": True, "value": "/w==", "encoding": "base64", "version": str(version),
                 "expires_ms": None},
        place | {"key": "b", "found": False, "value": None, "encoding": None, "version": None,
                 "expires_ms": None},
    ]  # fmt: skip
    assert told["written"] == [place | {"key": "c", "version": str(registers.held["cas", b"c"].known)}]


def test_lines_that_name_no_bucket_are_of_the_one_that_the_command_does(
    node: FakeNode, registers: TransactionRegisters
) -> None:
    lines = {"write": "a", "value": "1"}, {"write": "a", "value": "1", "bucket": "cas"}
    assert transact(node, *lines, words=("--bucket", "other")).return_value == 0
    assert commits(registers)[0].buckets == ["other", "cas"]


def test_a_file_is_as_good_as_stdin(node: FakeNode, registers: TransactionRegisters, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text('{"write": "a", "value": "1"}')
    done = CliRunner().invoke(group, ["-e", node.endpoint, "transaction", str(file)], standalone_mode=False)
    assert done.return_value == 0
    assert registers.held["cas", b"a"].value == b"1"


# --- what was not as expected ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"expect": "a", "value": "2"}, "holds version"),
        ({"expect": "a", "absent": True}, "holds version"),
        ({"expect": "a", "version": "1-1-1"}, "holds version"),
        ({"expect": "none", "value": "1"}, "holds nothing"),
        ({"expect": "none", "version": "1-1-1"}, "holds nothing"),
    ],
)
def test_where_something_else_is_there_nothing_is_done(
    node: FakeNode, registers: TransactionRegisters, expected: Any, told: str
) -> None:
    registers.put("cas", b"a", b"1")
    done = transact(node, {"write": "b", "value": "1"}, expected)
    assert (done.return_value, done.stdout) == (5, "")
    assert "conflict: line 2: key " in done.stderr
    assert told in done.stderr
    assert "nothing of the transaction was done" in done.stderr
    assert not commits(registers)


def test_what_is_expected_holds_to_the_end(node: FakeNode, registers: TransactionRegisters) -> None:
    version = registers.put("cas", b"a", b"1")
    assert transact(
        node, {"expect": "a", "version": str(version)}, {"write": "b", "value": "1"}
    ).return_value == 0  # fmt: skip
    assert (READ, version.encode()) in zip(
        commits(registers)[0].kinds, commits(registers)[0].expected, strict=True
    )


@pytest.mark.parametrize(
    ("error", "code", "definite"),
    [
        (Conflict("conflict: told; nothing was done"), 5, True),
        (Contended("contended: told; nothing was done"), 3, True),
        (OutcomeUnknown("unknown: told", None, None), 4, False),
    ],
    ids=["conflict", "contended", "unknown"],
)
def test_what_came_of_it_is_told_by_the_code(
    node: FakeNode, registers: TransactionRegisters, error: Any, code: int, definite: bool
) -> None:
    line = {"write": "a", "value": "1"}
    registers.instead[Commit] = [error, error]
    done = transact(node, line)
    assert (done.return_value, done.stdout) == (code, "")
    assert str(error) in done.stderr
    told = json.loads(transact(node, line, words=("-o", "json")).stderr)
    assert (told["error"], told["definite"]) == (type(error).__name__, definite)


# --- what lines may say ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", ""),
        ("[]", ""),
        ("{}", "it says nothing to do"),
        ({"key": "a"}, "it says nothing to do"),
        ({"read": "a", "delete": "a"}, "it says read and delete to do"),
        ({"read": ""}, ""),
        ({"read": 7}, ""),
        ({"read": "a", "value": "1"}, '"value" says nothing beside "read"'),
        ({"delete": "a", "ttl": 1}, '"ttl" says nothing beside "delete"'),
        ({"write": "a"}, 'it has no "value" to write'),
        ({"write": "a", "value": "1", "ttl": "1"}, 'its "ttl" is no number of seconds'),
        ({"write": "a", "value": "1", "ttl": True}, 'its "ttl" is no number of seconds'),
        ({"write": "a", "value": "?", "encoding": "base64"}, "base64"),
        ({"write": "a", "value": "1", "bucket": 7}, "bucket"),
        ({"expect": "a"}, "what it expects is one of"),
        ({"expect": "a", "value": "1", "absent": True}, "what it expects is one of"),
        ({"expect": "a", "absent": False}, '"absent" is true, or left out'),
        ({"expect": "a", "version": 7}, 'its "version" is not a string'),
        ({"expect": "a", "version": "seven"}, "version"),
        ('{"read": "\\ud800"}', ""),
        ("[" * 100_000, ""),
    ],
    ids=lambda each: str(each)[:40],
)
def test_a_line_that_is_wrong_is_named_and_nothing_is_done(
    node: FakeNode, registers: TransactionRegisters, line: Any, told: str
) -> None:
    done = transact(node, {"write": "b", "value": "1"}, "", line, {"delete": "c"})
    said = str(done.exception)
    assert said.startswith("Line 3: ")
    assert told in said
    assert said.endswith("Nothing was done; correct it.")
    assert getattr(done.exception, "exit_code", 0) == 2
    assert not registers.asked


def test_no_lines_and_too_many_are_refused(node: FakeNode, registers: TransactionRegisters) -> None:
    assert "There is nothing to do" in str(transact(node, "", "").exception)
    many = raw(node, b"\n" * (LINES_MAX + 1))
    assert f"more than {LINES_MAX} lines. Nothing was done" in str(many.exception)
    keys = transact(node, *({"write": f"{number}", "value": ""} for number in range(101)))
    assert keys.return_value == 2
    assert "at most 100 keys" in keys.stderr
    assert not registers.asked


def test_a_transaction_needs_no_session(node: FakeNode, tmp_path: Path) -> None:
    done = transact(node, {"delete": "a"}, words=("--session", str(tmp_path / "session")))
    assert "No such option" in str(done.exception)
