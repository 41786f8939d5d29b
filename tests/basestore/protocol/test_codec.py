"""What is said on the wire: every kind there and back, and nothing else."""

import math
from typing import Any, NamedTuple, cast, get_origin

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.consensus import messages as raft
from basestore.protocol.anti_entropy import (
    Ask,
    Certify,
    Entries,
    KnownLosses,
    Listing,
    Roots,
    Same,
    SameRoots,
    Sums,
    Syn,
)
from basestore.protocol.client import (
    BatchWritten,
    Commit,
    Committed,
    Get,
    Page,
    Shed,
    Watched,
    WriteBatch,
    Written,
)
from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.feeds import Fed, Follow, MarkRow, PositionRow
from basestore.protocol.groups import (
    AppliedGroups,
    ApplyGroup,
    AskPart,
    Found,
    GetMany,
    HeldGroup,
    PartTold,
    ReadGroup,
    Stored,
    WriteMany,
)
from basestore.protocol.handshake import Challenge, Hello, Proof, Welcome
from basestore.protocol.heartbeats import Ping
from basestore.protocol.limits import (
    BATCH_MESSAGES_MAX,
    DEPTH_MAX,
    KEY_BYTES_MAX,
    TIMEOUT_MS_MAX,
    ProtocolError,
)
from basestore.protocol.membership import At, Base, Finished, FinishedRow, MoveReport, TopologyTold
from basestore.protocol.operator import (
    Explained,
    Fact,
    Inspect,
    Inspected,
    KeptHint,
    NodeStatus,
    PartitionRow,
    Status,
    Survey,
    Trace,
    Traced,
    TracedHint,
)
from basestore.protocol.registry import FORMS, NUMBERS, message
from basestore.protocol.replication import (
    Accept,
    Applied,
    Forward,
    ForwardDone,
    Held,
    HeldDigest,
    Hinted,
    Keep,
    Kept,
    Learn,
    Prepare,
    Promised,
    Range,
    ReadRange,
    Refused,
    Superseded,
)
from tests.worlds.messages import (
    ACCEPTOR_ROW,
    BARE,
    CHANGE_META,
    EXAMPLES,
    HEAD,
    KINDS,
    LOSS,
    MARK_ROW,
    MOVE,
    RECORD,
    ROW,
    STORE,
    VERSION,
    batches,
    field_types,
    messages_of,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_arrives_as_it_was_sent(kind: type[Any]) -> None:
    @settings(max_examples=30)
    @given(st.lists(messages_of(kind), min_size=1, max_size=4))
    def arrives(sent: list[Message]) -> None:
        received = decode(encode(sent))
        assert received == sent
        assert [type(each) for each in received] == [kind] * len(sent)

    arrives()


def test_every_message_has_an_example() -> None:
    assert EXAMPLES.keys() == NUMBERS.keys()


@given(batches)
def test_kinds_mix_in_a_frame_and_keep_their_order(sent: list[Message]) -> None:
    received = decode(encode(sent))
    assert received == sent
    assert list(map(type, received)) == list(map(type, sent))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_field_of_another_type_is_refused(kind: type[Any]) -> None:
    number, good = NUMBERS[kind], list(EXAMPLES[kind])
    assert decode(encode([EXAMPLES[kind]])) == [EXAMPLES[kind]]
    for at, hint in enumerate(field_types(kind)):
        plain = get_origin(hint) or hint
        wrong: Any
        for wrong in (1, b"b", "s", True, [], None, 1.5, {}, [[]], [None], [1.5], [{}]):
            if type(wrong) is plain and (plain is not list or not wrong):
                continue
            with pytest.raises(ProtocolError, match="wrong"):
                decode(cbor2.dumps([[number, *good[:at], wrong, *good[at + 1 :]]]))
    with pytest.raises(ProtocolError, match="wrong number"):
        decode(cbor2.dumps([[number, *good[:-1]]]))
    with pytest.raises(ProtocolError, match="wrong number"):
        decode(cbor2.dumps([[number, *good, *good[:1]]]) if len(good) > 1 else cbor2.dumps([[number]]))


_SHORT, _LONG = HEAD[:-1], HEAD + b"x"

_POSITION = PositionRow(3, STORE, 9, 8)

# Of each message with a check: fields that make a sound one senseless, and what is said about it.
MALFORMED: dict[type[Any], list[tuple[dict[str, Any], str]]] = {
    Watched: [
        ({"rows": [b"key", CHANGE_META]}, "in turn"),
        ({"rows": [b"key", CHANGE_META[1:], b"value"]}, "in turn"),
        ({"rows": [b"key", CHANGE_META[:-1] + b"\2", b"value"]}, "in turn"),
        *(({field: -1}, "below 0") for field in ("feed", "gap", "stable", "unserved")),
    ],
    Follow: [
        ({"label": b""}, "no rows of a bucket"),
        ({"label": b"l" * 65}, "no rows of a bucket"),
        ({"rows": []}, "no rows of a bucket"),
        ({"prefix": bytes(KEY_BYTES_MAX + 1)}, "no rows of a bucket"),
        *(
            ({"rows": [PositionRow(**{**_POSITION._asdict(), field: wrong})]}, "cannot be")
            for field, wrong in (
                ("partition", -1),
                ("partition", 1 << 16),
                ("store", b"s"),
                ("sequence", -1),
                ("stable", -1),
            )
        ),
        ({"rows": [_POSITION, _POSITION]}, "cannot be"),
    ],
    Fed: [
        ({"store": b""}, "names no store"),
        ({"rows": [ROW]}, "in turn"),
        ({"rows": [ROW[:3], RECORD]}, "in turn"),
        ({"rows": [ROW, BARE[:-1]]}, "no record"),
        *(
            ({"marks": [MarkRow(**{**MARK_ROW._asdict(), field: -1})]}, "cannot be")
            for field in ("sequence", "stable", "gap")
        ),
    ],
    raft.Stand: [({"term": 3}, "stands for no term"), ({"last": -1}, "stands for no term")],
    raft.Granted: [({"term": -1}, "names no term")],
    raft.Append: [
        ({"term": 0}, "names no place in a log"),
        ({"prev": -1}, "names no place in a log"),
        ({"prev_term": 5}, "names no place in a log"),
        ({"entries": [raft.EntryRow(3, 7, b"")]}, "entries that cannot be"),
        ({"entries": [raft.EntryRow(5, 2, b"")]}, "entries that cannot be"),
        ({"entries": [raft.EntryRow(3, 1, b"x")]}, "a change of voters that names none"),
        ({"entries": [raft.EntryRow(3, 1, b"")]}, "a change to no voters"),
    ],
    raft.Appended: [({"held": -1}, "names no place in a log")],
    raft.Install: [({"voters": b"x"}, "name no voters"), ({"voters": b""}, "names no place in a log")],
    At: [
        ({"voter": b""}, "names no voter"),
        ({"first": 10}, "entries that are not decided"),
        ({"entries": [raft.EntryRow(3, 7, b"")]}, "entries that cannot be"),
        ({"group": b""}, "names no metadata group"),
        ({"group": b"g"}, "names no metadata group"),
    ],
    Base: [({"group": b""}, "names no metadata group")],
    Finished: [
        ({"rows": [FinishedRow(*row)]}, "has finished what cannot be")
        for row in ((-1, 9, b""), (1 << 16, 9, b""), (3, -1, b""), (3, 9, b"ballot"))
    ],
    MoveReport: [
        ({"rows": [row]}, "reports what cannot be")
        for row in (
            MOVE._replace(partition=-1),
            MOVE._replace(since=-1),
            MOVE._replace(records=-1),
            MOVE._replace(met=b"\0\1\0"),
        )
    ],
    TopologyTold: [({"epochs": [1]}, "members without their epochs")],
    Hello: [
        *(({"nonce": bytes(count)}, "no nonce of the right length") for count in (0, 15, 17)),
        ({"sender": ""}, "no nonce of the right length"),
        *(({"lowest": wrong}, "names no versions") for wrong in (-1, 0, 10)),
        ({"highest": 65536}, "names no versions"),
    ],
    Challenge: [
        *(({"nonce": bytes(count)}, "of the wrong length") for count in (0, 15, 17)),
        *(({"proof": bytes(count)}, "of the wrong length") for count in (0, 31, 33)),
        ({"lowest": 10}, "names no versions"),
    ],
    Proof: [
        *(({"proof": bytes(count)}, "of the wrong length") for count in (0, 31, 33)),
        ({"digest": b""}, "of the wrong length"),
        ({"address": "a" * 301}, "too long"),
    ],
    Welcome: [({"timeout_ms_max": wrong}, "names no timeout") for wrong in (-1, 0, TIMEOUT_MS_MAX + 1)],
    Written: [({"replicas": [0]}, "replicas without"), ({"order": VERSION[1:]}, "names no version")],
    Shed: [({"ranges": [1]}, "without their number"), ({"ranges": [-1, 4]}, "without their number")],
    Page: [({"rows": [b"key", b"value", VERSION]}, "in turn")],
    Superseded: [({"head": head}, "no record") for head in (b"", _SHORT, _LONG)],
    HeldDigest: [({"head": head}, "no record") for head in (b"", _SHORT, _LONG)],
    Held: [
        ({field: blob}, "no record") for field in ("record", "accepted") for blob in (b"x", HEAD, BARE[:-1])
    ],
    Hinted: [({"stores": b"s" * 15}, "stores that are none")],
    Prepare: [({"ballot": b"b" * 15}, "names no ballot")],
    Promised: [({"record": BARE[:-1]}, "carries no record")],
    Accept: [
        ({"record": BARE[:-1]}, "carries no record"),
        ({"record": b""}, "carries no record"),
        ({"following": b"b" * 15}, "names no ballot"),
    ],
    Refused: [({"ballot": b""}, "names no ballot")],
    Learn: [({"ballots": []}, "a ballot for each row"), ({"ballots": [b"b"]}, "names no ballot")],
    Commit: [
        ({"kinds": [1]}, "columns of different lengths"),
        ({"values": []}, "columns of different lengths"),
        ({"kinds": [1, 4]}, "does what there is not"),
        ({"expected": [b"", VERSION[:-1]]}, "expects what is no version"),
    ],
    Committed: [({"versions": [b""]}, "names no version"), ({"required": []}, "of different lengths")],
    Forward: [
        ({"lays": VERSION[:15]}, "an intent of no transaction"),
        ({"identity": b"i" * 7}, "names no write"),
        ({"row": ROW[:3]}, "names no write"),
        ({"left_ms": -1}, "a time below 0"),
        ({"ttl_ms": -1}, "a time below 0"),
    ],
    ForwardDone: [
        ({"record": BARE[:-1]}, "carries no record"),
        ({"order": b"o"}, "names no version"),
        ({"version": b"v" * 23}, "names no version"),
        ({"replicas": [1]}, "without their states"),
        ({"identity": b"i"}, "names no write"),
    ],
    ReadRange: [({"bucket": b"b" * 65}, "too long")],
    Range: [
        ({"rows": [ROW]}, "in turn"),
        ({"rows": [], "more": True}, "in turn"),
        ({"rows": [ROW[:3], RECORD]}, "in turn"),
        ({"rows": [ROW, BARE[:-1]]}, "no record"),
        ({"unlearned": [ROW[:3]]}, "what is no row"),
    ],
    Ping: [
        ({"only_copies": [3]}, "without their stamps"),
        *(({"wire": wire, "level": 9}, "level that cannot be") for wire in (-1, 8, 65536)),
        ({"level": -1}, "level that cannot be"),
    ],
    Trace: [({"row": row}, "no row") for row in (b"", ROW[:3])],
    Traced: [
        ({"state": "down"}, "what is held"),
        ({"record": BARE[:-1]}, "what is held"),
        ({"hints": [TracedHint(1, 0, _SHORT)]}, "hints that are none"),
        ({"hints": [TracedHint(1, 4, HEAD)]}, "hints that are none"),
        *(
            ({"acceptor": [ACCEPTOR_ROW._replace(**wrong)]}, "what an acceptor holds")
            for wrong in (
                {"role": "voter"},
                {"promised": VERSION},
                {"accepted": RECORD},
                {"accepted": b""},
                {"accepted_as": b""},
                {"learned_as": VERSION[:16]},
            )
        ),
    ],
    Survey: [({"accepted": [LOSS._replace(upto=-1)]}, "losses that cannot be")],
    Inspect: [({"accepted": [LOSS._replace(number=1 << 16)]}, "losses that cannot be")],
    Explained: [
        ({"hints": [KeptHint(1, 0, 0, _LONG)]}, "hints that are none"),
        ({"acceptors": [ACCEPTOR_ROW._replace(role="")]}, "what an acceptor holds"),
    ],
    Inspected: [
        ({"state": "damaged"}, "what is held"),
        ({"partitions": [PartitionRow(0, 0, 0, 0, 0, b"")] * 257}, "what is held"),
        ({"only_copies": [3]}, "hints that are none"),
        ({"late_hints": [3]}, "hints that are none"),
        ({"counts": [1]}, "does not count"),
    ],
    Syn: [({"claims": [1, 7]}, "in turn")],
    Same: [({"claims": [1]}, "in turn")],
    Certify: [({"claims": [1, 7, 5, 1]}, "in turn"), ({"end": -1}, "a sequence below 0")],
    Sums: [({"sums": bytes(9)}, "8 bytes")],
    Ask: [({"leaves": b"x"}, "2 bytes")],
    Listing: [({"leaves": b"xxx"}, "2 bytes")],
    Entries: [
        ({"rows": [ROW, RECORD]}, "in turn"),
        ({"rows": [ROW[:3], RECORD, b""]}, "in turn"),
        ({"rows": [ROW, BARE[:-1], b""]}, "in turn"),
        ({"rows": [ROW, RECORD, _SHORT]}, "in turn"),
    ],
    Roots: [
        ({"partitions": []}, "different lengths"),
        ({"roots": b"r" * 31}, "different lengths"),
        ({"theirs": [5]}, "different lengths"),
        ({"sequences": [7]}, "different lengths"),
        ({"closed": []}, "different lengths"),
        ({"tags": [0, 0, 0]}, "different lengths"),
        ({"claims": [1, 7, 5]}, "in turn"),
        ({"claims": [2, 7, 5, 0]}, "in turn"),
        ({"stable": [-1]}, "cannot be"),
        ({"theirs": [5, -1]}, "cannot be"),
        (
            {"partitions": [1] * 257, "roots": bytes(16 * 257), "theirs": [0] * 257, "sequences": [0] * 257},
            "different lengths",
        ),
    ],
    SameRoots: [
        ({"places": [1, 1], "sequences": [8, 8]}, "out of order"),
        ({"places": [-1]}, "out of order"),
        ({"sequences": []}, "different lengths"),
        ({"stable": [9, 9]}, "different lengths"),
        ({"claims": [1, 7, 5, 0]}, "in turn"),
        ({"sequences": [-1]}, "cannot be"),
    ],
    KnownLosses: [
        ({"rows": [LOSS._replace(partition=1 << 16)]}, "cannot be"),
        ({"rows": [LOSS._replace(number=-1)]}, "cannot be"),
        ({"rows": [LOSS._replace(upto=-1)]}, "cannot be"),
    ],
    Stored: [
        ({"partitions": [3]}, "has columns of different lengths"),
        ({"identities": [b"short", b"short"]}, "names no write"),
        ({"replicas": [1]}, "names replicas without their states"),
    ],
    Found: [
        ({"values": [b"one"]}, "has columns of different lengths"),
        ({"versions": [b"short", b"short"]}, "names no version"),
    ],
    ApplyGroup: [
        ({"id": (1 << 64) - 1}, "is no group of records"),
        ({"rows": []}, "is no group of records"),
        ({"rows": [ROW], "records": []}, "is no group of records"),
        ({"rows": [ROW] * 1025, "records": [RECORD] * 1025}, "is no group of records"),
    ],
    AppliedGroups: [
        ({"groups": [1]}, "names no groups"),
        ({"groups": [1, 0]}, "names no groups"),
        ({"groups": [1, 1 << 40]}, "names no groups"),
    ],
    WriteMany: [
        ({"ids": [1]}, "has columns of different lengths"),
        ({"values": [b"v"]}, "has columns of different lengths"),
        ({"tombstone": True}, "has columns of different lengths"),
        ({"identities": [b"", bytes(8)]}, "names no writes"),
        ({"ids": [], "keys": [], "values": [], "identities": []}, "names no writes"),
        (
            {
                "ids": [1] * 1025,
                "keys": [b"k"] * 1025,
                "values": [b""] * 1025,
                "identities": [bytes(8)] * 1025,
            },
            "asks too much at once",
        ),
    ],
    GetMany: [
        ({"ids": [1]}, "has columns of different lengths"),
        ({"ids": [], "keys": []}, "asks for nothing, or for too much at once"),
        ({"ids": [1] * 1025, "keys": [b"k"] * 1025}, "asks for nothing, or for too much at once"),
    ],
    WriteBatch: [
        ({"kinds": [1]}, "columns of different lengths"),
        ({"ttls_ms": []}, "columns of different lengths"),
        ({"kinds": [1, 0]}, "does what there is not"),
        ({"identity": b"i" * 9}, "names no batch"),
    ],
    BatchWritten: [
        ({"versions": [VERSION]}, "columns of different lengths"),
        ({"versions": [VERSION, b"v"]}, "names no version"),
        ({"identity": b""}, "names no batch"),
    ],
    AskPart: [({"ballot": b"b" * 15}, "names no part")],
    PartTold: [
        ({"state": 5}, "says what there is not"),
        ({"state": -1}, "says what there is not"),
        ({"record": b"r" * 48}, "carries no record"),
    ],
    ReadGroup: [
        ({"rows": []}, "is no group of reads"),
        ({"rows": [ROW] * 1025}, "is no group of reads"),
        ({"id": (1 << 64) - 1}, "is no group of reads"),
    ],
    HeldGroup: [({"held": [b"short"]}, "carries what is no record")],
}


def test_every_message_with_a_check_has_a_malformed_form() -> None:
    checked = {form.make for form in FORMS.values() if form.check is not None}
    assert MALFORMED.keys() == checked
    assert all(MALFORMED.values())


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [(kind, *case) for kind, cases in MALFORMED.items() for case in cases],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value)[:40],
)
def test_a_message_that_makes_no_sense_is_refused(kind: type[Any], fields: dict[str, Any], text: str) -> None:
    sound = EXAMPLES[kind]
    with pytest.raises(ProtocolError, match=f"a {kind.__name__} message .*{text}"):
        decode(encode([sound, sound._replace(**fields)]))


