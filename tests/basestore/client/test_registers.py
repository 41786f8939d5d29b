"""Writes that depend on what a key holds, on the three clients: what is asked, what is refused before that,
and what a receipt and a session make of the answers.

Covers the conditions in `client/arguments.py`, `calls.py` and `session.py`.
"""

from itertools import combinations
from typing import Any

import pytest

from basestore import InvalidRequest, Level, Outcome, Version
from basestore.client.arguments import UNSET, condition_of, level_of
from basestore.client.session import Session
from basestore.protocol.client import (
    ADD,
    IF_ABSENT,
    IF_VALUE,
    IF_VERSION,
    NO_CONDITION,
    OUTCOME_LOST,
    OUTCOME_STORED,
    OUTCOME_SUPERSEDED,
    UNTAKEN,
    Get,
    Got,
    Scan,
    Set,
    Written,
)
from basestore.protocol.handshake import rows_of_buckets
from basestore.protocol.limits import VALUE_BYTES_MAX
from basestore.repair.rule import Rule
from basestore.repair.version import Identity
from basestore.results.readers import read_result, revised
from basestore.results.receipts import Item
from tests.worlds.fake_registers import Registers
from tests.worlds.fakes import WELCOME, fake
from tests.worlds.flavours import FLAVOURS, run

flavours = pytest.mark.parametrize("flavour", FLAVOURS)
VERSION = Version(7, 1, 3)
SERVING = WELCOME._replace(
    buckets=rows_of_buckets([("cas", Rule.REGISTER, 3), ("default", Rule.LAST_WRITE_WINS, 0)])
)


def serve(flavour: str, body: Any, registers: Registers) -> None:
    with fake(SERVING, answer=registers) as server:
        run(flavour, server.endpoint, body)


# --- what is asked ---------------------------------------------------------------------------------


@flavours
def test_a_write_may_depend_on_what_the_key_holds(flavour: str) -> None:
    registers = Registers()

    async def body(store: Any) -> None:
        first = await store.set("leader", b"n1", bucket="cas", if_absent=True)
        assert (first.outcome, bool(first), first.level) == (Outcome.STORED, True, Level.SERIAL)
        late = await store.set("leader", "n2", bucket="cas", if_absent=True)
        assert (late.outcome, late.value, late.superseded_by) == (Outcome.LOST, b"n1", first.version)
        second = await store.set("leader", "n2", bucket="cas", if_version=first.version)
        third = await store.set("leader", "n3", bucket="cas", if_version=str(second.version))
        assert (second.outcome, third.outcome) == (Outcome.STORED, Outcome.STORED)
        assert (await store.set("leader", "n4", bucket="cas", if_value=b"n1")).value == b"n3"
        assert await store.set("leader", "n4", bucket="cas", if_value="n3")
        assert not await store.delete("leader", bucket="cas", if_version=third.version)
        there = await store.get("leader", bucket="cas")
        assert (there.value, there.level) == (b"n4", Level.SERIAL)
        assert await store.delete("leader", bucket="cas", if_version=there.version)
        gone = await store.set("leader", "n5", bucket="cas", if_value="n4")
        assert (gone.outcome, gone.value) == (Outcome.LOST, None)
        nothing = await store.set("other", "n5", bucket="cas", if_version=third.version)
        assert (nothing.outcome, nothing.value, nothing.superseded_by) == (Outcome.LOST, None, None)

    serve(flavour, body, registers)
    writes = [request for request in registers.asked if not isinstance(request, Get)]
    conditions = (
        [IF_ABSENT] * 2 + [IF_VERSION] * 2 + [IF_VALUE] * 2 + [IF_VERSION] * 2 + [IF_VALUE, IF_VERSION]
    )
    assert [request.condition for request in writes] == conditions
    assert [request.expected for request in writes if request.condition == IF_VALUE] == [b"n1", b"n3", b"n4"]
    assert [request.expected for request in writes if request.condition == IF_ABSENT] == [b""] * 2


