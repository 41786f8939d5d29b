"""Anti-entropy while the replicas of partitions change: what is proven under an epoch, and what is not.

Covers `anti_entropy/certificates.py` and `recovery.py` where seats change, and the seals of `exchange.py` and
`roots.py`. The steps in which nodes begin to use other seats are made by hand (`tests/worlds/seats.py`).
"""

from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest

from basestore.anti_entropy import certificates as proofs
from basestore.anti_entropy import roots
from basestore.anti_entropy.certificates import Certificates
from basestore.consistency import Level
from basestore.membership.adoption import Adoption
from basestore.protocol.anti_entropy import (
    Abort,
    Certify,
    KnownLosses,
    Listing,
    Roots,
    Same,
    SameRoots,
    Sums,
    Syn,
)
from basestore.protocol.codec import Message, encode
from basestore.protocol.replication import COPY, Apply, Rejected
from basestore.repair.certificate import stores_tag
from basestore.repair.write_repair import split_stores
from basestore.storage import keyspace
from tests.worlds.exchanges import WORDS, check_summaries, kinds
from tests.worlds.seats import adopt, fill, found, joint, still
from tests.worlds.world import World

LAG_S = 6.0  # closed stamps have passed by then what was written before


@pytest.fixture(autouse=True)
def _by_hand() -> Iterator[None]:
    """What the cluster decides of itself comes into use on no node."""
    with patch.object(Adoption, "adopt"), patch.object(Adoption, "foresee"):
        yield


def seated(count: int = 3, replication: int | None = None, partitions: int = 1) -> World:
    """A cluster that has just got its topology; each partition holds something."""
    world = World(count, replication=replication, partitions=partitions, drift_ms_max=200, hint_bytes_max=0)
    found(world)
    for number in range(10 * partitions):
        world.put(number % count, f"key {number}", "value", Level.ALL)
    return world


def talk(world: World, opener: int, other: int, partition: int = 0) -> list[type]:
    """One exchange; what was said in it."""
    world.log.clear()
    world.node(opener).scheduler.wish(other, partition)
    world.run(0.3)
    said = [sent for sent in world.log if {sent.source, sent.target} == {opener, other}]
    return kinds([sent.message for sent in said if isinstance(sent.message, WORDS)])


def talk_all(world: World, *members: int) -> None:
    for at, one in enumerate(members):
        for other in members[at + 1 :]:
            talk(world, one, other)


def stable(world: World, index: int, partition: int = 0) -> int:
    return world.node(index).summaries.of[partition].stable


def most(world: World, *members: int) -> int:
    """The greatest stable stamp of these: each adopts it from another, whatever is proven."""
    return max(stable(world, index) for index in members)


def tag(world: World, index: int, partition: int = 0) -> int:
    return world.node(index).certificates.tag(partition)


def made(world: World, index: int, other: int) -> int:
    """When the newest certificate was made; 0 while there is none."""
    held = world.node(index).certificates.certificate(0, other)
    return 0 if held is None else held.made_ms


def settle_all(world: World, *members: int) -> None:
    """Certificates of all pairs, and all have heard of all."""
    world.run(LAG_S)
    talk_all(world, *members)
    talk_all(world, *members)


# --- tags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_tag_is_of_the_epoch_and_the_same_on_all_sides(count: int) -> None:
    world = World(count, replication=count, partitions=2, drift_ms_max=200)
    today = [tag(world, 0, partition) for partition in (0, 1)]
    assert [bool(each) for each in today] == [count > 3] * 2
    found(world)
    before = [tag(world, 0, partition) for partition in (0, 1)]
    assert all(before)
    members = world.placement.replicas
    adopt(world, {0: still(7, *members[0])})
    after = [tag(world, 0, partition) for partition in (0, 1)]
    assert after[0] != before[0]
    assert after[1] == before[1]
    for index in range(count):
        assert [tag(world, index, partition) for partition in (0, 1)] == after


def test_a_tag_under_a_topology_is_never_the_one_that_says_nothing() -> None:
    with patch("basestore.repair.certificate.TAG_BYTES", 1):
        tags = {stores_tag([b"store"], since) for since in range(3000)}
        without = {stores_tag([bytes((number,))]) for number in range(256)}
    assert 0 not in tags
    assert len(tags) == 255
    assert without >= {0} or len(without) < 256


