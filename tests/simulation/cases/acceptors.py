"""Cases of acceptors: whose store is one, what it takes to be taken in, and what proves that nothing accepted
is missing."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

from basestore.anti_entropy import roots
from basestore.anti_entropy.certificates import Certificates
from basestore.cluster.finishing import Finishing
from basestore.cluster.outbox import Outbox
from basestore.cluster.seating import Seating
from basestore.membership import metadata_group
from basestore.moves.acceptor_changes import AcceptorChanges
from basestore.protocol.membership import Finished, FinishedRow
from basestore.repair import moving
from basestore.repair.certificate import Certificate
from basestore.repair.moving import Report
from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import SetMember, SetSeats, TakeIn
from tests.simulation.cases import registry
from tests.worlds.moving import number, topology
from tests.worlds.topologies import Log, cluster, entry, founded
from tests.worlds.world import World

shows = partial(registry.shows, family="acceptors")
A, B = b"a" * 16, b"b" * 16
S = Seats.still((1, 2, 3))
NOBODY = frozenset[int]()
MADE = Certificate(mine=0, theirs=0, my_closed=1, their_closed=1, tag=1, made_ms=1)


def barred() -> Log:
    """One of three members, all of which hold all, has come to another store."""
    log = Log(founded(cluster(3, replication=3)))
    for store in (A, B):
        assert not log.add(SetMember(1, store=store)).error
    return log


# --- what entries say ----------------------------------------------------------------------------


@shows("another store changes nothing")
def who_has_come_to_another_store_is_barred() -> None:
    assert barred().topology.barred == {at: {1} for at in range(4)}


@shows("the seats of who is barred keep the epoch that they had")
def what_was_proven_before_one_was_barred_is_of_an_earlier_epoch() -> None:
    of = barred().topology
    assert {seats.since for seats in of.seats} == {of.epoch}


@shows("the seats of who is taken in keep the epoch that they had")
def what_was_proven_before_one_was_taken_in_is_of_an_earlier_epoch() -> None:
    log = barred()
    assert not log.add(TakeIn([[2, 1]])).error
    assert log.topology.seats[2].since == log.topology.epoch


@shows("who gives up its seat stays barred")
def who_comes_back_on_the_store_that_it_is_bound_to_is_not_barred() -> None:
    log = barred()
    old = log.topology.seats[0].old
    fill = Seats(0, Stage.FILL, old, (2, 3))
    for seats in (fill, fill._replace(stage=Stage.JOINT), Seats.still((2, 3))):
        assert not log.add(SetSeats([seats.row(0)])).error
    assert 0 not in log.topology.barred


@shows("who is not barred is taken in")
def nobody_is_taken_in_who_is_an_acceptor() -> None:
    log = barred()
    assert log.add(TakeIn([[0, 2]])).error
    assert log.topology.seats[0].since < log.topology.epoch


@shows("an entry that bars is passed by before it is in use")
def what_is_said_under_an_entry_that_bars_waits_until_it_is_in_use() -> None:
    changes = getattr(metadata_group, "changes_what_is_held")  # noqa: B009  as it goes by it
    assert changes(entry(SetMember(1, store=A)))
    assert changes(entry(TakeIn([[0, 1]])))
    assert not changes(entry(SetMember(1, zone="z")))


# --- who counts ----------------------------------------------------------------------------------


def seating() -> Seating:
    of = Seating(0, {7: Seats.still((0, 1, 2), 4), 8: Seats.still((0, 1, 2), 2)})
    of.dropped_since = 0
    of.bind({0: A, 1: A}, {8: {0}}, {})
    return of


@shows("who is barred votes")
def who_is_barred_does_not_vote() -> None:
    assert seating().votes(7, A)
    assert not seating().votes(8, A)


@shows("any store votes")
def a_store_that_is_not_the_bound_one_does_not_vote() -> None:
    assert not seating().votes(7, B)


@shows("what who is barred has is enough")
def who_is_barred_has_to_meet_two_of_three_that_are_not() -> None:
    assert not moving.complete(1, Report(True, {2}), S, NOBODY, frozenset({1}))
    assert moving.complete(1, Report(True, {2, 3}), S, NOBODY, frozenset({1}))


@shows("taken in before it is complete")
def who_is_not_complete_is_not_taken_in() -> None:
    world = World(3, logged=True)
    node, me = world.node(0), number(world, 0)
    of = topology(world).barring(me, topology(world).epoch)
    others = {number(world, 1), number(world, 2)}
    acceptors = AcceptorChanges(node.peers, node.certificates.store, node.feature_level, {})
    assert acceptors.next(of, lambda at, seats: {me: Report(True, set())}) is None
    assert acceptors.next(of, lambda at, seats: {me: Report(at == 2, others)}) == TakeIn([[2, me]])


# --- who has finished ----------------------------------------------------------------------------


class Said:
    """A node with two links, of a cluster in which a partition changes; what it says, before and once that is
    durable."""

    def __init__(self) -> None:
        self.world = World(3, logged=True)
        self.node = self.world.node(0)
        self.durable: list[Callable[[], object]] = []
        self.seating = seating()
        self.finishing = Finishing(self.seating, self.node.peers, self.durable.append, lambda member: A)
        self.finishing.level = lambda: 12
        self.finishing.unfinished = lambda partition, since: False
        self.world.settle()

    def hear(self, since: int) -> None:
        row = FinishedRow(7, since, b"")
        self.finishing.hear(1, Outbox(set()), Finished([row]), self.world.now(0))
        for action in self.durable:
            action()
        self.durable.clear()

    def said(self, *, durable: bool = True) -> int:
        """How often it has told n2 since this was asked last."""
        self.world.monotonic += 1.0
        self.finishing.tick(self.world.now(0))
        for action in self.durable if durable else ():
            action()
        self.durable.clear()
        return len([each for each in self.node.peers.all[1].outbox.take() if isinstance(each, Finished)])


@shows("sources need not have finished")
def who_has_not_said_that_it_has_finished_was_not_met() -> None:
    world = World(3, logged=True)
    certificates, group_commit = world.node(0).certificates, world.node(0).group_commit
    certificates.certify(0, 1, MADE)
    certificates.remember(0, 1, world.monotonic + 1, peer_whole=True)
    group_commit.commit()
    group_commit.durable(group_commit.sequence)
    assert certificates.met(0) == set()
    certificates.finishing.hear(1, Outbox(set()), Finished([FinishedRow(0, 0, b"")]), world.now(0))
    world.settle()
    assert certificates.met(0) == {1}


def has_met() -> tuple[World, Certificates]:
    """A node that has met another, durably."""
    world = World(3, logged=True)
    certificates, group_commit = world.node(0).certificates, world.node(0).group_commit
    certificates.finishing.level = lambda: 11  # nobody says that it has finished
    certificates.certify(0, 1, MADE)
    certificates.remember(0, 1, world.monotonic, peer_whole=True)
    group_commit.commit()
    group_commit.durable(group_commit.sequence)
    assert certificates.met(0) == {1}
    return world, certificates


@shows("what is durable is forgotten for what is not yet")
def who_was_met_stays_so_until_a_newer_proof_is_durable() -> None:
    world, certificates = has_met()
    certificates.certify(0, 1, MADE)
    certificates.remember(0, 1, world.monotonic, peer_whole=True)
    assert certificates.met(0) == {1}


@shows("what a store had proven another proves")
def who_comes_to_another_store_was_not_met() -> None:
    world, certificates = has_met()
    former = certificates.store(1)
    world.wipe(1)
    world.start(1, link=False)
    node, other = world.node(0), world.node(1)
    node.introductions.hear_claim(1, Outbox(set()), other.identity.claim(), world.now(0))
    assert certificates.store(1) != former
    certificates.certify(0, 1, MADE)
    certificates.remember(0, 1, world.monotonic, peer_whole=True)
    assert certificates.met(0) == set()


@shows("an exchange may have been begun before the other side had finished")
def an_exchange_that_was_begun_before_that_word_proves_nothing() -> None:
    scene = Said()
    scene.hear(4)
    assert not scene.finishing.proves(7, 1, A, scene.world.monotonic)
    assert scene.finishing.proves(7, 1, A, scene.world.monotonic + 0.1)


@shows("roots prove as of when they are answered")
def what_a_member_has_said_since_was_not_so_yet_when_it_named_its_roots() -> None:
    world = World(2, partitions=4, drift_ms_max=200, hint_bytes_max=0)
    node = world.node(1)
    for partition in range(4):
        world.put(0, str(partition), "v")
        world.node(0).scheduler.wish(1, partition)
    world.run(1)
    disk, named_s = node.group_commit, world.monotonic
    world.node(0).exchanges.roots.ask(1, list(range(4)), 4)
    with patch.object(roots, "REST_S", 0.0), patch.object(disk, "note_stuck"):
        disk.stuck_s = 5.0  # it cannot answer yet
        disk.weigh()
        world.run(0.5)
        disk.stuck_s = 0.0
        disk.weigh()
        world.run(0.3)
    last = [node.certificates.last_exchange(partition, 0) for partition in range(4)]
    assert [each is not None and named_s <= each.begun_s < named_s + 0.3 for each in last] == [True] * 4


@shows("to have finished under an earlier epoch is enough")
def who_had_finished_under_an_earlier_epoch_may_have_accepted_more_since() -> None:
    scene = Said()
    scene.hear(3)
    assert not scene.finishing.proves(7, 1, A, scene.world.monotonic + 1)


@shows("a store that its member is not bound to is a source")
def a_store_that_may_have_forgotten_what_it_had_accepted_is_no_source() -> None:
    scene = Said()
    scene.hear(4)
    assert not scene.finishing.proves(7, 1, B, scene.world.monotonic + 1)


@shows("a node that has not finished counts for itself")
def who_has_not_finished_does_not_count_for_itself() -> None:
    scene = Said()
    scene.finishing.unfinished = lambda partition, since: True
    assert not scene.finishing.own(7, A)


@shows("finished before that is durable")
def nobody_hears_of_it_before_it_is_durable() -> None:
    assert Said().said(durable=False) == 0
    assert Said().said() == 1


@shows("finished before it is so")
def nobody_hears_of_it_before_it_is_so() -> None:
    scene = Said()
    scene.finishing.unfinished = lambda partition, since: True
    assert scene.said() == 0


@shows("on a new link nothing is said again")
def on_a_new_link_it_is_said_again() -> None:
    scene = Said()
    assert scene.said() == 1
    assert scene.said() == 0
    scene.node.peers.link(1, scene.world.now(0))
    assert scene.said() == 1
