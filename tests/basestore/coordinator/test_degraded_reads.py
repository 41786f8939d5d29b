"""Degraded reads: where the level is not reached one replica answers, if that is surely fresh enough.

Covers `DegradableGet` in `coordinator/get.py`.
"""

from itertools import combinations

import pytest

from basestore.config import BucketOptions
from basestore.consistency import Level
from basestore.errors import InvalidRequest, ReadTimeout, RequestFailed, Unavailable
from basestore.protocol.client import AS_ASKED, Get
from basestore.protocol.replication import Read
from basestore.repair.version import Version
from basestore.results.receipts import ReadResult
from tests.worlds.following import converged
from tests.worlds.world import Call, World

LONG_MS = 3_600_000
SHORT_MS = 100


def ask(
    world: World, key: str = "k", *, at: int = 0, level: Level = Level.QUORUM, degrade_ms: int = LONG_MS,
    bucket: str = "default", floor: bytes = b"", tell: bool = False, stale_ms_max: int = 0,
) -> Call:  # fmt: skip
    return world.ask(
        at,
        lambda r: Get(
            r, bucket, key.encode(), level, 1000, floor, True, tell, stale_ms_max, degrade_ms
        ),
        level,
    )  # fmt: skip


def look(world: World, key: str = "k", **options: object) -> ReadResult:
    """What a read finds by the end of its time."""
    call = ask(world, key, **options)  # type: ignore[arg-type]
    world.settle()
    if not call.done:
        world.run(1.5)
    return call.read()


def settled(count: int = 3, **options: object) -> World:
    """A world in which a value is proven to be everywhere."""
    world = World(count, reconcile=True, **options)  # type: ignore[arg-type]
    world.put(0, "k", "v")
    assert converged(world).proven
    return world


def lose(world: World, *lost: int) -> None:
    """These are gone, and that is known."""
    for index in lost:
        world.crash(index)
    world.run(5)


# --- when it is, and when it is not -----------------------------------------------------------------


def test_when_a_quorum_is_gone_one_replica_answers_and_says_so() -> None:
    world = settled()
    lose(world, 1, 2)
    begun = world.monotonic
    result = look(world)
    assert world.monotonic == begun  # at once
    assert (result.value, result.degraded, result.level, result.required) == (b"v", True, Level.ONE, 1)
    assert result.because == "1 of 3 replicas is alive"
    assert result.stale_by_at_most is not None
    assert 5 < result.stale_by_at_most < 60
    assert world.node(0).metrics.counts["reads_degraded_quorum"] == 1


def test_a_quorum_that_falls_silent_has_six_tenths_of_the_time() -> None:
    world = settled()
    world.isolate(1)
    world.isolate(2)
    call = ask(world)
    world.settle()
    world.run(0.55)
    assert not call.done
    world.run(0.1)
    result = call.read()
    assert (result.value, result.degraded) == (b"v", True)
    assert result.because == "1 of 2 required replicas answered in time"


def test_a_quorum_that_answers_late_but_in_its_part_of_the_time_is_what_is_answered() -> None:
    world = settled()
    world.isolate(1)
    world.isolate(2)
    call = ask(world)
    world.run(0.5)
    world.rejoin(1)
    world.settle()
    assert (call.read().degraded, call.read().level) == (False, Level.QUORUM)


@pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
def test_while_all_are_alive_nothing_is_degraded(level: Level) -> None:
    world = settled()
    result = look(world, level=level)
    assert (result.degraded, result.level, result.because, result.stale_by_at_most) == (False, level, "", 0.0)
    assert world.node(0).metrics.counts[f"reads_degraded_{level.name.lower()}"] == 0


def test_a_read_at_all_is_degraded_where_a_quorum_would_not_be() -> None:
    world = settled()
    lose(world, 2)
    assert not look(world).degraded
    result = look(world, level=Level.ALL)
    assert (result.degraded, result.because) == (True, "2 of 3 replicas are alive")
    assert world.node(0).metrics.counts["reads_degraded_all"] == 1


def test_too_many_that_refuse_are_too_few_that_answer() -> None:
    world = settled()
    world.hold(1, 0)
    world.hold(2, 0)
    call = ask(world)
    world.settle()
    world.unlink(0, 1)
    world.unlink(0, 2)
    world.settle()
    result = call.read()
    assert (result.degraded, result.because) == (True, "too many replicas refused or were lost")