def test_a_tag_is_of_the_stores_of_those_that_come_too() -> None:
    world = seated(4, 3)
    old = world.placement.replicas[0]
    (comes,) = set(range(4)) - set(old)
    adopt(world, {0: fill(4, old, (*old[:2], comes))})
    during = tag(world, old[0])
    assert {tag(world, index) for index in range(4)} == {during}
    adopt(world, {0: still(4, *old)}, *old)  # as if it were of the epoch alone
    assert tag(world, old[0]) != during


# --- claims and stable stamps --------------------------------------------------------------------


def test_no_epoch_makes_what_was_claimed_under_another_count() -> None:
    world = seated()
    settle_all(world, 0, 1, 2)
    before = most(world, 0, 1, 2)
    adopt(world, {0: still(5, *world.placement.replicas[0])})
    assert world.node(0).certificates.held_back_by(0) == {0: 0, 1: 0, 2: 0}
    for other in (1, 2, 1, 2, 1):  # never 1 with 2
        assert talk(world, 0, other) == [Syn, Same]
    assert most(world, 0, 1, 2) == before


def test_that_a_claim_of_the_same_epoch_counts_is_no_accident() -> None:
    world = seated()
    settle_all(world, 0, 1, 2)
    before = most(world, 0, 1, 2)
    for other in (1, 2, 1, 2, 1):
        assert talk(world, 0, other) == [Syn, Same]
    assert most(world, 0, 1, 2) > before


@pytest.mark.parametrize("count", [2, 3])
def test_one_comparison_of_each_pair_is_enough_under_a_new_epoch(count: int) -> None:
    world = seated(count)
    settle_all(world, *range(count))
    before = most(world, *range(count))
    adopt(world, {0: still(5, *world.placement.replicas[0])})
    for at in range(count):
        for other in range(at + 1, count):
            assert talk(world, at, other) == [Syn, Same]
    if count > 2:
        assert most(world, 0, 1, 2) == before
        talk(world, 0, 1)  # what each has claimed is told
        talk(world, 0, 2)
    assert most(world, *range(count)) > before


def test_of_two_replicas_the_others_stamp_of_an_earlier_epoch_counts_for_nothing() -> None:
    world = seated(2)
    settle_all(world, 0, 1)
    adopt(world, {0: still(5, *world.placement.replicas[0])})
    assert world.node(0).certificates.held_back_by(0) == {0: 0, 1: 0}
    assert talk(world, 0, 1) == [Syn, Same]
    assert all(world.node(0).certificates.held_back_by(0).values())


def test_a_certificate_of_an_earlier_epoch_is_a_base_to_compare_from() -> None:
    world = seated(2)
    talk(world, 0, 1)
    adopt(world, {0: still(5, *world.placement.replicas[0])})
    world.part(0, 1)
    world.set(0, "missed", "value", Level.ONE)
    world.run(1.2)
    world.join(0, 1)
    world.run(0.6)
    assert Listing in talk(world, 0, 1)
    assert world.node(0).metrics.counts["exchanges_full"] <= 1  # the first
    assert world.node(0).metrics.counts["exchanges_delta"] == 1
    assert world.values("missed") == [b"value", b"value"]


# --- two who stand at different epochs -----------------------------------------------------------


@pytest.mark.parametrize("differing", ["since", "dropped_since", "no topology"])
@pytest.mark.parametrize("opener", [0, 1])
def test_two_who_stand_at_different_epochs_prove_nothing(differing: str, opener: int) -> None:
    world = seated(2)
    if differing == "no topology":
        world.restart(1)
        world.run(3)
        talk(world, 0, 1)
    else:
        talk(world, 0, 1)
    members = world.placement.replicas[0]
    later = {0: still(5 if differing == "since" else 0, *members)}
    at = 5 if differing == "dropped_since" else 0
    before = [made(world, 0, 1), made(world, 1, 0)]
    if differing != "no topology":
        adopt(world, later, 0, dropped_since=at)
    world.run(1)
    assert talk(world, opener, 1 - opener) == [Syn, Abort]
    assert [made(world, 0, 1), made(world, 1, 0)] == before
    adopt(world, later, 1, dropped_since=at)
    assert talk(world, opener, 1 - opener) == [Syn, Same]
    assert made(world, 0, 1) > before[0]


