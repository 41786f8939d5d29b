"""Whatever a stranger, a broken client or a wrongly configured node says to a node's port: the right
answer, and the node goes on serving."""

import random
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from zlib import crc32

import cbor2
import pytest

from basestore.consistency import Level
from basestore.errors import InvalidRequest, RequestFailed
from basestore.protocol.client import Delete, Failed, Get, Got, Scan, Set
from basestore.protocol.codec import Message, encode
from basestore.protocol.envelopes import HEADER_BYTES
from basestore.protocol.handshake import (
    CLIENT_HELLO,
    Challenge,
    Differs,
    EarlyHello,
    Hello,
    Proof,
    Refused,
    Welcome,
)
from basestore.protocol.heartbeats import Pong
from basestore.protocol.limits import KEY_BYTES_MAX, VALUE_BYTES_MAX, WIRE_HIGHEST, WIRE_LOWEST
from basestore.protocol.operator import Status
from basestore.protocol.proof import ADVICE, KEYLESS, Facts, hello
from basestore.protocol.replication import DIRECT, Apply, Read
from basestore.server.handshakes import HANDSHAKE_S_MAX
from basestore.sync import SyncStore
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.cluster.wire import Wire, sealed
from tests.worlds.handshakes import NONCE, member_facts
from tests.worlds.patience import eventually

SECOND_MS = 1000
READ = Read(1, b"\0\0\7defaultkey", 5000, True, False, True)
NONSENSE_FRAMES = 400
HEADER = struct.Struct(">III")
HELLO = CLIENT_HELLO
HELLO_FIELDS = [6, *HELLO]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("strangers")) as cluster:
        yield cluster


@pytest.fixture
def node(cluster: Cluster) -> Iterator[NodeProcess]:
    """A node that must serve, in the same process and with all its links, after the test too."""
    n1 = cluster.nodes[0]
    pids = [each.pid for each in cluster]
    yield n1
    with n1.store("all") as store:
        receipt = store.set("after the stranger", "still here")
        assert receipt.acknowledged == 3
        assert store.get("after the stranger").value == b"still here"
    assert [each.pid for each in cluster if each.running] == pids


def framed(payload: bytes, *, length: int | None = None, checksum: int | None = None) -> bytes:
    """A frame that may lie about its length and its checksum."""
    length = len(payload) if length is None else length
    checksum = crc32(payload) if checksum is None else checksum
    return HEADER.pack(length, crc32(length.to_bytes(4)), checksum) + payload


NOT_FRAMES = {
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: curl/8\r\n\r\n",
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + bytes(range(256)) * 2,
    "zeros": b"\0" * 4096,
    "a length of 4 GB": b"\xff\xff\xff\xff" + bytes(8),
    "a hello beyond the bound of hellos": framed(cbor2.dumps([[*HELLO_FIELDS[:4], "x" * 70_000, b""]])),
    "a length that is too short": framed(encode([HELLO]), length=3),
    "a wrong checksum": framed(encode([HELLO]), checksum=1),
    "an empty payload": framed(b""),
    "no CBOR": framed(b"\xff\xfe\xfd"),
    "CBOR with something behind it": framed(encode([HELLO]) + b"\0"),
    "no array": framed(cbor2.dumps({"hello": 1})),
    "an array without a kind": framed(cbor2.dumps([[]])),
    "an unknown kind": framed(cbor2.dumps([[99, 1]])),
    "a kind that is no number": framed(cbor2.dumps([["6", *HELLO]])),
    "a hello with a field too few": framed(cbor2.dumps([HELLO_FIELDS[:-1]])),
    "a hello with fields of the wrong types": framed(cbor2.dumps([[6, "8", "8", "", b"", ""]])),
    "true in the place of a number": framed(cbor2.dumps([[6, True, *HELLO[1:]]])),
    "a hello that names no versions": framed(encode([HELLO._replace(highest=HELLO.lowest - 1)])),
    "a node without a nonce": framed(encode([HELLO._replace(sender="n1")])),
    "nesting": framed(b"\x81" * 60_000),
    "an indefinite array": framed(b"\x9f\xff"),
    "an array of a length that lies": framed(b"\x9b\x00\xff\xff\xff\xff\xff\xff\xff"),
    "a tag": framed(b"\x81\xc2\x41\x01"),
}


