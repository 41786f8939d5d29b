"""`set` and `delete` with a condition, and `increment`: what is printed, and how they end.

Covers `cli/data/increment.py`, `receipts.py` and, of `requests.py`, the conditions.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from basestore.errors import Contended, OutcomeUnknown
from basestore.protocol.client import FINAL, OUTCOME_LOST, OUTCOME_STORED, Failed, Written
from basestore.protocol.handshake import rows_of_buckets
from basestore.repair.rule import Rule
from basestore.repair.version import Identity, Version
from tests.worlds.fake_registers import Registers
from tests.worlds.fakes import WELCOME, FakeNode, fake
from tests.worlds.told_topologies import ask

WELCOMED = WELCOME._replace(buckets=rows_of_buckets([("cas", Rule.REGISTER, 0)]))


@pytest.fixture
def registers() -> Registers:
    return Registers()


@pytest.fixture
def node(registers: Registers) -> Iterator[FakeNode]:
    with fake(WELCOMED, answer=registers) as server:
        yield server


def setting(node: FakeNode, *words: str) -> Any:
    return ask(node, "set", "leader", *words, "--bucket", "cas")


def version(node: FakeNode) -> str:
    return str(json.loads(ask(node, "get", "leader", "--bucket", "cas", "-o", "json").stdout)["version"])


def test_a_write_that_compares_is_stored_or_says_what_is_there(node: FakeNode) -> None:
    first = setting(node, "n1", "--if-absent")
    assert (first.return_value, first.stderr) == (0, "")
    assert (
        first.stdout == f"stored  2 of 2 replicas required by serial  version {version(node)}  (n1 applied)\n"
    )
    known = version(node)
    late = setting(node, "n2", "--if-absent")
    assert late.return_value == 5
    assert late.stdout == f"lost  another write holds the key: version {known}, value n1\n"
    assert late.stderr == (
        "Nothing was done. `basestore get leader --bucket cas -o json` shows what the key holds now: "
        "compare with that (--if-version).\n"
    )
    assert setting(node, "n2", "--if-version", known).return_value == 0
    assert setting(node, "n3", "--if-version", known).return_value == 5
    assert setting(node, "n3", "--if-value", "n1").return_value == 5
    assert setting(node, "n3", "--if-value", "n2").return_value == 0


def test_what_the_key_holds_is_escaped_and_cut(node: FakeNode) -> None:
    ask(node, "set", "leader", "--bucket", "cas", "--file", __file__)
    lost = setting(node, "x", "--if-absent").stdout
    value = lost.partition("value ")[2]
    assert value == Path(__file__).read_text().replace("\n", "\\n")[:60] + "...\n"
    setting(node, "\a")
    assert setting(node, "x", "--if-absent").stdout.endswith("value \\x07\n")


def test_where_the_key_holds_nothing_that_is_said(node: FakeNode) -> None:
    lost = setting(node, "n1", "--if-value", "n0")
    assert (lost.return_value, lost.stdout) == (5, "lost  the key holds nothing\n")
    assert "--if-absent, if `basestore get leader --bucket cas -o json` still finds nothing" in lost.stderr
    setting(node, "n1")
    deleted = version(node)
    ask(node, "delete", "leader", "--bucket", "cas")
    lost = setting(node, "n2", "--if-version", deleted)
    assert (lost.return_value, lost.stdout) == (5, "lost  the key holds nothing\n")
    assert setting(node, "n2", "--if-absent").return_value == 0


def test_a_first_write_that_was_agreed_on_stays_and_that_is_said() -> None:
    known = Version(7, 1, 3)

    def answer(request: Any) -> Written:
        there: dict[str, Any] = {
            "better": known.encode(),
            "order": known.encode(),
            "value": b"n1",
            "held": True,
        }
        return Written(request.id, OUTCOME_LOST, FINAL, bytes(8), 2, 0, [], b"", 1)._replace(**there)

    with fake(WELCOMED, answer=answer) as server:
        lost = ask(server, "set", "k", "v", "--bucket", "owners")
    assert (lost.return_value, lost.stdout) == (
        5,
        f"lost  an earlier write holds the key for good: version {known}, value n1\n",
    )
    assert lost.stderr == "Nothing was written: what was written first stays. Write under another key.\n"


def test_a_delete_may_compare_too(node: FakeNode) -> None:
    setting(node, "n1")
    known = version(node)
    setting(node, "n2")
    lost = ask(node, "delete", "leader", "--bucket", "cas", "--if-version", known)
    assert (lost.return_value, lost.stdout) == (
        5,
        f"lost  another write holds the key: version {version(node)}, value n2\n",
    )
    done = ask(node, "delete", "leader", "--bucket", "cas", "--if-version", version(node))
    assert (done.return_value, done.stdout.partition("  ")[0]) == (0, "deleted")
    assert ask(node, "get", "leader", "--bucket", "cas").return_value == 1


def test_the_json_is_the_receipt(node: FakeNode) -> None:
    stored = json.loads(setting(node, "n1", "--if-absent", "-o", "json").stdout)
    assert (stored["outcome"], stored["version"], stored["level"]) == ("stored", version(node), "serial")
    assert (stored["superseded_by"], stored["value"], stored["encoding"]) == (None, None, None)
    refused = setting(node, "n2", "--if-absent", "-o", "json")
    assert (refused.return_value, refused.stderr) == (5, "")
    lost = json.loads(refused.stdout)
    assert (lost["outcome"], lost["version"], lost["superseded_by"]) == ("lost", None, stored["version"])
    assert (lost["value"], lost["encoding"]) == ("n1", "utf8")
    words = ("delete", "leader", "--bucket", "cas", "--if-version", "1-1-1", "-o", "json")
    assert json.loads(ask(node, *words).stdout)["value"] == "n1"


def test_an_increment_prints_the_number_alone(node: FakeNode, registers: Registers) -> None:
    for words, number in (((), "1"), (("--by", "41"), "42"), (("--by", "-50"), "-8"), (("--by=3",), "-5")):
        done = ask(node, "increment", "hits", *words)
        assert (done.return_value, done.stdout, done.stderr) == (0, f"{number}\n", "")
    assert {request.bucket for request in registers.asked} == {"cas"}
    told = json.loads(ask(node, "increment", "hits", "-o", "json").stdout)
    assert (told["outcome"], told["value"], told["encoding"]) == ("stored", "-4", "utf8")
    ask(node, "increment", "hits", "--bucket", "counts", "--ttl", "60s")
    ask(node, "--bucket", "default", "increment", "hits")
    assert [request.bucket for request in registers.asked[-2:]] == ["counts", "default"]
    assert registers.asked[-2].ttl_ms == 60_000


def test_an_increment_that_was_not_stored_is_told_as_any_write() -> None:
    """As of a node that serves the bucket by another rule than it was asked by."""

    def answer(request: Any) -> Written:
        return Written(request.id, OUTCOME_LOST, FINAL, bytes(8), 2, 0, [], Version(7, 1, 3).encode(), 1)

    with fake(WELCOMED, answer=answer) as server:
        lost = ask(server, "increment", "hits")
    assert (lost.return_value, lost.stdout) == (
        5,
        "lost  an earlier write holds the key for good: version 0000000000000007-0000000000000001-3\n",
    )


def test_what_holds_no_number_is_left_as_it_is(node: FakeNode) -> None:
    ask(node, "set", "hits", "many", "--bucket", "cas")
    refused = ask(node, "increment", "hits")
    assert (refused.return_value, refused.stdout) == (2, "")
    assert "which is no number" in refused.stderr
    assert ask(node, "get", "hits", "--bucket", "cas").stdout == "many\n"


@pytest.mark.parametrize("words", [("set", "k", "v", "--if-absent"), ("delete", "k"), ("increment", "k")])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Contended("contended: others were at it for 5 s; nothing was done"), 3),
        (OutcomeUnknown("unknown", None, Identity(b"proposed")), 4),
    ],
    ids=["contended", "unknown"],
)
def test_what_came_of_it_is_told_by_the_code(words: tuple[str, ...], error: Any, code: int) -> None:
    identity = error.identity.encode() if error.identity else b""

    def answer(request: Any) -> Failed:
        return Failed(request.id, error.code, str(error), identity, [])

    with fake(WELCOMED, answer=answer) as server:
        failed = ask(server, *words)
        assert (failed.return_value, failed.stdout) == (code, "")
        assert str(error) in failed.stderr
        told = json.loads(ask(server, *words, "-o", "json").stderr)
        assert (told["error"], told["definite"]) == (type(error).__name__, code == 3)


def test_a_session_file_goes_by_the_order_of_registers(
    node: FakeNode, registers: Registers, tmp_path: Path
) -> None:
    file = str(tmp_path / "session")
    assert ask(node, "increment", "hits", "--session", file).return_value == 0
    assert ask(node, "get", "hits", "--bucket", "cas", "--session", file).stdout == "1\n"
    assert registers.asked[-1].floor == registers.held["cas", b"hits"].order.encode()


def test_a_repeated_one_that_was_overtaken_was_made_and_tells_no_number() -> None:
    known = Identity(b"proposed", Version(7, 1, 3), b"checked!")

    def answer(request: Any) -> Written:
        plain = Written(request.id, OUTCOME_STORED, 0, known.encode(), 2, 2, [], b"", 1)
        return plain._replace(order=Version(9, 1, 3).encode())

    words = ("increment", "my visits", "--repeat", str(known))
    with fake(WELCOMED, answer=answer) as server:
        told, as_json = ask(server, *words), ask(server, *words, "-o", "json")
    assert (told.return_value, told.stdout) == (0, "")
    assert told.stderr == (
        "the increment was made, once; which number it gave is not known any more, for the key was written "
        "after it: `basestore get 'my visits' --bucket cas` shows what it holds now\n"
    )
    assert (as_json.return_value, as_json.stderr, json.loads(as_json.stdout)["value"]) == (0, "", None)


def test_where_nothing_is_known_of_the_replicas_nothing_is_said_of_them() -> None:
    """As of a write that was repeated, and found to be made."""
    known = Identity(b"proposed", Version(7, 1, 3), b"checked!")

    def answer(request: Any) -> Written:
        plain = Written(request.id, OUTCOME_STORED, 0, known.encode(), 2, 2, [], b"", 1)
        return plain._replace(order=Version(9, 1, 3).encode())

    with fake(WELCOMED, answer=answer) as server:
        told = ask(server, "set", "k", "v", "--bucket", "cas", "--repeat", str(known))
    assert told.stdout == f"stored  2 of 2 replicas required by serial  version {known.version}\n"


def test_an_increment_is_repeated_as_itself(node: FakeNode, registers: Registers) -> None:
    assert ask(node, "increment", "hits", "--repeat", "5e1f0c3a9b7d2468", "--retry").return_value == 0
    (request,) = registers.asked
    assert (request.repeats, request.identity) == (True, bytes.fromhex("5e1f0c3a9b7d2468"))