def name_all(world: World, partitions: int) -> list[Message]:
    world.log.clear()
    world.node(0).exchanges.roots.ask(1, list(range(partitions)), 0)
    with patch.object(roots, "REST_S", 0.0):
        world.run(0.3)
    return [sent.message for sent in world.log if isinstance(sent.message, WORDS)]


@pytest.mark.parametrize("behind", [0, 1])
def test_of_roots_under_another_epoch_nothing_is_the_same(behind: int) -> None:
    world = seated(2, partitions=3)
    for partition in range(3):
        talk(world, 0, 1, partition)
    world.run(LAG_S)
    (_, told) = name_all(world, 3)
    assert isinstance(told, SameRoots)
    assert told.places == [0, 1, 2]
    later = {1: still(5, *world.placement.replicas[1])}
    adopt(world, later, 1 - behind)
    (_, told) = name_all(world, 3)
    assert isinstance(told, SameRoots)
    assert told.places == []
    adopt(world, later, behind)
    (_, told) = name_all(world, 3)
    assert isinstance(told, SameRoots)
    assert told.places == [0, 1, 2]
    for partition in range(3):
        held = world.node(0).certificates.certificate(partition, 1)
        assert held is not None
        assert held.tag == tag(world, 1, partition)


@pytest.mark.parametrize("adopts", [0, 1])
def test_what_was_named_before_a_change_is_not_concluded_after_it(adopts: int) -> None:
    world = seated(2, partitions=3)
    for partition in range(3):
        talk(world, 0, 1, partition)
    world.run(LAG_S)
    before = made(world, 0, 1)
    world.hold(1, 0)
    assert kinds(name_all(world, 3)) == [Roots, SameRoots]
    adopt(world, {0: still(5, *world.placement.replicas[0])}, *(range(2) if adopts else [0]))
    assert not world.node(0).exchanges.roots.named
    world.release(1, 0)
    world.run(0.3)
    assert made(world, 0, 1) == before


@pytest.mark.parametrize("turns", range(1, 9))
@pytest.mark.parametrize("who", [(0,), (1,), (0, 1)])
def test_an_exchange_that_is_open_ends_where_seats_change(who: tuple[int, ...], turns: int) -> None:
    world = seated(2)
    talk(world, 0, 1)
    world.part(0, 1)
    for number in range(3):
        world.set(0, f"missed {number}", "value", Level.ONE)
    world.run(1.2)
    world.join(0, 1)
    world.run(0.6)
    world.node(0).scheduler.wish(1, 0)
    world.monotonic += 0.05
    world.node(0).tick(world.now(0))
    for _ in range(turns):
        world.turn()
    adopt(world, {0: still(5, *world.placement.replicas[0])}, *who)
    assert not any(world.node(index).exchanges.count for index in who)
    present = {index: tag(world, index) for index in (0, 1)}
    world.run(0.3)
    for index in who:
        held = world.node(index).certificates.certificate(0, 1 - index)
        assert held is None or held.tag != present[index]
    adopt(world, {0: still(5, *world.placement.replicas[0])})
    talk(world, 0, 1)
    assert world.values("missed 0") == [b"value", b"value"]
    for index in (0, 1):
        held = world.node(index).certificates.certificate(0, 1 - index)
        assert held is not None
        assert held.tag == tag(world, index)


def test_who_holds_a_partition_no_more_says_so_and_breaks_no_link() -> None:
    world = seated(3)
    talk(world, 0, 1)
    adopt(world, {0: still(5, 1, 2)}, 1)
    assert talk(world, 0, 1) == [Syn, Abort]
    adopt(world, {0: still(5, 1, 2)}, 0)
    with pytest.raises(KeyError):
        world.node(0).certificates.certificate(0, 1)
    assert world.node(0).linked


# --- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_idle_comparison_says_no_more_under_a_topology(count: int) -> None:
    def said(*, topology: bool) -> list[int]:
        world = World(count, replication=count, partitions=8, drift_ms_max=200, hint_bytes_max=0)
        for number in range(80):
            world.put(number % count, f"key {number}", "value", Level.ALL)
        if topology:
            found(world)
        for partition in range(8):
            for one in range(count):
                for other in range(one + 1, count):
                    talk(world, one, other, partition)
        world.run(LAG_S)
        asked, told = name_all(world, 8)
        assert isinstance(told, SameRoots)
        assert len(told.places) == 8
        return [len(encode([message])) for message in (asked, told)]

    before, after = said(topology=False), said(topology=True)
    assert all(b >= a for b, a in zip(before, after, strict=True))


