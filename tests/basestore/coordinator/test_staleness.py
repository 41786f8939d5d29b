"""What reads say of themselves: whether a first write is final, and how stale an answer may be.

Covers `coordinator/get.py` and `Stamper.stale_ms`.
"""

import pytest

from basestore.client.arguments import get_level_of
from basestore.client.calls import Calls
from basestore.consistency import Level, Outcome
from basestore.errors import InvalidRequest, TooStale
from basestore.protocol.client import Get
from basestore.protocol.replication import Read
from basestore.results.receipts import ReadResult
from tests.worlds.following import converged
from tests.worlds.world import Call, World


def ask(
    world: World, key: str = "k", *, at: int = 0, level: Level = Level.ONE, tell: bool = True,
    ms_max: int = 0, bucket: str = "default",
) -> Call:  # fmt: skip
    return world.ask(at, lambda r: Get(r, bucket, key.encode(), level, 1000, b"", True, tell, ms_max), level)


def look(world: World, key: str = "k", **options: object) -> ReadResult:
    call = ask(world, key, **options)  # type: ignore[arg-type]
    world.settle()
    return call.read()


def settled(**options: object) -> World:
    """A world in which something is proven of all."""
    world = World(3, reconcile=True, **options)  # type: ignore[arg-type]
    world.put(0, "k", "v")
    assert converged(world).proven
    return world


# --- finality ---------------------------------------------------------------------------------------


def test_a_first_write_is_provisional_until_it_is_stable_and_then_final() -> None:
    world = World(3, reconcile=True)
    assert world.put(0, "k", "ada", bucket="once").final is False
    assert world.look(1, "k", bucket="once").final is False
    assert converged(world, key="k", bucket="once").proven
    for level in (Level.ONE, Level.QUORUM, Level.ALL):
        assert world.look(1, "k", level, bucket="once").final is True


def test_who_loses_is_told_whether_that_is_final() -> None:
    world = World(3, reconcile=True)
    world.put(0, "k", "ada", bucket="once")
    lost = world.put(1, "k", "bob", bucket="once")
    assert (lost.outcome, lost.final) == (Outcome.LOST, False)
    assert converged(world, key="k", bucket="once").proven
    lost = world.put(1, "k", "bob", bucket="once")
    assert (lost.outcome, lost.final) == (Outcome.LOST, True)


def test_who_repeats_a_write_that_is_stable_is_told_that_it_is_final() -> None:
    world = World(3, reconcile=True)
    first = world.put(0, "k", "ada", bucket="once")
    assert converged(world, key="k", bucket="once").proven
    call = world.set(0, "k", "ada", bucket="once", version=first.version)
    world.settle()
    assert (call.receipt().outcome, call.receipt().final) == (Outcome.STORED, True)


def test_in_a_last_write_bucket_nothing_is_final() -> None:
    world = settled()
    assert world.look(0, "k").final is None
    assert world.put(0, "k", "w").final is None


def test_a_plain_read_of_a_last_write_bucket_asks_for_nothing_more() -> None:
    world = World(3)
    world.put(0, "k", "v")
    world.log.clear()
    assert world.look(0, "k").stale_by_at_most == 0.0
    reads = [sent.message for sent in world.log if isinstance(sent.message, Read)]
    assert reads
    assert not any(read.stable for read in reads)


# --- staleness --------------------------------------------------------------------------------------


def test_a_read_at_one_says_how_stale_it_may_be_if_it_is_asked() -> None:
    world = settled()
    assert look(world, tell=False).stale_by_at_most is None
    bound = look(world).stale_by_at_most
    assert bound is not None
    lag_s, drift_s = world.cluster.closed_lag_ms / 1e3, world.cluster.drift_ms_max / 1e3
    assert lag_s + 2 * drift_s < bound < lag_s + 2 * drift_s + 4


def test_the_bound_grows_while_nothing_is_proven_and_no_write_older_than_it_is_missed() -> None:
    world = settled(hint_bytes_max=0)
    world.part(0, 2)
    world.part(1, 2)
    world.run(5)
    begun = world.monotonic
    assert world.put(0, "k", "newer").acknowledged == 2
    world.run(20)
    result = look(world, at=2)
    assert result.value == b"v"  # it is stale
    assert result.stale_by_at_most is not None
    assert result.stale_by_at_most > world.monotonic - begun