def test_a_key_that_is_not_there_is_told_to_be_missing_and_degraded() -> None:
    world = settled()
    lose(world, 1, 2)
    result = look(world, "other")
    assert (result.found, result.version, result.degraded) == (False, None, True)


def test_what_only_the_quorum_has_may_be_missed_and_the_bound_says_so() -> None:
    world = settled(hint_bytes_max=0)
    world.part(0, 1)
    world.part(0, 2)
    world.run(5)
    begun = world.monotonic
    assert world.put(1, "k", "newer").acknowledged == 2
    world.run(3)
    result = look(world)
    assert (result.value, result.degraded) == (b"v", True)
    assert result.stale_by_at_most is not None
    assert result.stale_by_at_most > world.monotonic - begun


SIZES = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)]


@pytest.mark.parametrize(("nodes", "replication"), SIZES)
def test_whoever_is_lost_a_read_is_degraded_exactly_when_it_must_be(nodes: int, replication: int) -> None:
    others = range(1, nodes)
    for lost in (each for count in range(nodes) for each in combinations(others, count)):
        world = settled(nodes, replication=replication)
        lose(world, *lost)
        alive = len(set(world.replicas("k")) - set(lost))
        for level in (Level.QUORUM, Level.ALL):
            reached = alive >= level.required(replication)
            if alive:
                assert look(world, level=level).value == b"v"
                assert look(world, level=level).degraded is not reached
            else:
                with pytest.raises(Unavailable, match="Nor can it be degraded to a read at one: unavailable"):
                    look(world, level=level)


# --- fresh enough -----------------------------------------------------------------------------------


def test_where_one_replica_may_be_too_stale_the_first_error_stands() -> None:
    world = settled()
    lose(world, 1, 2)
    with pytest.raises(
        Unavailable, match=r"2 replicas are required.*may be stale by [\d.]+ s, more than the 0.1 s"
    ):
        look(world, degrade_ms=SHORT_MS)
    bound = look(world).stale_by_at_most
    assert bound is not None
    assert look(world, degrade_ms=round(bound * 1e3)).degraded  # just as stale as it may be
    with pytest.raises(Unavailable):
        look(world, degrade_ms=round(bound * 1e3) - 1)


def test_a_timeout_stands_as_well_and_in_its_time() -> None:
    world = settled()
    world.isolate(1)
    world.isolate(2)
    call = ask(world, degrade_ms=SHORT_MS)
    world.settle()
    world.run(0.65)
    with pytest.raises(ReadTimeout, match=r"1 of 2 required replicas answered in time.*may be stale by"):
        call.read()


def test_what_nobody_can_bound_is_not_fresh_enough() -> None:
    world = World(3)  # nothing is proven
    world.put(0, "k", "v")
    lose(world, 1, 2)
    with pytest.raises(Unavailable, match="how stale it may be is not known, for there is no proof yet"):
        look(world)


def test_while_writes_may_be_lost_no_answer_is_fresh_enough() -> None:
    world = World(3, partitions=1, reconcile=True)
    world.put(0, "k", "v", Level.ALL)
    for index in (1, 2):
        world.wipe(index)
    for index in (1, 2):
        world.start(index)
    world.run(30)
    assert world.state(0).facts["lossy"] == "1"
    lose(world, 1, 2)
    with pytest.raises(Unavailable, match=r"A read at one will not do instead: writes .* may be lost"):
        look(world)


# --- sessions ---------------------------------------------------------------------------------------


def test_a_session_is_shown_what_it_has_seen_or_nothing() -> None:
    world = settled()
    kept = world.look(0, "k").version
    assert kept is not None
    lose(world, 1, 2)
    assert look(world, floor=kept.encode()).degraded
    newer = Version(kept.stamp + (60_000 << 16), kept.origin, kept.number + 1)
    with pytest.raises(
        RequestFailed, match=r"2 replicas are required.*Nor can it be degraded.*what this session has seen"
    ):
        look(world, floor=newer.encode())


# --- brownout ---------------------------------------------------------------------------------------


def test_a_node_in_brownout_asks_one_replica_first() -> None:
    world = settled()
    load = world.node(0).context.load
    load.brownout = 1
    assert not look(world).degraded
    load.brownout = 2
    assert not look(world, degrade_ms=0).degraded
    world.log.clear()
    result = look(world)
    assert (result.value, result.degraded, result.because) == (b"v", True, "this node is overloaded")
    assert not any(isinstance(sent.message, Read) for sent in world.log)  # nobody else was asked