# --- a replica that comes ------------------------------------------------------------------------


def moved(size: int) -> tuple[World, tuple[int, ...], int]:
    """A cluster of one member more than hold its partition, certified; who holds it, and who comes."""
    world = seated(size + 1, size)
    old = world.placement.replicas[0]
    (comes,) = set(range(size + 1)) - set(old)
    settle_all(world, *old)
    return world, old, comes


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_one_that_comes_holds_the_stable_stamp_still_until_all_have_proven_it(size: int) -> None:
    world, old, comes = moved(size)
    before = most(world, *old)
    world.isolate(comes)
    adopt(world, {0: fill(5, old, (*old[1:], comes))})
    world.run(LAG_S)
    talk_all(world, *old)
    talk_all(world, *old)
    assert most(world, *old) == before
    assert not world.node(comes).certificates.counts(0)
    world.rejoin(comes)
    world.run(LAG_S)
    assert world.node(comes).certificates.counts(0)
    settle_all(world, *old, comes)
    settle_all(world, *old, comes)
    assert all(stable(world, index) > before for index in (*old, comes))
    roots_of = {world.node(index).summaries.of[0].root for index in (*old, comes)}
    assert len(roots_of) == 1
    for index in (*old, comes):
        check_summaries(world, index)
    assert all(not node.metrics.counts["mismatches"] for node in world.running)


def test_one_that_comes_is_fit_once_it_has_met_as_many_as_any_quorum_has_one_of() -> None:
    world, old, comes = moved(3)
    for away in old[1:]:
        world.part(away, comes)
    adopt(world, {0: fill(5, old, (*old[1:], comes))})
    world.run(3)
    assert made(world, comes, old[0])
    assert not world.node(comes).certificates.counts(0)
    world.join(old[1], comes)
    world.run(3)
    assert world.node(comes).certificates.counts(0)
    world.restart(comes)
    assert not world.node(comes).summaries.unfit


def test_that_it_is_not_yet_fit_outlives_a_crash() -> None:
    world, old, comes = moved(3)
    world.isolate(comes)
    adopt(world, {0: fill(5, old, (*old[1:], comes))})
    world.run(0.3)
    stored = dict(world.engines[comes].scan(b"m", b"n"))
    assert b"munfit/\0\0" in stored
    world.rejoin(comes)
    world.run(3)
    assert b"munfit/\0\0" not in dict(world.engines[comes].scan(b"m", b"n"))


def test_one_that_comes_tells_nobody_that_it_is_whole() -> None:
    world, old, comes = moved(3)
    world.part(comes, old[1])
    world.part(comes, old[2])
    adopt(world, {0: fill(5, old, (*old[1:], comes))})
    world.run(2)
    last = world.node(old[0]).certificates.last_exchange(0, comes)
    assert last is not None
    assert not last.peer_whole


def test_what_comes_drops_what_was_purged_while_it_held_the_partition_no_more() -> None:
    world, old, comes = moved(2)
    adopt(world, {0: fill(5, old, (*old, comes))})
    world.run(2)
    settle_all(world, *old, comes)
    adopt(world, {0: still(6, *old, comes)})
    settle_all(world, *old, comes)
    record = world.stored(comes, "key 1")
    assert record is not None
    held = world.node(comes).summaries.of[0]
    adopt(world, {0: still(9, *old)})
    world.delete(old[0], "key 1", Level.ONE)
    world.settle()
    settle_all(world, *old)
    settle_all(world, *old)
    assert world.stored(old[0], "key 1") is None  # purged
    assert world.stored(comes, "key 1") is not None  # nobody has told it
    assert held.stable > 0
    world.isolate(comes)
    adopt(world, {0: fill(12, old, (*old, comes))})
    assert stable(world, comes) == 0
    assert world.node(comes).summaries.of[0].closed > 0
    world.rejoin(comes)
    world.run(3)
    settle_all(world, *old, comes)
    assert [world.stored(index, "key 1") for index in range(3)] == [None] * 3
    check_summaries(world, comes)


# --- who has no seat any more --------------------------------------------------------------------