@flavours
def test_what_is_added_makes_a_number(flavour: str) -> None:
    registers = Registers()

    async def body(store: Any) -> None:
        assert (await store.increment("hits")).number == 1
        assert (await store.increment("hits", 41)).number == 42
        receipt = await store.increment("hits", -50, bucket="cas", consistency="serial", ttl=60, timeout=3.0)
        assert (receipt.number, receipt.value, receipt.outcome) == (-8, b"-8", Outcome.STORED)
        assert (await store.get("hits", bucket="cas")).value == b"-8"
        await store.set("hits", "many", bucket="cas")
        with pytest.raises(InvalidRequest, match="no number"):
            await store.increment("hits")
        await store.increment("other", repeat="5e1f0c3a9b7d2468")

    serve(flavour, body, registers)
    adding = [request for request in registers.asked if getattr(request, "condition", 0) == ADD]
    assert [request.value for request in adding] == [b"1", b"41", b"-50", b"1", b"1"]
    assert {(request.bucket, request.expected) for request in adding} == {("cas", b"")}
    assert (adding[2].ttl_ms, adding[2].level) == (60_000, Level.SERIAL)
    assert 2900 < adding[2].timeout_ms <= 3000
    assert (adding[-1].repeats, adding[-1].identity) == (True, bytes.fromhex("5e1f0c3a9b7d2468"))


@flavours
def test_who_compares_nothing_asks_as_ever(flavour: str) -> None:
    registers = Registers()

    async def body(store: Any) -> None:
        await store.set("k", "v")
        await store.set("k", "v", if_absent=False)
        await store.delete("k")
        await store.set_many([("a", "1"), ("b", "2")], defer=True)
        await store.delete_many(["a", "b"])

    serve(flavour, body, registers)
    assert [(request.condition, request.expected) for request in registers.asked] == [(NO_CONDITION, b"")] * 7


@flavours
def test_a_write_is_repeated_with_its_condition(flavour: str) -> None:
    """By a store that retries, too: without it, it would be another write."""
    asked: list[Any] = []

    def answer(request: Any) -> Any:
        asked.append(request)
        return None if len(asked) == 1 else registers(request)

    registers = Registers()

    async def body(store: Any) -> None:
        assert (
            await store.retrying().set("k", "v", bucket="cas", if_value="w", timeout=9)
        ).outcome is Outcome.LOST

    with fake(SERVING._replace(timeout_ms_max=9000), dies=True, answer=answer) as server:
        run(flavour, server.endpoint, body)
    assert [(request.condition, request.expected) for request in asked] == [(IF_VALUE, b"w")] * 2
    assert [request.repeats for request in asked] == [False, True]
    assert asked[0].identity == asked[1].identity


# --- what is refused -------------------------------------------------------------------------------


@flavours
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"if_absent": True, "if_version": VERSION}, "give up if_absent or if_version"),
        ({"if_absent": True, "if_value": b""}, "give up if_absent or if_value"),
        ({"if_version": VERSION, "if_value": b"v"}, "give if_version or if_value, not both"),
        (
            {"if_version": VERSION, "if_value": b"v", "if_absent": True},
            "give if_version or if_value, not both",
        ),
        ({"if_absent": True, "defer": True}, "about what the key holds now: give up one of the two"),
        ({"if_version": VERSION, "defer": True}, "give up one of the two"),
        ({"if_absent": 1}, "if_absent must be True or False, not 1"),
        ({"if_version": "latest"}, "malformed: 'latest' is not a version; one looks like"),
        ({"if_version": None}, r"if_version is None: .* no version; use if_absent=True \(of set\), or leave"),
        (
            {"if_value": None},
            r"if_value is None: .* no value; use if_absent=True \(of set\), or leave",
        ),
        ({"if_absent": True, "if_version": None}, "if_version is None"),
        ({"if_version": b"7-1-3"}, "by that as text, not by bytes"),
        ({"if_version": 7}, "not by int"),
        ({"if_version": Version(-1, 1, 1)}, "the version to compare with is malformed"),
        ({"if_value": 7}, "the value to compare with must be bytes or str, not int"),
        ({"if_value": bytes(VALUE_BYTES_MAX + 1)}, "the value to compare with has 1048577 bytes"),
    ],
)
def test_conditions_that_make_no_sense_are_refused_before_anything_is_sent(
    flavour: str, given: dict[str, Any], said: str
) -> None:
    registers = Registers()

    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match=said):
            await store.set("k", "v", bucket="cas", **given)
        if given.keys() <= {"if_version", "defer"}:
            with pytest.raises(InvalidRequest, match=said):
                await store.delete("k", bucket="cas", **given)

    serve(flavour, body, registers)
    assert registers.asked == []


