"""Worlds in which more is offered than can be done; and that each law on refusals can be broken."""

from itertools import islice

import pytest

from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.protocol.client import Set, Shed
from basestore.protocol.codec import Decoder
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.drawing import draw
from tests.simulation.plan import Plan
from tests.simulation.scenes import Scene, version
from tests.simulation.world import PlannedWorld

SEEDS = 60
INCARNATION = 7  # of the versions of a scene


def overloads() -> list[Plan]:
    return [plan for plan in map(draw, range(SEEDS)) if plan.theme == "overload"]


def test_more_is_offered_than_can_be_done_and_all_is_well_in_the_end() -> None:
    for plan in islice(overloads(), 2):
        world = PlannedWorld(plan)
        world.run()
        assert not world.violations
        counts = world.counts
        assert counts["shed by the intake"] > 100
        assert counts["offered"] >= counts["opened"] + counts["shed unopened"] > counts["opened"]
        assert counts["status while much is asked"] > 20
        assert counts["liar shown the door"]
        assert counts["held back by its window"]


@pytest.mark.parametrize("kept", ["record", "hint"])
def test_what_was_refused_must_never_have_stood_on_a_disk(kept: str) -> None:
    scene = Scene()
    row, machine, refusals = scene.row(), scene.world.machines[0], scene.world.refusals
    written, refused = scene.operation(), scene.operation()
    written.outcome, refused.outcome = h.STORED, h.REFUSED
    for number, operation in enumerate((written, refused), 1):
        record = version(number, number=number) + bytes(16) + b"\0" + bytes(8) + b"%d." % operation.number
        if kept == "record":
            refusals.written(machine, {s.DATA + row: record + bytes(s.SEQUENCE)})
        else:
            refusals.written(machine, {s.member_key(s.HINT, "n2", row): b"\1" + bytes(8) + record})
        refusals.judge()
        assert scene.wrong() == ({"refusals"} if operation is refused else set())


def test_what_is_proposed_tells_too_whose_a_record_is() -> None:
    scene = Scene()
    scene.operation()
    refused = scene.operation(h.DELETE)
    refused.outcome = h.REFUSED
    proposal = (refused.number + 1).to_bytes(s.PROPOSAL)
    record = version(1) + bytes(16) + bytes((s.PROPOSED | s.TOMBSTONE,)) + bytes(8) + proposal
    scene.world.refusals.written(scene.world.machines[0], {s.DATA + scene.row(): record + bytes(8)})
    scene.world.refusals.judge()
    assert scene.wrong() == {"refusals"}


def test_each_number_that_was_given_out_is_of_a_write() -> None:
    scene = Scene()
    refusals = scene.world.refusals
    refusals.started(scene.world.machines[0], INCARNATION)
    for number in (1, 3, 2):
        refusals.sent(scene.row(), version(number, number=number))
    refusals.judge()
    assert not scene.wrong()
    refusals.sent(scene.row(), version(5, number=5))
    refusals.judge()
    assert scene.wrong() == {"refusals"}


def test_of_a_life_that_is_over_numbers_may_be_lacking() -> None:
    scene = Scene()
    refusals, machine = scene.world.refusals, scene.world.machines[0]
    refusals.started(machine, INCARNATION)
    refusals.sent(scene.row(), version(5, number=5))
    refusals.started(machine, INCARNATION + 1)
    refusals.judge()
    assert not scene.wrong()


def test_what_is_shed_was_not_opened() -> None:
    scene = Scene()
    outbox, refusals, machine = Outbox(set()), scene.world.refusals, scene.world.machines[0]
    asked = [Set(each, "default", b"k", b"v", int(Level.ONE), 100, 0, b"") for each in (1, 2, 4)]
    first, second = refusals.frames(machine, outbox, asked)
    assert (first.first, first.asks, second.first, second.asks) == (1, 2, 4, 1)
    refusals.told(machine, outbox, [Shed([4, 1], 100, 1)])
    first.open(Decoder())
    refusals.told(machine, outbox, [Shed([4, 1], 100, 1)])
    assert not scene.wrong()
    refusals.told(machine, outbox, [Shed([2, 1], 100, 1)])
    assert scene.wrong() == {"refusals"}


@pytest.mark.parametrize(("level", "late"), [(Level.ONE, True), (Level.ANY, False)])
def test_what_has_no_time_left_is_not_opened_unless_it_may_be_kept(level: Level, late: bool) -> None:
    scene = Scene()
    world, outbox = scene.world, Outbox(set())
    asked = Set(1, "default", b"k", b"v", int(level), 100, 0, b"")
    for waits_s, wrong in ((0.09, False), (0.11, late)):
        (frame,) = world.refusals.frames(world.machines[0], outbox, [asked])
        world.clockwork.run(world.clockwork.now + waits_s)
        frame.open(Decoder())
        assert scene.wrong() == ({"late frames"} if wrong else set())