def test_a_message_has_a_check_or_says_why_not() -> None:
    class Unchecked(NamedTuple):
        id: int

    class Checked(NamedTuple):
        id: int

        def check(self) -> str:
            return "is wrong"

    with pytest.raises(TypeError, match="Unchecked needs"):
        message(99)(Unchecked)
    with pytest.raises(TypeError, match="Checked needs"):
        message(99, unchecked="a reason")(Checked)
    assert 99 not in FORMS


def test_a_number_is_given_once() -> None:
    class Another(NamedTuple):
        id: int

    with pytest.raises(TypeError, match="Status and Another are both number 14"):
        message(14, unchecked="a reason")(Another)


@pytest.mark.parametrize(
    "payload",
    [
        None, 1, "x", b"x", {}, {"a": 1}, 1.5, True, [None], [1], ["x"], [[]], [[None]], [["41"]],
        [[41.0, 1, 2]], [[True, 1]], [[0]], [[-1]], [[99, 1]], [[41]], [[41, 1]],
        [[41, 1, 2.0]], [[41, math.nan, 2]], [[41, math.inf, 2]],
        [[31, [1.0], b"", 1]], [[31, [True], b"", 1]], [[31, ["1"], b"", 1]], [[31, 1, b"", 1]],
        [[22, 1, ["x"], b"", True]],
        [{"kind": 41}], [{1: 2}], {1: [41, 1, 2]},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_frame_of_messages_is_refused(payload: Any) -> None:
    with pytest.raises(ProtocolError):
        decode(cbor2.dumps(payload))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("", id="nothing"),
        pytest.param("9f" "83 1829 01 02" "ff", id="indefinite array"),
        pytest.param("81" "9f" "1829" "01" "02" "ff", id="indefinite array of a message"),
        pytest.param("81" "86" "18 22" "01" "5f 41 61 ff" "00" "f4", id="indefinite bytes"),
        pytest.param("81" "84" "18 21" "01" "7f 61 61 ff" "f5", id="indefinite text"),
        pytest.param("bf 01 02 ff", id="indefinite map"),
        pytest.param("a2 61 61 02 61 61 03", id="duplicate keys"),
        pytest.param("a1 01 02", id="a map with integer keys"),
        pytest.param("81 86 18 18 01 01 61 61 40 81 a2 61 61 02 61 61 03", id="duplicate keys in details"),
        pytest.param("c1 80", id="a tag on all"),
        pytest.param("81 c0 74 323031332d30332d32315432303a30343a30305a", id="tag 0, a date"),
        pytest.param("81" "83" "18 29" "c2 49 010000000000000000" "02", id="tag 2, a bignum"),
        pytest.param("81" "83" "18 29" "c3 49 010000000000000000" "02", id="tag 3, a negative bignum"),
        pytest.param("81 c4 82 21 19 6ab3", id="tag 4, a decimal"),
        pytest.param("81 c5 82 20 03", id="tag 5, a bigfloat"),
        pytest.param("81 d8 18 41 80", id="tag 24, an embedded item"),
        pytest.param("81 d8 19 00", id="tag 25, a string reference"),
        pytest.param("81 d8 1c 80", id="tag 28, shareable"),
        pytest.param("d8 1c 81 d8 1d 00", id="tag 29, a shared reference"),
        pytest.param("81 d8 1e 82 01 02", id="tag 30, a rational"),
        pytest.param("81 d8 23 61 61", id="tag 35, a regular expression"),
        pytest.param("81 d8 24 61 61", id="tag 36, a MIME message"),
        pytest.param("81 d8 25 50 00000000000000000000000000000000", id="tag 37, a UUID"),
        pytest.param("81 d9 0102 81 01", id="tag 258, a set"),
        pytest.param("81 d9 0104 44 c0a80001", id="tag 260, an IP address"),
        pytest.param("d9 d9f7 80", id="tag 55799, self-described"),
        pytest.param("81 d9 ffff 01", id="an unknown tag"),
        pytest.param("81 f7", id="undefined"),
        pytest.param("81 f8 ff", id="a simple value"),
        pytest.param("81 f8 18", id="a reserved simple value"),
        pytest.param("ff", id="a break outside"),
        pytest.param("81" "83" "18 29" "f9 3c00" "02", id="a half float for an int"),
        pytest.param("81" "83" "18 29" "f9 7e00" "02", id="NaN for an int"),
        pytest.param("81 1c", id="reserved additional information"),
        pytest.param("9a ffffffff 01", id="an array longer than the payload"),
        pytest.param("9b ffffffffffffffff", id="an array of 2^64 - 1"),
        pytest.param("81 5a 7fffffff 00", id="bytes longer than the payload"),
        pytest.param("7b 8000000000000000", id="a text of 2^63"),
        pytest.param("ba ffffffff 61 61 02", id="a map longer than the payload"),
        pytest.param("81" "84" "18 21" "01" "61 ff" "f5", id="text that is no UTF-8"),
        pytest.param("80 00", id="trailing bytes"),
        pytest.param("80 80", id="two frames in one"),
    ],
)  # fmt: skip
def test_strict_decoding_refuses(payload: str) -> None:
    with pytest.raises(ProtocolError):
        decode(bytes.fromhex(payload))