@flavours
@pytest.mark.parametrize("by", [10**18, -(10**18), 1.0, "1", True, None])
def test_only_whole_numbers_that_are_not_too_great_are_added(flavour: str, by: Any) -> None:
    registers = Registers()

    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match="a whole number, of at most 18 digits, not"):
            await store.increment("k", by)
        assert (await store.increment("k", 10**18 - 1)).number == 10**18 - 1

    serve(flavour, body, registers)


@flavours
def test_a_node_that_knows_no_conditions_is_not_asked_to_keep_one(flavour: str) -> None:
    """It would write whatever the key holds."""
    registers = Registers()

    async def body(store: Any) -> None:
        for condition in ({"if_absent": True}, {"if_version": VERSION}, {"if_value": b"v"}):
            (word,) = condition
            with pytest.raises(InvalidRequest, match=f"version 11 of the wire, and `{word}` needs 12"):
                await store.set("k", "v", bucket="cas", **condition)
        with pytest.raises(InvalidRequest, match="and `increment` needs 12; nothing was sent"):
            await store.increment("k")
        await store.set("k", "v")

    with fake(WELCOME._replace(version=11), answer=registers) as server:
        run(flavour, server.endpoint, body)
    assert [request.condition for request in registers.asked] == [NO_CONDITION]


def test_a_condition_is_one_thing_and_all_pairs_of_them_are_refused() -> None:
    given: dict[str, Any] = {"if_version": VERSION, "if_absent": True, "if_value": b"v"}
    nothing: dict[str, Any] = {"if_version": UNSET, "if_absent": False, "if_value": UNSET}
    assert condition_of(**nothing, defer=True) == (NO_CONDITION, b"")
    made = [condition_of(**{**nothing, name: each}, defer=False) for name, each in given.items()]
    assert made == [(IF_VERSION, VERSION.encode()), (IF_ABSENT, b""), (IF_VALUE, b"v")]
    for pair in combinations(given, 2):
        with pytest.raises(InvalidRequest, match=r"give up|not both"):
            condition_of(**{**nothing, **{name: given[name] for name in pair}}, defer=False)
    assert level_of("serial") is level_of("SERIAL") is Level.SERIAL


# --- sessions --------------------------------------------------------------------------------------


def known(stamp: int) -> bytes:
    return Version(stamp, 1, 1).encode()


REGISTERS = {"cas": Rule.REGISTER, "ids": Rule.FIRST_WRITE_AGREED}


def written(outcome: int, own: int, order: int | None, better: bytes = b"") -> Written:
    identity = Identity(b"proposed", Version(own, 1, 1), b"checked!").encode()
    ordered = b"" if order is None else known(order)
    return Written(1, outcome, 0, identity, 2, 2, [], better, 0, order=ordered)


def setting(bucket: str = "cas") -> Set:
    return Set(1, bucket, b"k", b"v", 2, 1000, 0, b"")


def getting(bucket: str = "cas") -> Get:
    return Get(1, bucket, b"k", 1, 1000, b"", True)


