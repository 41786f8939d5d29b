"""The home of a row dies in the middle of a write, or its clock or its disk is bad: what others do then.
Covers `registers/forwarded.py` and `registers/proposer.py`."""

from unittest.mock import patch

from basestore.coordinator.stamper import Stamper
from basestore.errors import ClockSkew, Unavailable
from basestore.protocol.client import OUTCOME_LOST, OUTCOME_STORED, Get, Got, Written
from basestore.protocol.replication import Accept, Forward, ForwardDone, Promised
from basestore.registers.proposer import WIDEN_S
from basestore.repair.clock import NotYet
from tests.worlds.registers import RegisterWorld
from tests.worlds.unlearned import accepted_by, unfinished


def test_a_read_finishes_what_a_dead_home_has_left() -> None:
    world = RegisterWorld(timeout_ms_max=5000)
    home = world.home("k")
    other, third = [at for at in range(3) if at != home]
    world.put_register(home, "k", "0")
    world.settle()
    # The home dies when one other has accepted.
    world.lose = lambda sent: isinstance(sent.message, Accept) and sent.target != other
    world.freeze(home)  # what it has accepted itself is not durable yet
    world.write(home, "k", "1", timeout_s=4.0)
    world.settle()
    world.crash(home)
    assert world.node(other).registers.acceptors.count == 1
    world.lose = lambda sent: False
    world.run(1.0)  # it is known to be dead
    assert not world.node(third).peers.alive[home]
    for at in (other, third):
        call = world.ask(at, lambda r: Get(r, "cas", b"k", 2, 2000, b"", True))
        world.run(2.2)
        answer = call.reply()
        assert isinstance(answer, Got), answer
        assert answer.value == b"1"  # it was accepted by one of the two that are left
    assert [world.node(at).registers.acceptors.count for at in (other, third)] == [0, 0]


def test_a_read_waits_for_no_replica_that_is_silent_where_a_quorum_has_answered() -> None:
    world = RegisterWorld(timeout_ms_max=5000)
    home = world.home("k")
    third = next(at for at in range(3) if at != home)
    world.put_register(home, "k", "0")
    world.settle()
    unfinished(world)
    accepted_by(world, "k", "1", home)
    world.lose = lambda sent: sent.source == third and isinstance(sent.message, Promised)
    call = world.ask(home, lambda r: Get(r, "cas", b"k", 2, 4000, b"", True))
    world.run(0.5)
    assert call.done
    answer = call.reply()
    assert isinstance(answer, Got)
    assert answer.value == b"1"


def test_who_waits_for_its_clock_is_woken_by_that_alone() -> None:
    world = RegisterWorld()
    home = world.home("k")
    world.put_register(home, "k", "0")
    world.settle()
    unfinished(world)
    accepted_by(world, "k", "1", home)
    stamper = world.node(home).context.stamper
    with (
        patch.object(Stamper, "check_clock", side_effect=NotYet),
        patch.object(Stamper, "ballot", side_effect=[NotYet, ClockSkew("it is wrong")]),
    ):
        call = world.seek(home, "k")
        world.until(lambda: bool(stamper.parked), 1)
        world.run(4 * WIDEN_S)  # when more would be asked, too
        assert not call.done
        assert stamper.parked
    stamper.resume(world.now(home))
    world.until(lambda: call.done, 1)
    assert not stamper.parked
    answer = call.reply()
    assert isinstance(answer, Got)
    assert answer.value == b"1"


def test_a_home_whose_disk_does_not_keep_up_does_nothing_for_others() -> None:
    world = RegisterWorld()
    home = world.home("k")
    node = world.node(home)
    node.group_commit.note_stuck(1.0)
    asked = Forward(7, world.row("k", "cas"), b"v", 0, False, 0, b"", b"proposed", False, False, 500)
    outbox = node.peers.all[home ^ 1].outbox
    node.registers.hear(home ^ 1, outbox, asked, world.now(home))
    (done,) = outbox.take()
    assert isinstance(done, ForwardDone)
    assert done.code == Unavailable.code
    assert "its disk does not keep up" in done.text


def test_a_home_with_a_wrong_clock_does_not_stop_writes_asked_of_others() -> None:
    world = RegisterWorld()
    home = world.home("k")
    asked = next(at for at in range(3) if at != home)
    world.put_register(asked, "k", "1")
    world.skew_ms[home] = 3_600_000
    world.run(5)
    assert world.node(home).peers.clock.skew_ms is not None
    plain = world.set(asked, "plain", "v")
    world.run(0.5)
    plain.receipt()  # as any other write at that node
    key = next(f"k{n}" for n in range(100) if world.home(f"k{n}") == home)
    answer = world.done(world.write(asked, key, "2"))
    assert isinstance(answer, Written), answer


def test_a_home_whose_disk_hangs_does_not_stop_writes_asked_of_others() -> None:
    world = RegisterWorld(timeout_ms_max=5000)
    home = world.home("k")
    asked = next(at for at in range(3) if at != home)
    world.put_register(asked, "k", "1")
    world.freeze(home)
    world.run(20)
    answers = []
    for number in range(3):
        world.log.clear()
        call = world.write(asked, "k", f"{number}", timeout_s=3.0)
        world.until(lambda: call.done)  # noqa: B023
        answers.append(getattr(call.reply(), "text", "Written"))
    plain = world.set(asked, "plain", "v")
    world.run(0.5)
    assert plain.done
    assert answers == ["Written"] * 3, answers
    assert not any(isinstance(sent.message, Forward) and sent.target == home for sent in world.log)


def test_a_first_write_that_is_agreed_on_is_made_though_its_home_was_lost() -> None:
    """What is chosen there stays for good: so who takes over can tell that nothing was."""
    world = RegisterWorld()
    home = world.home("k", "agreed")
    asked = next(at for at in range(3) if at != home)
    world.lose = lambda sent: isinstance(sent.message, Forward)
    call = world.write(asked, "k", "mine", bucket="agreed", identity=b"proposed")
    world.settle()
    world.lose = lambda sent: False
    world.crash(home)
    world.until(lambda: call.done)
    answer = call.reply()
    assert isinstance(answer, Written), answer
    assert (answer.outcome, world.found_at(asked, "k")) == (OUTCOME_STORED, None)
    held = world.done(world.seek(asked, "k", bucket="agreed"))
    assert isinstance(held, Got)
    assert (held.value, held.version) == (b"mine", answer.version)


def test_a_first_write_that_may_have_been_made_is_lost_where_another_is_there() -> None:
    world = RegisterWorld()
    assert world.done(world.write(0, "k", "theirs", bucket="agreed")).outcome == OUTCOME_STORED
    answer = world.done(world.write(1, "k", "mine", bucket="agreed", identity=b"proposed", again=True))
    assert isinstance(answer, Written), answer
    assert (answer.outcome, answer.value) == (OUTCOME_LOST, b"theirs")
