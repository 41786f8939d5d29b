"""Every message that may travel: one sound example of each kind, and strategies for many.

What is listed by hand here is held against the registry: a new message without an example fails a test.
"""

from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from basestore.consensus import messages as raft
from basestore.protocol import anti_entropy as ae
from basestore.protocol import client, feeds, groups, handshake, heartbeats, membership, operator
from basestore.protocol import replication as rep
from basestore.protocol.codec import Message
from basestore.protocol.handshake import BucketRow, MemberRow
from basestore.protocol.limits import TIMEOUT_MS_MAX
from basestore.protocol.registry import NUMBERS
from basestore.repair.version import (
    HEAD_BYTES,
    IDENTITY_BYTES,
    PROPOSAL_BYTES,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
)

KINDS: list[type[Any]] = list(NUMBERS)

VERSION = bytes(range(24))
BALLOT = VERSION[:16]
IDENTITY = bytes(range(IDENTITY_BYTES))
HEAD = bytes(range(HEAD_BYTES))
RECORD = bytes(range(RECORD_BYTES_MIN)) + b"value"
BARE = RECORD[:RECORD_BYTES_MIN]
ROW = b"\0\1\7defaultkey"
STORE = b"s" * 16
GENERATION = b"g" * 8
LOSS = ae.LossRow(3, 1, 1, 2, 9, 0)
COUNTS = [1] * len(operator.COUNTS)

GROUP = b"g" * 16
VOTERS = b"\0\1" + STORE
MOVE = membership.MoveRow(3, 9, True, b"\0\1\0\3", 7)
ENTRIES = [raft.EntryRow(3, 2, b"entry")]
CHANGE_META = VERSION * 2 + bytes(9)
MARK_ROW = feeds.MarkRow(1, 9, 8, 0, False)
ACCEPTOR_ROW = rep.AcceptorRow(0, STORE, "acceptor", VERSION[:16], BARE, 3, 500, VERSION, VERSION)