@pytest.mark.parametrize("what", NOT_FRAMES)
def test_a_connection_that_begins_with_anything_but_frames_is_closed(node: NodeProcess, what: str) -> None:
    with Wire(node) as wire:
        wire.send(NOT_FRAMES[what])
        assert wire.closes()


@pytest.mark.parametrize(
    "what", [what for what in NOT_FRAMES if what != "a hello beyond the bound of hellos"]
)
def test_a_greeted_client_that_goes_on_with_anything_but_frames_is_closed(
    node: NodeProcess, what: str
) -> None:
    with Wire.greeted(node) as wire:
        # As much as a header takes, at least: what is shorter is the beginning of one, for a while.
        wire.send(NOT_FRAMES[what] + bytes(HEADER_BYTES))
        assert wire.closes()


def test_a_frame_that_is_cut_off_harms_nobody(node: NodeProcess) -> None:
    whole = framed(encode([Get(1, "default", b"key", Level.ONE, SECOND_MS, b"", True)]))
    with ExitStack() as wires, node.store() as store:
        for cut in range(1, len(whole), 5):
            wires.enter_context(Wire.greeted(node)).send(whole[:cut])
        assert store.set("beside frames that are cut off", "served").acknowledged >= 2
        wires.pop_all().close()
        assert store.get("beside frames that are cut off").value == b"served"


def test_a_frame_that_announces_more_than_ever_comes_is_waited_for_without_harm(node: NodeProcess) -> None:
    with Wire.greeted(node) as wire:
        wire.send(framed(b"x" * 100_000, length=8_000_000))
        with node.store() as store:
            assert store.set("meanwhile", "served").acknowledged >= 2


def test_a_frame_may_come_byte_by_byte(node: NodeProcess) -> None:
    with Wire(node) as wire:
        for byte in framed(encode([HELLO])):
            wire.send(bytes([byte]))
        (welcome,) = wire.hear()
        assert isinstance(welcome, Welcome)
        assert [*welcome.names.values()] == ["n1", "n2", "n3"]


def test_requests_that_travel_with_the_hello_are_all_answered(node: NodeProcess) -> None:
    gets = [Get(number, "default", b"key", Level.ONE, SECOND_MS, b"", True) for number in range(1, 301)]
    early = framed(encode([HELLO])) + b"".join(map(sealed, gets))
    for _ in range(10):
        with Wire(node) as wire:
            wire.send(early + sealed(GET._replace(id=301)))
            heard: list[Message] = []
            while len(heard) < 302:
                answers = wire.hear()
                assert answers, f"closed after {len(heard)} answers"
                heard += answers
        assert isinstance(heard[0], Welcome)
        assert {answer.id for answer in heard[1:] if isinstance(answer, Got)} == set(range(1, 302))


def test_connections_that_say_nothing_are_closed_when_the_time_for_a_hello_is_over(
    node: NodeProcess,
) -> None:
    begun = time.monotonic()
    wires = [Wire(node) for _ in range(20)]
    wires[0].send(framed(encode([HELLO]))[:-1])  # almost a hello
    wires[1].send(b"\0")
    try:
        assert all(wire.closes() for wire in wires)
        assert time.monotonic() - begun >= HANDSHAKE_S_MAX  # until then, slow is no crime
    finally:
        for wire in wires:
            wire.close()


def _refusal(node: NodeProcess, hello: Message) -> str:
    with Wire(node) as wire:
        wire.say(hello)
        answers = wire.hear()
        assert wire.closes()
    (refused,) = answers
    assert isinstance(refused, Refused)
    return refused.reason


