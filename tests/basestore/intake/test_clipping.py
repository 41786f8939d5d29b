"""Limits of buckets and keys at a node, on whichever path a request comes, and the hot keys that it names."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from basestore.cli.cluster.board import board
from basestore.cli.cluster.samples import Sample, View
from basestore.cli.cluster.status import row
from basestore.cli.data.receipts import receipt_line
from basestore.config import BucketOptions
from basestore.consistency import Level, Outcome
from basestore.errors import Overloaded, Unavailable
from basestore.intake.clipping import SAMPLED
from basestore.intake.figures import NOTES
from basestore.protocol.client import SET, Commit, Delete, Get, Scan, Set
from basestore.protocol.envelopes import unsealed
from basestore.protocol.groups import GetMany, WriteMany, chosen, singly, together
from basestore.protocol.operator import Counters, Explain, Status
from basestore.protocol.replication import Apply, Read
from basestore.results.nodes import Limit
from tests.worlds.deferring import defer
from tests.worlds.world import Call, World

PROPOSAL = b"proposed"
QUORUM = Level.QUORUM.value


def limited(requests_per_s: int = 0, key_requests_per_s: int = 0, **more: Any) -> World:
    options = BucketOptions(
        requests_per_s=requests_per_s, key_requests_per_s=key_requests_per_s, defer=more.pop("defer", False)
    )
    return World(3, bucket_options={"default": options}, **more)


def a_set(key: bytes = b"k", level: int = QUORUM, value: bytes = b"v", **more: Any) -> Set:
    return Set(0, "default", key, value, level, 1000, 0, PROPOSAL)._replace(**more)


def a_get(key: bytes = b"k", **more: Any) -> Get:
    return Get(0, "default", key, QUORUM, 1000, b"", True)._replace(**more)


def a_delete(key: bytes = b"k") -> Delete:
    return Delete(0, "default", key, QUORUM, 1000, PROPOSAL)


def fate(call: Call) -> str:
    """What became of a request: done, or the setting that was in its way."""
    answer: Any = call.reply()
    if getattr(answer, "code", 0) != Overloaded.code:
        assert not hasattr(answer, "code"), answer
        return "done"
    assert "nothing was done" in answer.text
    return "key" if "key_requests_per_s" in answer.text else "bucket"


def numbered(request: Any) -> Callable[[int], Any]:
    return lambda number: request._replace(id=number)


PLAIN: list[Callable[[bytes], Any]] = [a_set, a_get, a_delete]
SPECIAL: list[Callable[[bytes], Any]] = [
    lambda key: a_set(key, ttl_ms=1000),
    lambda key: a_get(key, tell=True),
    lambda key: a_get(key, repair=False, level=Level.ONE.value),
]


@pytest.mark.parametrize("make", PLAIN + SPECIAL)
@pytest.mark.parametrize("alike", [True, False])
def test_a_bucket_takes_so_many_whether_they_come_singly_or_together(
    make: Callable[[bytes], Any], alike: bool
) -> None:
    world = limited(5)
    requests = [make(b"k" if alike else b"k%d" % number) for number in range(8)]
    together_ = world.ask_together(0, requests)
    singles = [world.ask(0, numbered(make(b"other")))]
    world.settle()
    assert [fate(call) for call in together_ + singles] == ["done"] * 5 + ["bucket"] * 4
    assert world.node(0).metrics.counts["clipped_by_bucket"] == 4


@pytest.mark.parametrize("make", PLAIN + SPECIAL)
def test_a_key_may_be_asked_for_so_often_and_others_go_on(make: Callable[[bytes], Any]) -> None:
    world = limited(0, 2)
    calls = world.ask_together(0, [make(key) for key in (b"k", b"ka", b"k", b"k", b"kb", b"k")])
    world.settle()
    assert [fate(call) for call in calls] == ["done", "done", "done", "key", "done", "key"]
    assert world.node(0).metrics.counts["clipped_by_key"] == 2


def test_a_key_of_another_bucket_is_another_key_and_what_has_no_limit_none() -> None:
    options = {"default": BucketOptions(key_requests_per_s=1), "more": BucketOptions(key_requests_per_s=1)}
    world = World(3, bucket_options=options)
    calls = [world.get(0, "k") for _ in range(2)] + [world.get(0, "k", bucket="once") for _ in range(9)]
    world.settle()
    assert [fate(call) for call in calls] == ["done", "key"] + ["done"] * 9


def test_many_are_let_in_as_far_as_there_is_room_and_each_of_the_rest_is_told_when_to_come() -> None:
    world = limited(4)
    sets = [a_set(b"%d" % number) for number in range(6)]
    assert isinstance(together([each._replace(id=n) for n, each in enumerate(sets)])[0], WriteMany)
    calls = world.ask_together(0, sets)
    world.settle()
    assert [fate(call) for call in calls] == ["done"] * 4 + ["bucket"] * 2
    waits = []
    for call in calls[4:]:
        with pytest.raises(
            Overloaded, match=r"4 requests a second for bucket 'default' \(requests_"
        ) as refused:
            call.receipt()
        assert refused.value.definite
        waits.append(refused.value.retry_after)
    assert waits == [0.25, 0.5]
    assert [world.values(str(number))[0] for number in range(6)] == [b"v"] * 4 + [None] * 2


def test_a_limit_of_one_is_said_as_one() -> None:
    world = limited(1)
    calls = [world.get(0, "k") for _ in range(2)]
    world.settle()
    with pytest.raises(Overloaded, match="takes 1 request a second for bucket"):
        calls[1].read()


def test_what_is_refused_comes_through_when_it_was_told_to_come() -> None:
    world = limited(0, 2)
    calls = [world.get(0, "k") for _ in range(3)]
    world.settle()
    with pytest.raises(Overloaded, match=r"2 requests a second for each key of bucket 'default'") as refused:
        calls[2].read()
    world.run(refused.value.retry_after)
    again = [world.get(0, "k") for _ in range(2)]
    world.settle()
    assert [fate(call) for call in again] == ["done", "key"]


def test_what_is_refused_is_neither_stamped_nor_sent() -> None:
    world = limited(1)
    world.put(0, "k", "v")
    last, sent = world.node(0).context.stamper.last, len(world.sent(Apply)) + len(world.sent(Read))
    calls = [world.set(0, "k", "w"), world.get(0, "k"), world.delete(0, "k"), world.scan(0)]
    world.settle()
    assert [fate(call) for call in calls] == ["bucket"] * 4
    assert world.node(0).context.stamper.last == last
    assert len(world.sent(Apply)) + len(world.sent(Read)) == sent
    refused = world.node(0).metrics.facts()
    for operation in ("set", "delete", "get", "scan"):
        assert refused[f"requests {operation} quorum overloaded"] == "1"


def test_a_scan_counts_one_against_the_bucket_and_nothing_against_keys() -> None:
    world = limited(3, 1)
    calls = [world.scan(0) for _ in range(4)]
    world.settle()
    assert [fate(call) for call in calls] == ["done"] * 3 + ["bucket"]


@pytest.mark.parametrize("limits", [(3, 0), (0, 1)])
def test_a_transaction_counts_for_each_of_its_keys_and_is_refused_as_a_whole(limits: tuple[int, int]) -> None:
    world = limited(*limits)
    one = Commit(0, 1000, ["default"] * 2, [b"k", b"l"], [SET] * 2, [b""] * 2, [b"v"] * 2, [0, 0])
    first, second = (world.ask(0, numbered(one)) for _ in range(2))
    world.settle()
    assert (
        getattr(first.reply(), "code", 0) == Unavailable.code
    )  # let in: but there are none at this level yet
    assert fate(second) == ("bucket" if limits[0] else "key")


def test_operators_and_replicas_are_not_limited_and_each_node_has_its_own_limit() -> None:
    world = limited(1)
    calls = [world.set(at, "k", "v") for at in (0, 1, 2)]
    world.settle()
    assert [fate(call) for call in calls] == ["done"] * 3  # each node was a replica of all three
    for _ in range(5):
        assert world.state(0).state == "up"
        explained = world.ask(0, lambda number: Explain(number, "default", b"k", 1000))
        world.settle()
        assert not hasattr(explained.reply(), "code")


def test_what_comes_through_the_intake_is_limited() -> None:
    world = limited(3)
    node, client = world.node(0), world.clients[0]
    assert client is not None
    asked = [a_set(b"%d" % number, id=client.number()) for number in range(5)]
    assert node.intake.offer(client.outbox, unsealed(together(asked)), world.now(0))
    world.settle()
    answers = [Call(client, each.id, Level.QUORUM) for each in asked]
    assert [fate(call) for call in answers] == ["done"] * 3 + ["bucket"] * 2
    assert sum(node.intake.room.under_way) == 0


# --- what is seen of it ---------------------------------------------------------------------------


def test_status_names_the_limits_of_a_node_and_what_was_over_each_lately_and_ever() -> None:
    options = {
        "default": BucketOptions(requests_per_s=4, key_requests_per_s=2),
        "once": BucketOptions(key_requests_per_s=1000),
    }
    world = World(3, bucket_options=options)
    world.ask_together(0, [a_get(b"hot")] * 5)
    world.ask_together(0, [a_get(b"%d" % number) for number in range(5)])
    world.settle()
    told = world.state(0)
    assert told.limits == [Limit("default", 4, 2, 3, 3, 3, 3), Limit("once", None, 1000, 0, 0, 0, 0)]
    assert told.as_json()["limits"][0] == {
        "bucket": "default", "requests_per_s": 4, "key_requests_per_s": 2,
        "clipped_by_bucket": 3, "clipped_by_key": 3,
        "clipped_by_bucket_lately": 3, "clipped_by_key_lately": 3,
    }  # fmt: skip
    assert str(row(told)[-1]).endswith(
        "limits of this node: bucket default 4/s and 2/s of a key, bucket once 1,000/s of a key; refused or "
        "deferred by a limit in the last minute: 6 (bucket default: 3, keys of default: 3)"
    )
    assert told.pressure is not None
    assert not any(told.pressure.shed.values())
    assert world.state(1).limits[0] == Limit("default", 4, 2, 0, 0, 0, 0)
    world.run(NOTES + 2)
    later = world.state(0)
    assert later.limits[0] == Limit("default", 4, 2, 3, 3, 0, 0)
    assert "refused" not in str(row(later)[-1])


def test_a_node_without_limits_says_nothing_of_any() -> None:
    told = World(3).state(0)
    assert told.as_json()["limits"] == []
    assert "limit" not in str(row(told)[-1])


def test_top_tells_what_a_limit_was_in_the_way_of_from_other_failures() -> None:
    world = limited(5, 2)
    samples = []
    for _ in range(2):
        call = world.ask(0, Counters)
        world.settle()
        samples.append(Sample.of(call.state()))
        world.ask_together(0, [a_get(b"hot")] * 4 + [a_get(b"%d" % number) for number in range(4)])
        world.run(1)
    view = View.between(*samples)
    told = view.as_json()
    assert (told["clipped_by_bucket_per_s"], told["clipped_by_key_per_s"]) == (1.0, 2.0)
    assert told["failed_per_s"] == 3.0
    assert told["shed_per_s"]["read"] == 0.0
    for shown, expected in ((view, True), (View.between(samples[0], samples[0]), False)):
        console = Console(width=80)
        with console.capture() as capture:
            console.print(board([shown], "", 80))
        line = "over a limit at n1: requests/s, refused or deferred: of buckets 1.0, of keys 2.0"
        assert (line in capture.get()) is expected
        assert ("over a limit" in capture.get()) is expected


# --- what may be deferred ------------------------------------------------------------------------


def test_a_write_that_may_be_deferred_is_kept_rather_than_refused() -> None:
    world = limited(2)
    asked = [a_set(b"%d" % number, Level.ANY.value, defer=number != 3) for number in range(5)]
    calls = world.ask_together(0, asked, Level.ANY)
    world.settle()
    assert fate(calls[3]) == "bucket"
    outcomes = [call.receipt().outcome for call in calls if call is not calls[3]]
    assert outcomes == [Outcome.STORED] * 2 + [Outcome.DEFERRED] * 2
    world.run(2)
    assert [world.values(str(number)) for number in (2, 4)] == [[b"v"] * 3] * 2


@pytest.mark.parametrize(
    ("limits", "because"),
    [
        ((1, 0), "takes 1 request a second for bucket 'default' (requests_per_s)"),
        ((0, 1), "takes 1 request a second for each key of bucket 'default' (key_requests_per_s)"),
    ],
)
def test_a_receipt_of_what_was_deferred_says_which_limit_it_was(
    limits: tuple[int, int], because: str
) -> None:
    world = limited(*limits, defer=True)
    calls = [world.set(0, "k", "v", Level.ANY) for _ in range(2)]
    world.settle()
    stored, deferred = (call.receipt() for call in calls)
    assert (stored.because, deferred.because) == ("", because)
    assert deferred.as_json()["because"] == because
    assert receipt_line(deferred, "").startswith(f"deferred  the node {because}, and keeps it to deliver")
    shed = defer(world, 0, "other")
    world.settle()
    assert receipt_line(shed.receipt(), "").startswith("deferred  the node is overloaded, and keeps it")


def test_a_bucket_may_say_so_for_clients_that_know_what_that_means() -> None:
    for version, expected in ((9, "done"), (8, "bucket")):
        world = limited(1, defer=True)
        assert world.clients[0] is not None
        world.clients[0].outbox.version = version
        calls = [world.set(0, "k", "v", Level.ANY) for _ in range(2)]
        world.settle()
        assert [fate(call) for call in calls] == ["done", expected]


def test_what_was_asked_later_has_the_greater_stamp_though_it_is_deferred() -> None:
    world = limited(2, defer=True)
    values = [b"first", b"second", b"third", b"fourth"]
    calls = world.ask_together(0, [a_set(b"k", Level.ANY.value, value) for value in values], Level.ANY)
    world.settle()
    receipts = [call.receipt() for call in calls]
    assert [receipt.outcome is Outcome.DEFERRED for receipt in receipts] == [False, False, True, True]
    versions = [receipt.version for receipt in receipts]
    assert versions == sorted(versions)  # type: ignore[type-var]
    world.run(2)
    assert world.values("k") == [b"fourth"] * 3


# --- hot keys ------------------------------------------------------------------------------------


def test_the_keys_that_are_asked_for_most_are_named_whether_they_are_limited_or_not() -> None:
    key = b"\x1b[31m\xff\n\\ " + b"x" * 300
    for world in (World(3), limited(1)):
        world.run(1.5)
        client = world.clients[0]
        assert client is not None
        for _ in range(20 * SAMPLED):
            many = GetMany(list(range(1, 9)), "default", [key] * 8, QUORUM, 1000)
            asked = many._replace(ids=[client.number() for _ in range(8)])
            world.node(0).receive_client(client.outbox, [asked], world.now(0))
            world.ask(0, numbered(a_get(b"nobody's", bucket="unheard of")))
            world.settle()
        world.run(0.1)
        (hot,) = world.state(0).hot_keys
        assert (hot.bucket, hot.key, hot.key_bytes) == ("default", key[:256], len(key))
        assert 0.4 * 8 * 20 * SAMPLED < hot.requests_per_s < 1.1 * 8 * 20 * SAMPLED
        world.run(10)
        assert world.state(0).hot_keys == []


def test_requests_of_operators_are_no_keys() -> None:
    world = World(3)
    for _ in range(10 * SAMPLED):
        world.ask(0, Status)
        world.ask(0, numbered(Scan(0, "default", b"", b"", 10, QUORUM, 1000)))
        world.settle()
    assert world.state(0).hot_keys == []


# --- columns -------------------------------------------------------------------------------------


def test_of_many_requests_some_are_chosen() -> None:
    sets = [a_set(b"%d" % n, id=n, identity=b"proposal"[:7] + b"%d" % n) for n in range(1, 6)]
    deletes = [a_delete(b"%d" % n)._replace(id=n) for n in range(1, 6)]
    gets = [a_get(b"%d" % n, id=n) for n in range(1, 6)]
    for requests in (sets, deletes, gets):
        (many,) = together(requests)
        assert singly([chosen(many, [0, 3])]) == singly([many])[0:4:3]