def test_before_anything_is_proven_it_is_not_known() -> None:
    world = World(3)
    world.put(0, "k", "v")
    assert look(world).stale_by_at_most is None
    assert look(world, level=Level.QUORUM).stale_by_at_most == 0.0


def test_while_clocks_are_apart_it_is_not_known() -> None:
    world = settled()
    world.skew_ms[1] = 60_000
    world.run(3)
    assert look(world, at=0).stale_by_at_most is None
    assert look(world, at=1).stale_by_at_most is None


def test_what_clocks_that_were_ahead_have_proven_bounds_nothing() -> None:
    """Stamps go on an hour ahead by an operator's word: they say nothing of how long ago a write was."""
    world = World(3, reconcile=True)
    world.skew_ms = [3_600_000] * 3
    world.run(30)
    world.skew_ms = [0] * 3
    for index in range(3):
        world.stop(index)
        world.start(index, clock_is_right=True)
    world.run(3)
    world.part(0, 2)
    world.part(1, 2)
    world.put(0, "k", "newer")
    world.run(120)
    result = look(world, at=2)
    assert not result.found
    assert result.stale_by_at_most is None


def test_a_quorum_is_not_stale() -> None:
    world = settled()
    for level in (Level.QUORUM, Level.ALL):
        assert look(world, level=level, tell=False).stale_by_at_most == 0.0


def test_an_answer_that_is_fresh_enough_is_left_as_it_is() -> None:
    world = settled()
    result = look(world, tell=False, ms_max=60_000)
    assert (result.escalated, result.level, result.responded) == (False, Level.ONE, 1)
    assert result.stale_by_at_most is not None


def test_an_answer_that_may_be_too_stale_becomes_that_of_a_quorum() -> None:
    world = settled()
    result = look(world, ms_max=100)
    assert (result.escalated, result.level, result.stale_by_at_most) == (True, Level.QUORUM, 0.0)
    assert world.node(0).metrics.counts["reads_escalated"] == 1


def test_when_a_quorum_does_not_answer_that_is_a_definite_error() -> None:
    world = settled()
    world.crash(1)
    world.crash(2)
    world.run(5)
    call = ask(world, ms_max=100)
    world.settle()
    with pytest.raises(
        TooStale, match=r"staler than 100 ms, and a quorum could not be read.*Start the"
    ) as no:
        call.read()
    assert no.value.definite
    assert look(world, ms_max=3_600_000).value == b"v"


def test_a_quorum_that_falls_silent_is_too_stale_as_well() -> None:
    world = settled()
    world.isolate(0)
    call = ask(world, ms_max=100)
    world.run(1.5)
    with pytest.raises(TooStale):
        call.read()


@pytest.mark.parametrize("ms_max", [-1, 1 << 60])
def test_a_bound_that_makes_no_sense_is_refused(ms_max: int) -> None:
    world = World(3)
    call = ask(world, ms_max=ms_max)
    world.settle()
    with pytest.raises(InvalidRequest, match="staleness"):
        call.read()


def test_a_read_without_repair_has_no_bound() -> None:
    calls = Calls("one", 1.0)
    with pytest.raises(InvalidRequest, match="give up one"):
        calls.get("k", "default", None, None, repair=False, max_staleness=1.0).make(1)
    with pytest.raises(InvalidRequest, match="max_staleness must be a positive number"):
        calls.get("k", "default", None, None, max_staleness=0).make(1)


def test_a_bound_on_staleness_makes_it_a_read_at_one_whatever_the_default() -> None:
    assert get_level_of(None, Level.QUORUM, None) is Level.QUORUM
    assert get_level_of(None, Level.QUORUM, 2.0) is Level.ONE
    assert get_level_of("one", Level.ALL, 2.0) is Level.ONE
    for level in ("quorum", "all"):
        with pytest.raises(InvalidRequest, match=f"a read at {level} is never stale"):
            get_level_of(level, Level.ONE, 2.0)