def test_nesting_beyond_the_bound_is_refused() -> None:
    def nested(depth: int) -> bytes:
        details: Any = []
        for _ in range(depth):
            details = [details]
        return cbor2.dumps([[24, 1, 2, "text", b"", details]])

    decode(nested(DEPTH_MAX - 4))
    for depth in (DEPTH_MAX, 50, 900):
        with pytest.raises(ProtocolError):
            decode(nested(depth))
    with pytest.raises(ProtocolError):
        decode(b"\x81" * 1_000_000 + b"\x80")


@pytest.mark.parametrize(
    "facts",
    [
        ["node", "n1"],
        [["node"]],
        [["node", 1]],
        [["node", "n1", "more"]],
        [[]],
        [{"node": "n1"}],
        [None],
        [[["node"], "n1"]],
    ],
    ids=repr,
)
def test_a_row_of_another_form_is_refused(facts: list[Any]) -> None:
    number = NUMBERS[NodeStatus]
    (sound,) = decode(cbor2.dumps([[number, 1, [["node", "n1"]]]]))
    assert sound == NodeStatus(1, [Fact("node", "n1")])
    assert type(sound.facts[0]) is Fact
    with pytest.raises(ProtocolError):
        decode(cbor2.dumps([[number, 1, facts]]))


def test_a_row_within_a_row_is_refused_when_it_is_declared_and_when_it_comes() -> None:
    class Deep(NamedTuple):
        facts: list[Fact]

    class Deeper(NamedTuple):
        rows: list[Deep]

    with pytest.raises(TypeError, match="Deep has a field that is neither"):
        message(99, unchecked="a reason")(Deeper)
    with pytest.raises(ProtocolError, match="not valid CBOR"):
        decode(cbor2.dumps([[99, [[["node"]]]]]))