def test_what_is_given_up_is_neither_compared_nor_taken() -> None:
    world = seated(3)
    settle_all(world, 0, 1, 2)
    node = world.node(0)
    node.scheduler.wish(1, 0)
    adopt(world, {0: still(5, 1, 2)})
    world.log.clear()
    node.exchanges.roots.ask(1, [], 0)
    world.run(3)
    assert not world.sent(Syn, 0)
    assert 0 not in node.summaries.of
    assert 0 not in node.certificates.others
    assert not list(world.engines[0].scan(*keyspace.certificates()))
    record = world.stored(1, "key 1")
    assert record is not None
    world.log.clear()
    node.replica.apply(world.links[0, 1], Apply(7, world.row("key 1"), record.blob, COPY, 0), 0)
    world.settle()
    (sent,) = world.sent(Rejected, 0)
    assert isinstance(sent.message, Rejected)
    assert sent.message.id == 7
    settle_all(world, 1, 2)
    assert stable(world, 1) > 0


def test_a_scrub_of_what_is_given_up_ends() -> None:
    world = seated(3)
    node = world.node(0)
    node.maintenance.examine(0)
    adopt(world, {0: still(5, 1, 2)})
    world.run(1)
    assert not node.maintenance.suspects
    assert node.metrics.counts["partitions_scrubbed"] == 0


# --- stores that have left -----------------------------------------------------------------------


@pytest.mark.parametrize("without", [False, True])
def test_a_store_that_left_once_others_had_all_of_it_still_speaks_for_copies(without: bool) -> None:
    world, old, comes = moved(3)
    new = (*old[1:], comes)
    gone = world.node(old[0]).identity.store
    stays = old[1]
    assert world.node(stays).certificates.in_use(0, gone)
    adopt(world, {0: joint(5, old, new)})
    adopt(world, {0: still(6, *new)}, dead=[old[0]] if without else [])
    assert world.node(stays).certificates.in_use(0, gone) is not without
    world.run(0.3)
    world.restart(stays)
    adopt(world, {0: still(6, *new)}, stays)
    assert world.node(stays).certificates.in_use(0, gone) is not without
    assert not world.node(stays).certificates.in_use(0, bytes(16))


def test_a_change_that_is_taken_back_leaves_nobody_behind_that_speaks_for_copies() -> None:
    world, old, comes = moved(3)
    store = world.node(comes).identity.store
    adopt(world, {0: joint(5, old, (*old[1:], comes))})
    assert world.node(old[1]).certificates.in_use(0, store)
    adopt(world, {0: still(6, *old)})
    assert not world.node(old[1]).certificates.in_use(0, store)


def test_one_that_has_left_with_proof_and_holds_it_again_may_leave_without_the_next_time() -> None:
    world, old, comes = moved(3)
    new, gone = (*old[1:], comes), world.node(old[0]).identity.store
    stays = world.node(old[1]).certificates
    adopt(world, {0: joint(5, old, new)})
    adopt(world, {0: still(6, *new)})
    assert stays.in_use(0, gone)
    adopt(world, {0: joint(7, new, old)})
    adopt(world, {0: still(8, *old)})
    assert stays.in_use(0, gone)
    adopt(world, {0: joint(9, old, new)})
    adopt(world, {0: still(10, *new)}, dead=[old[0]])
    assert not stays.in_use(0, gone)
    world.settle()
    stored = world.node(old[1]).group_commit.get(keyspace.departed(0)) or b""
    assert gone not in split_stores(stored)


def test_of_stores_that_have_left_only_the_last_are_remembered() -> None:
    world, old, comes = moved(1)
    node = world.node(comes)
    adopt(world, {0: still(5, comes)})
    with (
        patch.object(proofs, "DEPARTED_MAX", 1),
        patch.object(Certificates, "store", lambda _, member: bytes((member,)) * 16),
    ):
        node.certificates.seat(0, joint(6, (comes, 3), (comes, old[0])))
        node.certificates.seat(0, still(7, comes, old[0]))
        node.certificates.seat(0, joint(8, (comes, old[0]), (comes,)))
        node.certificates.seat(0, still(9, comes))
        assert not node.certificates.in_use(0, bytes((3,)) * 16)
        assert node.certificates.in_use(0, bytes((old[0],)) * 16)


# --- crashes, and long absences ------------------------------------------------------------------


def test_what_is_to_come_is_unfit_even_if_the_node_stops_before_it_takes_it_up() -> None:
    world, old, comes = moved(2)
    new = (*old, comes)
    world.node(comes).recovery.foresee({0: fill(5, old, new)}, world.now(comes))
    world.settle()
    world.placement.adopt({0: fill(5, old, new)})
    with patch("basestore.node.Placement.of", lambda *_: world.placement):
        world.restart(comes)
    node = world.node(comes)
    assert node.summaries.unfit == {0}
    assert node.summaries.of[0].complete == 0
    adopt(world, {0: fill(5, old, new)})
    world.run(4)
    assert node.certificates.counts(0)