def test_a_hello_in_other_versions_of_the_protocol_is_refused_with_those_of_both(node: NodeProcess) -> None:
    later = WIRE_HIGHEST + 7
    reason = _refusal(node, HELLO._replace(lowest=later, highest=later + 1))
    assert f"version {later} to {later + 1} is not spoken here, only {HELLO.versions}; upgrade n1" in reason
    assert "upgrade to release 0.2" in _refusal(node, EarlyHello(WIRE_LOWEST - 1, b"", b"", ""))


def test_a_hello_for_another_cluster_is_refused_with_both_ids(cluster: Cluster, node: NodeProcess) -> None:
    reason = _refusal(node, HELLO._replace(cluster=b"\xaa" * 16))
    assert "aa" * 16 in reason
    assert cluster.config.id.hex() in reason


# --- who calls himself a node ----------------------------------------------------------------------


def _challenged(node: NodeProcess, wire: Wire, said: Hello) -> Challenge:
    wire.say(said)
    (challenge,) = wire.hear()
    assert isinstance(challenge, Challenge)
    assert challenge.sender == node.name
    return challenge


@pytest.fixture
def stranger(cluster: Cluster) -> Facts:
    """All that can be known of n1 without the cluster's key."""
    return replace(
        member_facts(cluster.config, "n1"), digest=b"?" * 16, configuration="", proof_key=bytes(32)
    )


def test_an_impostor_gets_no_further_at_any_step_and_disturbs_no_link(
    cluster: Cluster, stranger: Facts
) -> None:
    n1, n2, _ = cluster
    members = {node.name for node in cluster}
    broken = n1.log.count("the link to n2 broke")
    with Wire(n2) as wire:  # as a client he learns who is there; but a client may not say what nodes say
        wire.say(HELLO)
        (welcome,) = wire.hear()
        assert isinstance(welcome, Welcome)
        assert set(welcome.names.values()) == members
        wire.say(READ)
        assert wire.closes()
    heard: list[Message] = []
    for word in (
        Proof(b"w" * 32, stranger.digest, "127.0.0.1:1"),  # a wrong digest, for which the right one was told
        Proof(b"w" * 32, cluster.config.digest, "127.0.0.1:1"),  # the right one, should he know it
        Differs("{}"),  # what is said to who has told its configuration
        READ,  # what is answered to a member
        Challenge(*HELLO[:2], "n1", NONCE, bytes(32)),
        None,  # the proof of n2 itself
    ):
        with Wire(n2) as wire:
            challenge = _challenged(n2, wire, hello(stranger, NONCE))
            wire.say(word or Proof(challenge.proof, stranger.digest, ""))
            wire.say(READ)
            answers = wire.hear()
            assert answers == [Refused(KEYLESS, "")]
            assert wire.closes()
            heard += [challenge, *answers]
    told = encode(heard)
    for secret in (cluster.config.id, cluster.config.digest, cluster.config.canonical().encode(), b"n3"):
        assert secret not in told
    assert n2.alive() == n1.alive() == members
    assert n1.log.count("the link to n2 broke") == broken
    assert n2.log.count("who called itself n1 was refused") == 1


def test_a_request_before_the_hello_is_refused(node: NodeProcess) -> None:
    assert "first message must be a hello" in _refusal(
        node, Get(1, "default", b"key", 1, SECOND_MS, b"", True)
    )