_EXAMPLES: list[Message] = [
    raft.Stand(4, 9, 3, True),
    raft.Granted(4, True, True),
    raft.Append(4, 8, 3, ENTRIES, 7, 12),
    raft.Appended(4, 9, 12, True),
    raft.Install(4, 8, 3, VOTERS, b"state", 12),
    membership.At(GROUP, b"", STORE, True, False, False, 9, 2, 9, ENTRIES),
    membership.Lacking(-1, 0),
    membership.Base(GROUP, b"", 8, 3, VOTERS, b"state"),
    membership.Suggest(b"entry"),
    membership.MoveReport([MOVE]),
    membership.Finished([membership.FinishedRow(3, 9, bytes(16))]),
    membership.AskMoves(1),
    membership.MovesTold(1, 9, 3, False, [membership.MoveState(3, 1, 20, 7, 5, b"\0\1", b"\0\3", b"\0\3")]),
    membership.ReadMoves(1, 1000),
    membership.AskRead(1, True),
    membership.ReadAt(1, 9),
    membership.ReadTopology(1, 1, 1000),
    membership.TopologyTold(1, b"topology", GROUP, 3, 20, 4, [1, 3], [5], [1, 9, 3, 8]),
    membership.ReadHistory(1, -1, 10, 1000),
    membership.HistoryTold(1, 4, 9, [membership.HistoryRow(9, 5, "carts was created")]),
    membership.ChangeTopology(1, b"entry", 1000, False),
    membership.TopologyChanged(1, 9, "", 3),
    handshake.EarlyHello(4, b"c" * 16, b"d" * 16, "n1"),
    handshake.Hello(8, 9, b"", "n1", b"n" * 16),
    handshake.Challenge(8, 9, "n2", b"m" * 16, b"p" * 32),
    handshake.Proof(b"p" * 32, b"d" * 16, "127.0.0.1:7400"),
    handshake.Welcome(
        4, b"c" * 16, "n1", 5000,
        [MemberRow(0, "n1", "127.0.0.1:7400")], [BucketRow("once", "first-write-wins")],
    ),
    handshake.Refused("why", "{}"),
    handshake.Differs("{}"),
    handshake.Goodbye("why"),
    handshake.Renewed(
        [MemberRow(0, "n1", "127.0.0.1:7400")],
        [BucketRow("carts", "last-write-wins"), BucketRow("carts\x003", "last-write-wins")],
    ),
    client.Set(1, "default", b"key", b"value", 2, 1000, 0, IDENTITY[:PROPOSAL_BYTES]),
    client.Delete(1, "default", b"key", 2, 1000, IDENTITY, True),
    client.Get(1, "default", b"key", 2, 1000, b"", True, False, 0),
    client.Scan(1, "default", b"k", b"", 10, 2, 1000),
    client.Written(1, 0, 0, IDENTITY, 2, 2, [0, 1, 1, 1, 2, 0], b"", 1),
    client.Got(1, True, b"value", VERSION, 0, 2, 2, False, 0, 0, 0, -1, False),
    client.Page(1, [b"key", b"value", VERSION, bytes(8)], b"key", True),
    client.Commit(
        1, 1000, ["cas", "cas"], [b"a", b"b"], [client.READ, client.SET], [VERSION, b""], [b"", b"v"], [0, 9]
    ),
    client.Committed(1, [VERSION], [3], [2]),
    client.Failed(1, 3, "why", IDENTITY, ["1", "n1"]),
    client.Shed([1, 4, 9, 2], 100, 32),
    client.Credit(32),
    operator.Status(1),
    operator.Explain(1, "default", b"key", 1000),
    operator.HintsOf(1),
    operator.Replay(1, True),
    operator.Counters(1),
    operator.Survey(1, "default", b"", -1, 0, -1, False, [LOSS], 1000),
    operator.FinishUpgrade(1),
    operator.UpgradeFinished(1, 8, ["n2 is not up"]),
    operator.NodeStatus(1, [operator.Fact("node", "n1")]),
    operator.Explained(
        1, "last-write-wins", 5, [operator.ReplicaRow(0, "up", BARE, 7)],
        [operator.KeptHint(1, 0, 3, HEAD)], [operator.Unheard(2, "down")], [operator.Reach(1, 7, 7)], 0,
        0, 3, 256, 1, b"\1",
    ),
    operator.HintPiles(
        1, "n1", 5, [operator.PileRow(1, False, 2, 300, 1, 4, 0, 0)], [operator.DebtRow(1, 3, 4)], 0, 0
    ),
    operator.Surveyed(1, 4, -1, [operator.Told(0, b"told")], [operator.Unheard(1, "down")]),
    operator.Trace(1, ROW),
    operator.Traced(1, "up", BARE, [operator.TracedHint(1, 3, HEAD)], 7, [operator.Reach(1, 7, 7)], 0, b"\1"),
    operator.Inspect(1, 0, 4, -1, False, [LOSS]),
    operator.Inspected(
        1, "up", "", "sync", "", 5, 6, 7, COUNTS, [operator.PartitionRow(3, 1, 7, -1, -1, b"r" * 8)],
        [operator.PairRow(3, 1, 7, 5, -1)], [3, 9], [3, 8], [3], [LOSS], 6,
    ),
    rep.Apply(1, ROW, RECORD, rep.DIRECT, 5000),
    rep.Applied([1, 2], GENERATION, 9),
    rep.Superseded(1, HEAD),
    rep.Rejected(1, "why", True),
    rep.Moved(1, 7),
    rep.Read(1, ROW, 5000, False, False, True),
    rep.Held(1, RECORD, 7, True, 9, RECORD),
    rep.ReadRange(1, [0, 1], b"default", b"k", b"", 10, 4000, 5000),
    rep.Range(1, [ROW, RECORD], True, [7, 0]),
    rep.HeldDigest(1, HEAD, 7, True, 9),
    rep.Settled(1, 7, False),
    rep.Hinted(1, ROW, RECORD, STORE),
    rep.Prepare(1, ROW, BALLOT, 5000),
    rep.Promised(1, RECORD, False, 9, 7),
    rep.Accept(1, ROW, RECORD, BALLOT, 5000),
    rep.Refused(1, BALLOT),
    rep.Learn([ROW], [BALLOT]),
    rep.Peek(1, ROW, 5000),
    rep.Forward(
        1, ROW, b"value", 0, False, 2, VERSION, IDENTITY[:PROPOSAL_BYTES] + VERSION, True, False, 900
    ),
    rep.ForwardDone(1, 2, VERSION, VERSION, RECORD, 2, [0, 1, 1, 1, 2, 0], 0, "", [], b""),
    groups.WriteMany([1, 2], "default", [b"k", b"l"], [b"v", b""], 2, 5000, [IDENTITY[:8]] * 2, 7, False),
    groups.GetMany([1, 2], "default", [b"k", b"l"], 1, 5000),
    groups.Stored([1, 2], [bytes(IDENTITY_BYTES)] * 2, [3, 4], 2, 2, [1, 1, 2, 0]),
    groups.Found([1, 2], [b"value", b""], [bytes(VERSION_BYTES)] * 2, 2, 2),
    groups.ApplyGroup(1, 5000, [ROW, ROW], [RECORD, RECORD]),
    groups.AppliedGroups([1, 2, 8, 1], [2], GENERATION, 9),
    client.WriteBatch(
        1, 2, 1000, IDENTITY[:PROPOSAL_BYTES], False, ["default"] * 2, [b"a", b"b"],
        [client.SET, client.DELETE], [b"v", b""], [9, 0],
    ),
    client.BatchWritten(1, IDENTITY, [VERSION, b""], [3, 3], [2, 2]),
    groups.HoldPart(1, ROW, RECORD, STORE, 5000),
    groups.AskPart(1, ROW, BALLOT, groups.COMMIT, 5000),
    groups.PartTold(1, groups.COMMITTED, 7, STORE, RECORD),
    groups.ReadGroup(1, 5000, [ROW, ROW], True, False),
    groups.HeldGroup(1, [RECORD, b"", HEAD]),
    heartbeats.Ping(1, 5, True, GENERATION, 9, [3, 9], False, 5, 7, 8, 9, 8, 2),
    heartbeats.Pong(1, 5),
    heartbeats.StoreClaim(STORE, GENERATION, 9, True, False, b"", False),
    heartbeats.Remembered(STORE, GENERATION, 9, False, False),
    heartbeats.Confirmed(STORE, GENERATION, 9),
    ae.Syn(2, 1, b"r" * 12, -1, 9, 0, 7, 1, -1, 0, [1, 7, 5]),
    ae.Same(2, 0, 9, 0, 1, -1, 0, [1, 7, 5]),
    ae.Sums(2, 0, 0, -1, b"\1", bytes(8)),
    ae.Ask(2, 0, -1, -1, 0, -1, b"\0\1"),
    ae.Listing(2, 0, -1, -1, 0, -1, b"\0\1", b"part", False),
    ae.Want(2, 1, b"part", False),
    ae.Entries(2, 2, [ROW, RECORD, HEAD], True),
    ae.Taken(2, 3),
    ae.Certify(2, 4, b"r" * 12, 9, 1, 0, [1, 7, 5]),
    ae.Going(2),
    ae.Abort(2, "why"),
    ae.KnownLosses([LOSS]),
    ae.Roots(4, b"s" * 4, [1, 2], b"r" * 32, [5, 6], [7, 8], [9], [10, 11], [0], [1, 7, 5, 0]),
    ae.SameRoots(4, [1], [8], [9], [11], [0], [0, 7, 5, 0]),
    client.Watch(1, "default", b"prefix", "token", 0, False, 1 << 18, 5000),
    client.Watched(1, 7, [b"key", CHANGE_META, b"value"], 9, "token", 8, 1),
    feeds.Follow(1, b"default", b"prefix", [feeds.PositionRow(3, STORE, 9, 8)]),
    feeds.Fed(1, STORE, [ROW, RECORD], [MARK_ROW], [feeds.UnservedRow(4, "why")]),
    feeds.More(1),
    feeds.Unfollow(1),
]  # fmt: skip
EXAMPLES: dict[type[Any], Message] = {type(message): message for message in _EXAMPLES}

_LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(1 << 64), (1 << 64) - 1),
    bytes: st.binary(max_size=30),
    str: st.text(max_size=20),
    bool: st.booleans(),
    Any: st.integers(0, 9) | st.text(max_size=5),
}


def in_turn(*of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists of things of several sorts in turn."""
    return st.lists(st.tuples(*of), max_size=3).map(lambda found: [part for each in found for part in each])


_number, _text = _LEAVES[int], _LEAVES[str]
_head = st.binary(min_size=HEAD_BYTES, max_size=HEAD_BYTES)
_identity = st.sampled_from([8, IDENTITY_BYTES]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
_version = st.binary(min_size=VERSION_BYTES, max_size=VERSION_BYTES)
_record = st.binary(min_size=RECORD_BYTES_MIN, max_size=RECORD_BYTES_MIN + 5)
_row = st.binary(min_size=4, max_size=12)
_claims = in_turn(_number, _number, _number)
_pairs = in_turn(_number, _number)

# Fields whose values a check looks at.
_SOUND: dict[type[Any], dict[str, st.SearchStrategy[Any]]] = {
    handshake.Welcome: {
        "timeout_ms_max": st.integers(1, TIMEOUT_MS_MAX),
        "buckets": st.lists(st.builds(BucketRow, _text, st.sampled_from(sorted(handshake.RULES)))),
    },
    client.Written: {"replicas": _pairs, "identity": _identity, "order": st.just(b"") | _version},
    client.Page: {"rows": in_turn(*[_LEAVES[bytes]] * 4)},
    operator.Trace: {"row": _row},
    rep.Superseded: {"head": _head},
    rep.Held: {"record": st.just(b"") | _record, "accepted": st.just(b"") | _record},
    rep.HeldDigest: {"head": _head},
    rep.Range: {
        "rows": in_turn(_row, _record),
        "more": st.just(False),
        "unlearned": st.lists(_row, max_size=3),
    },
    rep.Hinted: {"stores": st.lists(st.binary(min_size=16, max_size=16), max_size=3).map(b"".join)},
    heartbeats.Ping: {"only_copies": _pairs, "wire": st.just(9), "level": st.integers(0, 9)},
    ae.Syn: {"claims": _claims},
    ae.Same: {"claims": _claims},
    ae.Certify: {"claims": _claims, "end": st.integers(0, 1 << 40)},
    ae.Sums: {"sums": st.integers(0, 3).map(lambda count: bytes(8 * count))},
    ae.Ask: {"leaves": st.integers(0, 3).map(lambda count: bytes(2 * count))},
    ae.Listing: {"leaves": st.integers(0, 3).map(lambda count: bytes(2 * count))},
    ae.Entries: {"rows": in_turn(_row, _record, st.just(b"") | _head)},
}


def field_types(kind: type[Any]) -> list[Any]:
    """The types of a message's fields, or a row's, as they are declared."""
    hints = get_type_hints(kind)
    return [hints[name] for name in kind._fields]


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is list:
        return st.lists(_values(get_args(hint)[0]), max_size=5)
    if hasattr(hint, "_fields"):
        return st.tuples(*map(_values, field_types(hint))).map(hint._make)
    return _LEAVES[hint]


def messages_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Sound messages of a kind; of those whose fields must fit each other only the example."""
    sound = _SOUND.get(kind, {})
    if hasattr(kind, "check") and not sound:
        return st.just(EXAMPLES[kind])
    fields = zip(kind._fields, field_types(kind), strict=True)
    return st.tuples(*(sound.get(name, _values(hint)) for name, hint in fields)).map(kind._make)


any_message = st.one_of([messages_of(kind) for kind in KINDS])
batches = st.lists(any_message, max_size=8)