@pytest.mark.parametrize("unsure", [False, True])
def test_who_cannot_tell_whether_it_kept_its_seat_proves_it_anew(unsure: bool) -> None:
    world = seated(3, partitions=2)
    for partition in (0, 1):
        talk(world, 0, 1, partition)
    members = world.placement.replicas
    later = {0: still(50, *members[0]), 1: still(0, *members[1])}
    world.run(LAG_S)
    for other in (1, 2, 1, 2):
        talk(world, 0, other)
        talk(world, 1, 2)
    node = world.node(0)
    assert node.summaries.of[0].complete > 0
    adopt(world, later, 0, unsure={0} if unsure else ())
    adopt(world, later, 1, 2)
    assert node.summaries.of[0].stable > 0  # it never falls
    assert (node.summaries.of[0].complete == 0) is unsure
    assert node.summaries.unfit == ({0} if unsure else set())
    assert (made(world, 0, 1) == 0) is unsure
    assert node.certificates.certificate(1, 1) is not None
    world.run(3)
    assert not node.summaries.unfit


# --- the log -------------------------------------------------------------------------------------


def test_lines_are_kept_for_one_that_comes_up_to_a_bound() -> None:
    world, old, comes = moved(2)
    node = world.node(old[0])
    log = node.summaries.summary_log
    log.checkpoint_at_bytes = 500
    world.isolate(comes)
    adopt(world, {0: fill(5, old, (*old, comes))})
    for number in range(60):
        world.put(old[0], f"more {number}", "value", Level.QUORUM)
    talk(world, *old)
    summary = node.summaries.of[0]
    assert summary.spilled - summary.floor > 40
    with patch.object(proofs, "BACKLOG_MAX", 20):
        world.put(old[0], "one more", "value", Level.QUORUM)
        world.run(0.5)
        assert summary.floor == summary.sequence - 20
        assert len(list(world.engines[old[0]].scan(*keyspace.whole(keyspace.LOG)))) <= 20
        check_summaries(world, old[0])
        world.rejoin(comes)
        world.run(4)
    assert world.node(comes).certificates.counts(0)
    check_summaries(world, comes)
    assert world.node(comes).summaries.of[0].root == summary.root


def test_lines_are_kept_for_one_that_is_only_away() -> None:
    world, old, _ = moved(2)
    node = world.node(old[0])
    node.summaries.summary_log.checkpoint_at_bytes = 500
    world.part(*old)
    with patch.object(proofs, "BACKLOG_MAX", 20):
        before = node.certificates.passed(0)
        for number in range(60):
            world.set(old[0], f"more {number}", "value", Level.ONE)
        world.run(2)
        assert node.certificates.passed(0) == before
    assert node.summaries.of[0].floor <= before


# --- losses --------------------------------------------------------------------------------------


def test_one_that_comes_hears_of_losses_before_anything_is_proven() -> None:
    world, old, comes = moved(3)
    world.node(old[0]).losses.note({0: 0}, world.now(old[0]))
    world.settle()
    world.run(0.3)
    assert not world.node(comes).losses.known(0)
    world.log.clear()
    adopt(world, {0: fill(5, old, (*old[1:], comes))})
    world.run(3)
    assert world.node(comes).losses.open(0)
    assert world.node(comes).summaries.of[0].lossy
    said = [sent for sent in world.log if sent.target == comes]
    told = next(at for at, sent in enumerate(said) if isinstance(sent.message, KnownLosses))
    proven = next(
        at for at, sent in enumerate(said) if isinstance(sent.message, Same | Certify | Sums | Listing)
    )
    assert told < proven


# --- what an unfit store says --------------------------------------------------------------------