@pytest.mark.parametrize("bucket", REGISTERS)
@pytest.mark.parametrize(
    ("answer", "floor"),
    [
        (written(OUTCOME_STORED, 5, 9), known(9)),
        (written(OUTCOME_STORED, 5, 9)._replace(acknowledged=0), known(9) + UNTAKEN),
        (written(OUTCOME_LOST, 5, 9, known(3)), known(9)),
        (written(OUTCOME_LOST, 5, None), b""),
        (written(OUTCOME_STORED, 5, None), known(5)),  # of a node that tells none
        (written(OUTCOME_SUPERSEDED, 5, None, known(7)), known(7)),
    ],
    ids=["stored", "hinted", "lost", "nothing there", "no order", "superseded"],
)
def test_a_session_remembers_by_what_registers_are_compared(
    bucket: str, answer: Written, floor: bytes
) -> None:
    session = Session(bytes(16), REGISTERS)
    session.end(session.begin(setting(bucket)), answer)
    assert session.begin(getting(bucket)).floor == floor
    again = Session(bytes(16), REGISTERS)
    again.merge(session.token)
    assert again.floor(bucket, b"k") == floor


@pytest.mark.parametrize("bucket", REGISTERS)
def test_of_two_answers_the_one_with_the_greater_order_is_newer(bucket: str) -> None:
    """Though its write was known by a smaller version before the other was written."""
    session = Session(bytes(16), REGISTERS)
    got = Got(1, True, b"v", known(8), 0, 2, 2, False, 0, order=known(8))
    newer = got._replace(version=known(5), order=known(12))
    for answer in (got, newer, got):
        session.end(session.begin(getting(bucket)), answer)
    assert session.floor(bucket, b"k") == known(12)


def test_a_session_reads_for_itself_what_a_page_shows_of_registers() -> None:
    """For a page does not tell by what they are compared."""
    session = Session(bytes(16), {**REGISTERS, "plain": Rule.LAST_WRITE_WINS})
    items = [Item(b"a", b"1", Version(5, 1, 1), None), Item(b"b", b"2", Version(6, 1, 1), None)]
    assert session.doubtful("plain", b"", b"", None, items) == []
    assert session.doubtful("cas", b"", b"", None, items) == [b"a", b"b"]
    assert session.doubtful("cas", b"b", b"", None, items[1:]) == [b"b"]
    told = [item.__class__(item.key, item.value, item.version, None, known(9)) for item in items]
    assert session.doubtful("cas", b"", b"", None, told) == []
    session.show("cas", b"a", known(10))
    assert session.doubtful("cas", b"", b"", None, told) == [b"a"]
    assert session.behind("cas", told[0])
    assert not session.behind("cas", told[1])


@flavours
def test_a_scan_within_a_session_shows_registers_and_never_goes_back(flavour: str) -> None:
    registers = Registers()

    async def body(store: Any) -> None:
        await store.set("a", "1", bucket="cas")
        receipt = await store.set("b", "2", bucket="cas")
        async with store.session() as session:
            items = [item async for item in session.scan(bucket="cas")]
            assert [(item.key, item.value) for item in items] == [(b"a", b"1"), (b"b", b"2")]
            assert items[1].version == receipt.version
            await session.get("b", bucket="cas")
        assert [item.value async for item in store.scan(bucket="cas")] == [b"1", b"2"]

    serve(flavour, body, registers)
    asked = [type(request) for request in registers.asked[2:]]
    assert asked == [Scan, Get, Get, Get, Scan]
    assert registers.asked[-2].floor == registers.held["cas", b"b"].order.encode()


def test_what_was_read_by_itself_brings_its_order_along() -> None:
    item = Item(b"a", b"1", Version(5, 1, 1), None)
    got: Any = Got(1, True, b"2", known(6), 0, 2, 2, False, 0, order=known(9))
    (found,) = revised([item], [b"a"], [read_result(got, Level.QUORUM)])
    assert (found.value, found.version, found.compared) == (b"2", Version(6, 1, 1), known(9))
    assert item.compared == known(5)