def test_more_messages_than_a_frame_may_have_are_refused() -> None:
    decode(encode([Status(n) for n in range(BATCH_MESSAGES_MAX)]))
    with pytest.raises(ProtocolError, match="more than"):
        decode(encode([Status(n) for n in range(BATCH_MESSAGES_MAX + 1)]))
    with pytest.raises(ProtocolError, match="more than"):
        decode(cbor2.dumps([[18, 1]] * (BATCH_MESSAGES_MAX + 1)))


@given(batches.filter(bool), st.data())
def test_a_truncated_payload_is_refused(sent: list[Message], data: st.DataObject) -> None:
    payload = encode(sent)
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ProtocolError):
        decode(payload[:cut])


@given(batches, st.binary(min_size=1, max_size=9))
def test_trailing_bytes_are_refused(sent: list[Message], more: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(encode(sent) + more)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_give_messages_or_a_protocol_error(payload: bytes) -> None:
    try:
        messages = decode(payload)
    except ProtocolError:
        return
    assert decode(encode(messages)) == messages


@settings(max_examples=300)
@given(batches.filter(bool), st.data())
def test_a_changed_byte_gives_messages_or_a_protocol_error(sent: list[Message], data: st.DataObject) -> None:
    payload = bytearray(encode(sent))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        messages = decode(bytes(payload))
    except ProtocolError:
        return
    assert {*map(type, messages)} <= {*KINDS}


@pytest.mark.parametrize("message", [Keep(1, 1, b"row", b"record", True, [0]), Kept(1, 1, True)])
def test_what_never_leaves_a_node_cannot_be_said(message: Message) -> None:
    assert type(message) not in KINDS
    with pytest.raises(KeyError):
        encode([message])


def test_two_different_messages_of_equal_fields_stay_different() -> None:
    sent: list[Message] = [
        Ping(1, 2, True, b"g", 3, [], False, 0, 0, 0),
        Get(1, "b", b"k", 1, 1, b"", True),
        Applied([1], b"", 2),
        Applied([], b"", 0),
    ]
    assert list(map(type, decode(encode(sent)))) == [Ping, Get, Applied, Applied]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if hasattr(kind, "single")], ids=lambda k: k.__name__
)
def test_what_stands_for_many_is_taken_apart_into_whole_messages(kind: type[Any]) -> None:
    singles = cast(Any, EXAMPLES[kind]).single()
    assert singles
    for each in singles:
        assert len(each) == len(each._fields), type(each)
    assert decode(encode(singles)) == singles