def test_one_that_is_not_fit_tells_no_stamp_and_closes_nothing() -> None:
    world, old, comes = moved(3)
    world.part(comes, old[1])
    world.part(comes, old[2])
    adopt(world, {0: fill(5, old, (*old[1:], comes))})
    world.run(LAG_S)
    assert talk(world, comes, old[0])[0] is Syn
    node, source = world.node(comes), world.node(old[0])
    summary = node.summaries.of[0]
    held = source.certificates.certificate(0, comes)
    assert held is not None
    assert held.their_closed == 0
    assert summary.stable == stable(world, old[0])
    assert (summary.shown, summary.complete) == (0, summary.stable)
    assert summary.closed <= source.summaries.of[0].closed
    assert node.closed_stamps.close((0,), world.now(comes)) == [0]
    world.join(comes, old[1])
    world.run(LAG_S)
    assert node.certificates.counts(0)
    assert summary.shown == summary.stable > 0
    assert node.closed_stamps.close((0,), world.now(comes)) == [summary.closed]


def test_one_that_is_not_fit_inherits_what_others_have_closed() -> None:
    world, old, comes = moved(2)
    world.part(comes, old[1])
    world.run(LAG_S)
    adopt(world, {0: fill(5, old, (*old, comes))})
    world.run(1)
    summary, source = world.node(comes).summaries.of[0], world.node(old[0]).summaries.of[0]
    assert source.stable < summary.closed <= source.closed


def test_one_that_is_not_fit_is_not_named_and_names_nothing() -> None:
    world = seated(2, partitions=3)
    for partition in range(3):
        talk(world, 0, 1, partition)
    world.run(LAG_S)
    for unfit in (0, 1):
        world.node(unfit).summaries.unfit.add(1)
        world.node(unfit).summaries.fitting.add(1)  # or it would be found to be fit at once
        asked, told = name_all(world, 3)
        assert isinstance(asked, Roots)
        assert isinstance(told, SameRoots)
        assert asked.partitions == ([0, 2] if not unfit else [0, 1, 2])
        assert [asked.partitions[place] for place in told.places] == [0, 2]
        world.node(unfit).summaries.unfit.clear()


def test_a_peer_that_speaks_an_older_version_is_named_nothing_under_a_topology() -> None:
    world = seated(2, partitions=3)
    for partition in range(3):
        talk(world, 0, 1, partition)
    world.run(LAG_S)
    world.links[0, 1].version = 9
    assert not [each for each in name_all(world, 3) if isinstance(each, Roots)]


def test_roots_of_what_one_side_does_not_hold_break_no_link() -> None:
    world = seated(2, partitions=3)
    for partition in range(3):
        talk(world, 0, 1, partition)
    world.run(LAG_S)
    adopt(world, {1: still(5, 0)}, 1)
    _, told = name_all(world, 3)
    assert isinstance(told, SameRoots)
    assert told.places == []
    assert all(node.linked for node in world.running)


def test_stores_stand_in_the_order_of_their_members_numbers() -> None:
    world = seated(2)
    numbers = world.node(0).peers.number_of
    first = world.node(0).certificates.stores(1)
    with patch.object(world.node(0).peers, "number_of", numbers[::-1]):
        second = world.node(0).certificates.stores(1)
    assert first == second[16:] + second[:16] != second


def test_two_that_lack_a_partition_do_not_wait_for_each_other_nor_does_who_comes_for_good() -> None:
    """Two of three that hold it cannot tell whether they kept their seats: no two whole ones are left to be
    met by either, nor by one that comes. When all have met all there is nobody else to be met."""
    world, old, comes = moved(3)
    whole, *unsure = old
    adopt(world, {0: still(5, *old)}, *unsure, unsure={0})
    adopt(world, {0: still(5, *old)}, whole, comes)
    adopt(world, {0: fill(6, old, (*old[:2], comes))})
    assert [world.node(index).certificates.counts(0) for index in (*old, comes)] == [True, *[False] * 3]
    world.run(5)
    assert [world.node(index).certificates.counts(0) for index in (*old, comes)] == [True] * 4
    losses = world.node(whole).losses.all_open
    assert {(loss.sources, loss.needed) for loss in losses} == {(1, 2)}
    assert {loss.number for loss in losses} <= {world.member(index).number for index in unsure}


def test_what_comes_is_lost_up_to_the_birth_of_the_cluster() -> None:
    world, old, comes = moved(2)
    adopt(world, {0: fill(5, old, (*old, comes))})
    birth = world.node(comes).identity.birth
    assert world.node(comes).summaries.of[0].lost == birth > 0