def test_in_brownout_a_quorum_is_read_where_one_replica_will_not_do() -> None:
    world = settled()
    world.node(0).context.load.brownout = 2
    result = look(world, degrade_ms=SHORT_MS)
    assert (result.value, result.degraded, result.level) == (b"v", False, Level.QUORUM)
    lose(world, 1, 2)
    with pytest.raises(Unavailable, match=r"more than the 0\.1 s that are allowed"):
        look(world, degrade_ms=SHORT_MS)


def test_in_brownout_a_replica_that_says_nothing_leaves_time_for_the_others() -> None:
    world = settled(replication=2)
    at = world.outsider("k")
    for replica in world.replicas("k"):
        world.hold(at, replica)
    world.node(at).context.load.brownout = 2
    call = ask(world, at=at)
    world.run(0.5)
    for replica in world.replicas("k"):
        world.release(at, replica)
    world.settle()
    assert (call.read().degraded, call.read().level) == (False, Level.QUORUM)


# --- where the first write wins ---------------------------------------------------------------------


def test_a_first_write_that_is_final_may_be_told_by_one_replica() -> None:
    world = World(3, reconcile=True)
    world.put(0, "k", "ada", bucket="once")
    assert converged(world).proven
    lose(world, 1, 2)
    result = look(world, bucket="once")
    assert (result.value, result.final, result.degraded) == (b"ada", True, True)


def test_who_was_first_is_not_told_before_it_is_final_nor_that_nobody_was() -> None:
    world = World(3, reconcile=True)
    assert converged(world).proven
    world.put(0, "k", "ada", bucket="once")
    lose(world, 1, 2)
    for key in ("k", "other"):
        with pytest.raises(Unavailable, match="where the first write wins it must be final, and this is not"):
            look(world, key, bucket="once")


# --- what a bucket says -----------------------------------------------------------------------------


def test_a_bucket_may_say_it_for_all_reads_of_a_node_that_say_nothing() -> None:
    world = settled(bucket_options={"default": BucketOptions(degrade_s=60)})
    lose(world, 1, 2)
    assert look(world, degrade_ms=0).degraded
    assert not look(world, degrade_ms=0, level=Level.ONE).degraded  # nothing to descend to, and no error
    for degrade_ms in (AS_ASKED, SHORT_MS):  # who asks says more
        with pytest.raises(Unavailable):
            look(world, degrade_ms=degrade_ms)


@pytest.mark.parametrize("degrade_ms", [0, AS_ASKED])
def test_what_is_asked_together_is_degraded_as_the_bucket_says(degrade_ms: int) -> None:
    world = settled(bucket_options={"default": BucketOptions(degrade_s=60)})
    world.isolate(1)
    world.isolate(2)
    gets = [Get(0, "default", key, 2, 1000, b"", True, False, 0, degrade_ms) for key in (b"k", b"other")]
    calls = world.ask_together(0, gets)
    world.settle()
    world.run(1.05)
    if degrade_ms == AS_ASKED:
        for call in calls:
            with pytest.raises(ReadTimeout):
                call.read()
    else:
        assert [(call.read().found, call.read().degraded) for call in calls] == [(True, True), (False, True)]


@pytest.mark.parametrize("count", [1, 2])
def test_a_client_that_cannot_be_told_so_is_given_no_degraded_answer_that_it_has_not_asked_for(
    count: int,
) -> None:
    world = settled(bucket_options={"default": BucketOptions(degrade_s=60)})
    lose(world, 1, 2)
    client = world.clients[0]
    assert client is not None
    client.outbox.version = 8
    calls = world.ask_together(0, [Get(0, "default", b"k", 2, 1000, b"", True) for _ in range(count)])
    world.settle()
    for call in calls:
        with pytest.raises(Unavailable):
            call.read()
    client.outbox.version = 9
    assert look(world, degrade_ms=0).degraded


# --- what makes no sense ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "degrade_ms", "stale_ms_max", "text"),
    [
        (Level.QUORUM, -2, 0, "1 to .* ms at most"),
        (Level.QUORUM, 1 << 60, 0, "1 to .* ms at most"),
        (Level.ONE, LONG_MS, 0, "nothing to be degraded to"),
        (Level.QUORUM, LONG_MS, 100, "give up one of the two"),
    ],
)
def test_what_makes_no_sense_is_refused(level: Level, degrade_ms: int, stale_ms_max: int, text: str) -> None:
    world = World(3)
    with pytest.raises(InvalidRequest, match=text):
        look(world, level=level, degrade_ms=degrade_ms, stale_ms_max=stale_ms_max)