@pytest.mark.parametrize(
    "message",
    [
        Apply(1, b"\0\0\7defaultkey", b"x" * 60, DIRECT, 0),
        Pong(0, 0),
        HELLO,
        Welcome(WIRE_HIGHEST, b"", "n2", 1, [], []),
        Failed(1, 2, "no", b"", []),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_client_that_says_what_only_nodes_say_is_disconnected(node: NodeProcess, message: Message) -> None:
    with Wire.greeted(node) as wire:
        wire.say(message)
        assert wire.closes()


def _answer(node: NodeProcess, request: Message) -> Message:
    with Wire.greeted(node) as wire:
        wire.say(request)
        (answer,) = wire.hear()
        return answer


SET = Set(1, "default", b"key", b"value", Level.QUORUM, SECOND_MS, 0, b"")
GET = Get(1, "default", b"key", Level.QUORUM, SECOND_MS, b"", True)
INVALID: dict[str, tuple[Message, str]] = {
    "an unknown level": (SET._replace(level=9), "there is no level 9"),
    "a level below all levels": (GET._replace(level=-1), "there is no level -1"),
    "a huge level": (GET._replace(level=(1 << 64) - 1), "there is no level"),
    "a read at any": (GET._replace(level=Level.ANY), "level any is for writes"),
    "an empty key": (SET._replace(key=b""), "the key has 0 bytes"),
    "an oversized key": (SET._replace(key=b"k" * (KEY_BYTES_MAX + 1)), f"the key has {KEY_BYTES_MAX + 1}"),
    "an oversized key in a get": (GET._replace(key=b"k" * (KEY_BYTES_MAX + 1)), "the key has"),
    "an oversized value": (SET._replace(value=b"v" * (VALUE_BYTES_MAX + 1)), "the value has"),
    "an unknown bucket": (SET._replace(bucket="nowhere"), "there is no bucket 'nowhere'"),
    "a bucket of no name": (GET._replace(bucket=""), "there is no bucket ''"),
    "no time at all": (GET._replace(timeout_ms=0), "a timeout of 0 ms"),
    "time without end": (SET._replace(timeout_ms=1 << 62), "a timeout of"),
    "a negative time to live": (SET._replace(ttl_ms=-1), "a ttl of -0.001 s"),
    "an endless time to live": (SET._replace(ttl_ms=1 << 62), "a ttl of"),
    "a malformed version": (SET._replace(identity=b"abc"), "the identity of the write is malformed"),
    "a version of the future": (SET._replace(identity=b"\xff" * 40, repeats=True), "lies in the future"),
    "a delete of a first-write record": (
        Delete(1, "once", b"key", Level.QUORUM, SECOND_MS, b""), "first-write-wins",
    ),
    "a scan for nothing": (Scan(1, "default", b"", b"", 0, Level.ONE, SECOND_MS), "a limit of 0"),
    "a scan for an oversized prefix": (
        Scan(1, "default", b"p" * (KEY_BYTES_MAX + 1), b"", 5, Level.ONE, SECOND_MS), "the prefix has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", INVALID)
def test_an_invalid_request_is_answered_as_such_on_a_connection_that_stays(
    node: NodeProcess, what: str
) -> None:
    request, reason = INVALID[what]
    with Wire.greeted(node) as wire:
        wire.say(request)
        (answer,) = wire.hear()
        assert isinstance(answer, Failed)
        assert (answer.id, answer.code) == (1, InvalidRequest.code)
        assert reason in answer.text
        wire.say(SET._replace(id=2))
        (written,) = wire.hear()
        assert not isinstance(written, Failed)


def test_the_largest_key_and_value_and_the_smallest_are_stored(node: NodeProcess) -> None:
    with node.store("all") as store:
        for key, value in ((b"k" * KEY_BYTES_MAX, b"v" * VALUE_BYTES_MAX), (b"\0", b"")):
            store.set(key, value)
            assert store.get(key).value == value


def test_the_client_refuses_by_itself_what_the_node_would_refuse(node: NodeProcess) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.set(b"", b""),
        lambda: store.set(b"k" * (KEY_BYTES_MAX + 1), b""),
        lambda: store.set(b"k", b"v" * (VALUE_BYTES_MAX + 1)),
        lambda: store.get(b"k", bucket="nowhere"),
        lambda: store.get(b"k", consistency="any"),
    ]
    with node.store() as store:
        for call in calls:
            with pytest.raises(InvalidRequest):
                call()


def _nonsense(draw: random.Random) -> Message:
    """A client's request with fields of the right types and values of any kind."""
    kind = draw.choice((Set, Delete, Get, Scan, Status))
    numbers = (0, 1, 2, 3, 7, -1, 1000, 1 << 31, 1 << 63, (1 << 64) - 1, -(1 << 63))
    strings = (b"", b"k", b"\0" * 24, b"\xff" * 24, draw.randbytes(24), draw.randbytes(300))
    names = ("default", "once", "", "\x00", "nowhere", "\U0001f600" * 40)
    fields = [
        draw.choice(
            names if hint is str else strings if hint is bytes else (False, True) if hint is bool else numbers
        )
        for hint in kind.__annotations__.values()
    ]
    message: Message = kind._make(fields)._replace(id=draw.randrange(1 << 63))  # others fit no envelope
    return message


def test_requests_of_the_right_types_and_any_values_are_all_answered(node: NodeProcess) -> None:
    draw = random.Random(11)
    with Wire.greeted(node) as wire:
        for _ in range(NONSENSE_FRAMES):
            wire.say(_nonsense(draw))
            assert len(wire.hear()) == 1


def test_bytes_flipped_in_valid_frames_never_reach_the_store(node: NodeProcess) -> None:
    draw = random.Random(12)
    valid = sealed(SET._replace(key=b"flipped", identity=b""))
    for _ in range(60):
        data = bytearray(valid)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        with Wire.greeted(node) as wire:
            wire.send(bytes(data))
            assert wire.hear() == []
    with node.store() as store:
        assert not store.get("flipped").found


def test_a_node_whose_file_is_otherwise_goes_by_the_log(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, _, n3 = cluster
        cluster.wait_founded()
        n3.stop()
        elsewhere = tmp_path / "elsewhere"  # an empty store, that has not followed the log yet
        n3.configure(replace(n3.config, cluster=replace(cluster.config, replication=2), directory=elsewhere))
        n3.start()
        cluster.wait_linked()
        with n3.store(consistency="all") as store:
            # It is up before it holds what the log gives it, and its own file did not.
            eventually(lambda: _replicas(store) == 3, "n3 holds what it must")
        assert cluster.config.key.hex() not in n1.log + n3.log


def test_a_node_whose_file_has_other_partitions_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, n3 = cluster
        n3.stop()
        elsewhere = tmp_path / "elsewhere"
        other = replace(cluster.config, partitions=2 * cluster.config.partitions)
        n3.configure(replace(n3.config, cluster=other, directory=elsewhere))
        n3.start()
        eventually(partial(_logged, n1, f"was refused: {KEYLESS}; {ADVICE}"), "n1 says so")
        cluster.wait_linked([n1, n2])
        with n1.store() as store:
            store.set("key", "value")
        with n3.store() as store, pytest.raises(RequestFailed):
            store.get("key")


def test_a_node_of_another_cluster_is_refused_and_both_sides_say_so(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, _, n3 = cluster
        n3.stop()
        other = replace(cluster.config, id=b"\xcc" * 16, key=b"k" * 32)
        n3.configure(replace(n3.config, cluster=other, directory=tmp_path / "elsewhere"))
        n3.start()
        said = f"was refused: {KEYLESS}; {ADVICE}"
        for node, who in ((n1, "who answers at n3's address"), (n3, "who called itself n1")):
            eventually(partial(_logged, node, f"{who} {said}"), f"{node.name} says so")
        n3.stop()
        with_key = replace(other, key=cluster.config.key)
        n3.configure(replace(n3.config, cluster=with_key, directory=tmp_path / "yet elsewhere"))
        n3.start()
        for node, who in ((n1, "who answers at n3's address"), (n3, "who called itself n1")):
            eventually(partial(_logged, node, f"{who} {said}"), f"{node.name} says so")
        assert n1.alive() >= {"n1", "n2"}


def _logged(node: NodeProcess, text: str) -> bool:
    return text in node.log


def _replicas(store: SyncStore) -> int:
    """How many take a write at the store's level; 0 while it fails."""
    try:
        return len(store.set("key", "value").replicas)
    except RequestFailed:
        return 0