def test_a_doubt_that_was_foreseen_holds_at_the_next_opening() -> None:
    world = seated(3)
    settle_all(world, 0, 1, 2)
    settle_all(world, 0, 1, 2)
    node = world.node(0)
    assert node.summaries.of[0].complete > 0
    node.recovery.foresee({0: still(50, *world.placement.replicas[0])}, world.now(0), unsure={0})
    world.settle()
    node = world.restart(0)
    assert node.summaries.unfit == {0}
    assert made(world, 0, 1) == 0
    assert node.summaries.of[0].complete == 0
    adopt(world, {0: still(50, *world.placement.replicas[0])})
    assert node.summaries.unfit == {0}
    world.run(4)
    assert not node.summaries.unfit
    assert made(world, 0, 1)


def test_one_that_has_heard_nothing_closes_nothing() -> None:
    world, old, comes = moved(2)
    world.isolate(comes)
    adopt(world, {0: fill(5, old, (*old, comes))})
    node = world.node(comes)
    assert node.closed_stamps.close((0,), world.now(comes)) == [0]
    assert node.summaries.of[0].closed == 0


def test_proofs_with_others_that_hold_too_little_make_nobody_whole() -> None:
    world = seated(2)
    settle_all(world, 0, 1)
    node = world.node(1)
    node.summaries.make_unfit(0)
    node.summaries.fitting.add(0)  # or it would be found to be fit at once
    talk(world, 0, 1)
    talk(world, 0, 1)
    summary = node.summaries.of[0]
    assert made(world, 1, 0)
    assert summary.kept == summary.complete
    summary.kept = 0
    assert summary.stable > 0
    assert node.maintenance.purgeable(0) == 0


def test_no_lines_go_that_an_open_exchange_is_to_list() -> None:
    world, old, comes = moved(2)
    node = world.node(old[0])
    node.summaries.summary_log.checkpoint_at_bytes = 500
    adopt(world, {0: fill(5, old, (*old, comes))})
    world.run(3)
    settle_all(world, *old, comes)
    for number in range(60):
        world.put(old[0], f"more {number}", "value", Level.QUORUM)
    talk(world, *old)
    world.hold(comes, old[0])
    node.scheduler.wish(comes, 0)
    world.run(0.3)
    assert node.exchanges.count == 1
    floor = node.summaries.of[0].floor
    with patch.object(proofs, "BACKLOG_MAX", 20):
        world.run(1)
        assert node.summaries.of[0].floor == floor
        world.release(comes, old[0])
        world.run(1)
        assert node.summaries.of[0].floor > floor
    assert not any(each.metrics.counts["mismatches"] for each in world.running)


def test_the_store_of_a_member_that_comes_is_asked_for() -> None:
    world = seated(2)
    node = world.node(0)
    assert node.certificates.store(1)
    peers = node.peers
    with patch.object(peers, "all", [*peers.all, replace(peers.all[1], index=2, name="n9")]):
        assert node.certificates.store(2) == b""


def test_nothing_that_was_proven_with_one_that_has_left_is_built_on_when_it_comes_back() -> None:
    world, old, comes = moved(2)
    adopt(world, {0: fill(5, old, (*old, comes))})
    world.run(3)
    assert made(world, old[0], comes)
    adopt(world, {0: still(6, *old)})
    adopt(world, {0: fill(7, old, (*old, comes))})
    assert not made(world, old[0], comes)
    world.run(3)
    assert made(world, old[0], comes)


def test_one_that_may_have_missed_a_move_and_one_that_has_forgotten_do_not_wait_for_each_other() -> None:
    world = seated(2)
    members = world.placement.replicas[0]
    world.wipe(0)
    world.start(0)
    adopt(world, {0: still(0, *members)}, 0)
    world.run(4)
    assert world.node(0).state == "up"  # it was forgetful in this opening, and is no more
    world.wipe(1)
    adopt(world, {0: still(50, *members)}, 0, unsure=(0,))
    world.start(1)
    adopt(world, {0: still(50, *members)}, 1)
    assert world.node(0).summaries.unfit == {0}
    world.run(6)
    assert not world.node(0).summaries.unfit
    assert world.node(1).state == "up"


def test_who_recovers_is_not_kept_from_the_others_by_one_that_cannot_help() -> None:
    world = seated(3)
    world.node(0).summaries.make_unfit(0)
    world.node(0).summaries.fitting.add(0)  # or it would be found to be fit at once
    world.wipe(2)
    world.start(2)
    found(world)
    world.run(6)
    assert made(world, 2, 1)
    assert world.node(2).state == "up"
