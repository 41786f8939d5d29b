"""Clients of a cluster whose buckets change: what they are told, and what a session makes of it."""

from types import SimpleNamespace
from typing import Any, cast

from basestore.client.channel import Batch, answered
from basestore.client.session import Session
from basestore.consistency import Level
from basestore.errors import ReadTimeout
from basestore.protocol.client import Get, Got
from basestore.protocol.codec import Decoder
from basestore.protocol.handshake import MemberRow, Renewed, Rules, Welcome, rows_of_buckets, rules_of
from basestore.repair.rule import Rule
from basestore.repair.version import Version
from tests.worlds.changing import create, drop
from tests.worlds.world import World

LWW = Rule.LAST_WRITE_WINS
FOUNDED = Rules([("carts", LWW), ("default", LWW)])
CLUSTER = bytes(range(16))


def told(*buckets: tuple[str, int]) -> Rules:
    """As a node says them."""
    return rules_of(rows_of_buckets([(name, LWW, number) for name, number in buckets]))


ANEW = told(("carts", 7), ("default", 0))


def got(stamp: int, number: int = 1) -> Got:
    return Got(number, True, b"v", Version(stamp, 1, 1).encode(), 0, 2, 2, False, 0, 0, 0, -1, False)


def getting(key: str, number: int = 1, bucket: str = "carts") -> Get:
    return Get(number, bucket, key.encode(), 1, 1000, b"", True)


def seen(session: Session, key: str, stamp: int, rules: Rules | None = None) -> None:
    session.end(session.begin(getting(key)), got(stamp), rules)


def floor(session: Session, key: str) -> int:
    known = session.floor("carts", key.encode())
    return Version.decode(known).stamp if known else 0


def test_what_was_seen_of_a_bucket_that_was_dropped_is_asked_of_nobody() -> None:
    session = Session(CLUSTER, FOUNDED, keys_max=1)
    seen(session, "k", 5, FOUNDED)
    assert floor(session, "k") == 5
    session.learn(ANEW)
    assert floor(session, "k") == 0
    seen(session, "other", 2, ANEW)  # there is room for it again
    assert floor(session, "other") == 2
    session.learn(told(("carts", 9)))
    assert len(session) == 0


def test_who_knows_less_takes_nothing_back() -> None:
    session = Session(CLUSTER, ANEW)
    seen(session, "k", 5, ANEW)
    session.learn(FOUNDED)  # as a node says that is behind
    assert floor(session, "k") == 5
    seen(session, "k", 9, FOUNDED)
    assert floor(session, "k") == 5


def test_an_answer_is_of_the_bucket_that_was_there_when_it_was_given() -> None:
    asking: Any = SimpleNamespace(asks=2, requests=lambda first, failed: [getting("a", 1), getting("b", 2)])
    batch, table = Batch(1, asking), dict[int, Batch]()
    batch.rules = FOUNDED
    batch.enter(table, 0.0, 1.0)
    renewed = Renewed([], rows_of_buckets([("carts", LWW, 7)]))
    assert answered(table, [got(5, 1), renewed, got(6, 2)]) == [renewed]
    session = Session(CLUSTER, FOUNDED)
    for number, key in ((1, "a"), (2, "b")):
        answer = cast("Got", batch.told[number - 1])
        session.end(session.begin(getting(key, number)), answer, batch.rules_of(number))
    assert (floor(session, "a"), floor(session, "b")) == (0, 6)


def test_a_token_says_of_which_bucket_it_speaks() -> None:
    old, new = Session(CLUSTER, FOUNDED), Session(CLUSTER, ANEW)
    seen(old, "k", 5)
    seen(new, "k", 3)
    for first, second in ((old, new), (new, old)):
        both = Session(CLUSTER, FOUNDED)
        both.merge(first.token)
        both.merge(second.token)
        assert floor(both, "k") == 3
        assert both.token == new.token
    late = Session(CLUSTER, ANEW)
    late.merge(old.token)
    assert floor(late, "k") == 0


def test_a_member_that_was_known_stays_where_it_was_known_to_be() -> None:
    welcome = Welcome(10, CLUSTER, "n1", 5000, [MemberRow(3, "n1", "here:1")], [])
    said = Renewed([MemberRow(3, "n1", "there:1"), MemberRow(5, "n2", "n2:1")], [])
    assert welcome.renewed(said).members == [MemberRow(3, "n1", "here:1"), MemberRow(5, "n2", "n2:1")]


def test_clients_are_told_before_the_first_answer_that_goes_by_it() -> None:
    world = World(3, buckets={"carts": LWW}, logged=True)
    clients = [client for client in world.clients if client is not None]
    drop(world, "carts")
    number = create(world, "carts")
    for client in clients:
        assert len(client.renewed) == 2
        assert rules_of(client.renewed[-1].buckets).known_as["carts"] == f"carts\0{number}"
        assert {member.name for member in client.renewed[-1].members} == {"n1", "n2", "n3"}
    late = world.node(1).open_client()
    assert late.take() == [clients[1].renewed[-1]]


def test_a_client_that_speaks_an_older_version_is_told_nothing() -> None:
    world = World(1, logged=True)
    client = world.clients[0]
    assert client is not None
    client.outbox.version = 9
    create(world, "carts")
    assert not client.renewed


def test_a_client_that_speaks_an_older_version_is_told_of_no_rule_that_it_cannot_know() -> None:
    world = World(1, logged=True)
    client = world.clients[0]
    assert client is not None
    client.outbox.version = 11
    create(world, "leaders", rule="register")
    create(world, "carts")
    assert {row.rule for told in client.renewed for row in told.buckets} == {LWW.value, "first-write-wins"}
    assert "carts" in rules_of(client.renewed[-1].buckets)
    assert world.node(0).open_client(decoder=Decoder(11)).take() == client.renewed[-1:]
    newer = world.node(0).open_client().take()
    assert "leaders" in rules_of(cast("Renewed", newer[0]).buckets)


def test_a_session_goes_on_with_the_new_bucket() -> None:
    world = World(3, buckets={"carts": LWW}, logged=True)
    session = Session(world.cluster.id, FOUNDED)

    def read(rules: Rules | None) -> Got:
        asked = session.begin(getting("k"))
        call = world.ask(0, lambda number: asked._replace(id=number, level=Level.QUORUM.value))
        world.run(1.2)
        answer: Any = call.answer
        session.end(asked, answer, rules)
        return cast("Got", answer)

    world.put(0, "k", "old", bucket="carts")
    assert read(FOUNDED).value == b"old"
    drop(world, "carts")
    number = create(world, "carts")
    assert getattr(read(FOUNDED), "code", 0) == ReadTimeout.code  # it is not told yet
    session.learn(told(("carts", number)))  # as with each call, of what its connection was told
    assert not read(None).found
