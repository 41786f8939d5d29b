"""Writes that are repeated as themselves: with the version that was told, or by what a client proposed."""

from collections.abc import Callable

import pytest

from basestore.consistency import Level, Outcome
from basestore.errors import InvalidRequest, OutcomeUnknown, ReadTimeout, WriteTimeout
from basestore.protocol.replication import Apply
from basestore.repair.version import Identity, Record, Version
from basestore.results.receipts import Receipt
from tests.worlds.world import Sent, World

MINE, OTHER = b"mine0000", b"other000"
BY_PROPOSAL = Identity(MINE)


def told(
    world: World, at: int, key: str, value: str, level: Level = Level.QUORUM, **named: object
) -> Receipt:
    call = world.set(at, key, value, level, **named)  # type: ignore[arg-type]
    world.settle()
    return call.receipt()


def refused(world: World, at: int, key: str, value: str, **named: object) -> Exception:
    with pytest.raises((InvalidRequest, OutcomeUnknown)) as raised:
        told(world, at, key, value, **named)  # type: ignore[arg-type]
    return raised.value


def records(world: World, key: str, bucket: str) -> list[Record]:
    found = [world.stored(index, key, bucket) for index in range(3)]
    return [record for record in found if record is not None]


@pytest.mark.parametrize("level", [Level.ANY, Level.ONE, Level.QUORUM, Level.ALL])
@pytest.mark.parametrize("bucket", ["default", "once"])
def test_a_write_whose_answer_was_lost_is_stored_once_and_says_so(bucket: str, level: Level) -> None:
    world = World(3)
    world.set(0, "k", "v", level, bucket=bucket, identity=MINE)
    world.settle()  # its client hears nothing of it
    first = records(world, "k", bucket)[0].version
    again = told(world, 1, "k", "v", level, bucket=bucket, identity=BY_PROPOSAL)
    assert again.outcome is Outcome.STORED
    assert again.identity.proposal == MINE
    assert again.version == first
    assert {record.version for record in records(world, "k", bucket)} == {first}
    assert told(world, 2, "k", "v", level, bucket=bucket, identity=again.identity).version == first


def test_an_equal_value_of_another_client_is_another_write() -> None:
    world = World(3)
    told(world, 0, "k", "same", bucket="once", identity=OTHER)
    lost = told(world, 1, "k", "same", bucket="once", identity=BY_PROPOSAL)
    assert lost.outcome is Outcome.LOST
    assert not lost
    world.put(0, "l", "same")
    error = refused(world, 1, "l", "same", identity=BY_PROPOSAL)
    assert isinstance(error, OutcomeUnknown)


def test_a_last_write_that_is_not_found_is_not_written_under_a_second_version() -> None:
    world = World(3)
    error = refused(world, 1, "k", "v", identity=BY_PROPOSAL)
    assert isinstance(error, OutcomeUnknown)
    assert not error.definite
    assert error.found is None
    assert error.identity == BY_PROPOSAL
    newer = world.put(0, "k", "newer").version  # perhaps over the first attempt
    error = refused(world, 1, "k", "v", identity=BY_PROPOSAL)
    assert isinstance(error, OutcomeUnknown)
    assert error.found == newer
    assert world.values("k") == [b"newer"] * 3


def test_a_first_write_that_never_arrived_is_made() -> None:
    world = World(3)
    receipt = told(world, 1, "k", "v", bucket="once", identity=BY_PROPOSAL)
    assert receipt
    assert receipt.version is not None


@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM])
def test_a_first_write_with_two_stamps_is_one_write_whichever_wins(level: Level) -> None:
    world = World(3)
    world.isolate(0)
    call = world.set(0, "k", "v", bucket="once", timeout_s=0.5, level=Level.ONE, identity=MINE)
    world.run(0.6)  # its own replica alone has it
    assert call.receipt().version is not None
    earlier = call.receipt().version
    again = told(world, 1, "k", "v", bucket="once", identity=BY_PROPOSAL)
    assert again  # nobody that is asked knows of the first attempt
    assert again.version != earlier
    world.rejoin(0)
    world.run(1)
    # Under the stamp that it was told first, or by its proposal: the other stamp of itself wins.
    for identity in (again.identity, BY_PROPOSAL):
        receipt = told(world, 0, "k", "v", level, bucket="once", identity=identity)
        assert receipt.outcome is Outcome.STORED
        assert receipt.version == earlier
        assert receipt.acknowledged >= receipt.required
    assert told(world, 2, "k", "x", bucket="once", identity=OTHER).outcome is Outcome.LOST


def test_a_first_write_that_meets_itself_while_replicas_go_is_unknown_and_ends_no_node() -> None:
    world = World(3)
    world.hold(0, 1)
    world.hold(0, 2)
    world.set(0, "k", "v", Level.ONE, bucket="once", identity=MINE)
    world.settle()  # its own replica alone has it

    def held_back(sent: Sent) -> None:
        if isinstance(sent.message, Apply) and sent.source == 1:
            world.hold(1, 0)
            world.hold(1, 2)

    world.listeners.append(held_back)
    again = world.set(1, "k", "v", bucket="once", identity=BY_PROPOSAL)
    world.settle()  # it has read, found nothing, and is stamped anew; the first attempt comes first
    world.listeners.clear()
    world.release(0, 2)
    world.settle()
    world.freeze(1)
    for way in ((0, 1), (1, 0), (1, 2)):
        world.release(*way)
    world.settle()  # both others have told it of the first attempt, which its own replica has yet to sync
    assert not again.done
    world.part(1, 0)
    world.part(1, 2)
    world.thaw(1)
    world.settle()
    with pytest.raises(OutcomeUnknown) as unknown:
        again.receipt()
    assert unknown.value.identity == BY_PROPOSAL
    world.join(1, 0)
    world.run(1)
    receipt = told(world, 1, "k", "v", bucket="once", identity=BY_PROPOSAL)
    assert receipt.outcome is Outcome.STORED
    assert len({record.version for record in records(world, "k", "once")}) == 1


def test_a_timeout_names_the_write_and_its_version() -> None:
    world = World(3)
    world.isolate(1)
    world.isolate(2)
    call = world.set(0, "k", "v", timeout_s=0.5, identity=MINE)
    world.run(0.6)
    with pytest.raises(WriteTimeout) as late:
        call.receipt()
    identity = late.value.identity
    assert identity is not None
    assert identity.proposal == MINE
    assert str(identity) in str(late.value)
    for index in (1, 2):
        world.rejoin(index)
    receipt = told(world, 1, "k", "v", Level.ALL, identity=Identity.parse(str(identity)))
    assert receipt
    assert receipt.identity == identity


Change = Callable[[World, Identity], Exception]
CHANGES: dict[str, Change] = {
    "key": lambda world, of: refused(world, 1, "another", "v", identity=of),
    "bucket": lambda world, of: refused(world, 1, "k", "v", bucket="once", identity=of),
    "value": lambda world, of: refused(world, 1, "k", "another", identity=of),
    "ttl": lambda world, of: refused(world, 1, "k", "v", ttl_s=5, identity=of),
    "check": lambda world, of: refused(world, 1, "k", "v", identity=of._replace(check=bytes(8))),
    "proposal": lambda world, of: refused(world, 1, "k", "v", identity=of._replace(proposal=OTHER)),
    "number": lambda world, of: refused(
        world, 1, "k", "v", identity=of._replace(version=(of.version or Version(0, 0, 0))._replace(number=9))
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_version_is_taken_for_the_write_that_it_was_given_to_alone(what: str) -> None:
    world = World(3)
    identity = told(world, 0, "k", "v", identity=MINE).identity
    before = len(world.sent(Apply))
    error = CHANGES[what](world, identity)
    assert isinstance(error, InvalidRequest)
    assert "another key, bucket, value or ttl" in str(error)
    assert len(world.sent(Apply)) == before
    assert world.values("k") == [b"v"] * 3


def test_what_was_proposed_for_another_value_is_refused_once_it_is_found() -> None:
    world = World(3)
    for bucket in ("default", "once"):
        told(world, 0, "k", "v", bucket=bucket, identity=MINE)
        error = refused(world, 1, "k", "another", bucket=bucket, identity=BY_PROPOSAL)
        assert isinstance(error, InvalidRequest)
        assert "another key, bucket, value or ttl" in str(error)


def test_a_hint_and_an_exchange_bring_what_was_proposed() -> None:
    world = World(3)
    world.isolate(2)
    told(world, 0, "k", "v", identity=MINE)
    world.rejoin(2)
    world.run(3)
    assert [record.proposal for record in records(world, "k", "default")] == [MINE] * 3
    assert world.values("k") == [b"v"] * 3


def test_a_write_that_never_got_a_version_is_named_too() -> None:
    world = World(3)
    told(world, 0, "k", "v", bucket="once", identity=OTHER)
    lost = told(world, 0, "k", "w", bucket="once", identity=MINE)
    assert lost.outcome is Outcome.LOST
    assert lost.identity == BY_PROPOSAL
    world.isolate(1)
    world.isolate(2)
    call = world.set(0, "l", "v", bucket="once", timeout_s=0.5, identity=MINE)
    world.run(0.6)
    with pytest.raises(ReadTimeout) as late:
        call.receipt()
    assert late.value.identity == BY_PROPOSAL
