"""Machines that come and go with the members: what the roster sees to, and what it finds wrong. Covers
`roster.py`, and what `seats.py` says of members."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from basestore.errors import LeftCluster
from basestore.protocol.client import Failed, Got
from basestore.topology.changes import KINDS, AddMember, Change, DrainMember, RemoveMember
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.judgement import judge
from tests.simulation.changers import Changer
from tests.simulation.drawing import draw
from tests.simulation.seats import LEFT, Held
from tests.simulation.world import PlannedWorld

SETTLED_S = 30.0
Entry = tuple[int, list[object]]


class Four:
    """Four machines without a fault, three replicas; and who has their members changed."""

    def __init__(self) -> None:
        plan = draw(5)
        alike = (plan.machines[0]._replace(offset_ms=0, rate=1.0, sync_s=0.0005),) * 4
        plan = replace(
            plan, faults=(), machines=alike, replication=3, durability="sync", rest=None, seconds=0.0,
            moves=True, changes=True, march=1, hasty=True, rounds=True, partitions=2,
        )  # fmt: skip
        self.world = PlannedWorld(plan)
        self.world.network.calm = True
        for machine in self.world.machines:
            machine.start()
        self.run(3.0)
        self.changer = Changer(self.world, 50)

    @property
    def held(self) -> Held:
        log = self.world.log_watch.log
        assert log is not None
        return log.held(log.last)

    @property
    def found(self) -> list[str]:
        """What is wrong with members."""
        return [each.text for each in self.world.violations if each.check == "members"]

    def run(self, seconds: float) -> None:
        self.world.clockwork.run(self.world.clockwork.now + seconds)

    def ask(self, change: Change) -> None:
        self.changer.change(self.world.machines[0], change)
        self.run(1.0)

    def settle(self) -> None:
        until = self.world.clockwork.now + SETTLED_S
        while self.held.is_moving and self.world.clockwork.now < until:
            self.run(0.5)
        assert not self.held.is_moving, self.held

    def drain(self, at: int) -> None:
        """Have one leave."""
        number = self.world.numbers[at]
        self.world.roster.asked.add(number)
        self.ask(DrainMember(number))
        self.settle()
        assert self.held.standing[number] == LEFT


@pytest.fixture
def four() -> Four:
    return Four()


def test_a_machine_is_made_for_a_member_that_is_added_and_ended_after_it_has_left(four: Four) -> None:
    four.ask(AddMember("n5", "127.0.0.1:7404", "", 1, b""))
    four.run(3.0)  # it is given nothing before it is there
    four.settle()
    assert [each.index for each in four.world.roster.members] == [0, 1, 2, 3, 4]
    assert four.world.seating.held_by(4)
    four.drain(3)
    assert four.world.machines[3].gone
    assert [each.index for each in four.world.roster.members] == [0, 1, 2, 4]
    four.world.roster.judge()
    assert not four.found


def test_who_leaves_and_was_not_asked_to_is_found(four: Four) -> None:
    four.ask(DrainMember(four.world.numbers[3]))
    four.settle()
    (text,) = four.found
    assert "nobody wanted it to" in text


def test_what_one_does_that_was_asked_after_it_had_left_is_found(four: Four) -> None:
    four.drain(3)
    roster, left = four.world.roster, four.world.machines[3]
    got = Got(7, False, b"", b"", 0, 1, 1, False, 0, 0, 0, -1, False, False, "")
    roster.is_asked(four.world.machines[0], 1)
    roster.answers(four.world.machines[0], 1, got)
    roster.answers(left, 2, got)  # it was asked before
    roster.is_asked(left, 3)
    roster.answers(left, 3, Failed(7, 2, "it has left", b"", []))
    assert not four.found
    roster.is_asked(left, 4)
    roster.answers(left, 4, got)
    (text,) = four.found
    assert "n4 has left, and answers Got" in text


def test_who_has_left_leads_nobody_once_it_was_started_anew(four: Four) -> None:
    four.drain(3)
    left = four.world.machines[3]
    four.world.roster.leads(left)
    assert not four.found
    left.life += 2
    four.world.roster.leads(left)
    assert four.found


def test_a_store_that_is_refused_though_its_member_has_not_left_is_found(four: Four) -> None:
    four.world.machines[3].stop()
    four.world.roster.refused(four.world.machines[3], LeftCluster("it has left"))
    assert four.found


def test_a_machine_that_is_gone_and_stays_a_member_is_found(four: Four) -> None:
    four.world.roster.die(four.world.machines[3])
    four.world.roster.judge()
    (text,) = four.found
    assert "members are [0, 1, 2, 3] by the log, and machines [0, 1, 2]" in text


def test_who_is_away_for_long_comes_back_to_what_was_decided(four: Four) -> None:
    away, number = four.world.machines[3], four.world.numbers[3]
    four.world.roster.go_away(away, 60.0)
    assert away.impaired
    four.world.roster.asked.add(number)
    four.run(3.0)
    four.ask(RemoveMember(number))
    four.settle()
    four.world.roster.come_back(away)
    four.run(5.0)
    assert away.node is not None
    assert not any(peer.linked for peer in away.node.peers.others)
    assert away.impaired  # what only it has counts for nobody
    four.world.roster.judge()
    assert not four.found


# --- what entries make of members ----------------------------------------------------------------


def test_one_whose_file_names_nobody_that_is_there_waits_for_an_operator(four: Four) -> None:
    machines = four.world.machines
    one = machines[0]
    for state, gone, lost in (("up", True, False), ("starting", False, False), ("starting", True, True)):
        one.node = cast("Any", SimpleNamespace(state=state))
        for other in machines[1:]:
            other.gone = gone
        assert four.changer.is_lost(one) == lost


def cases(numbers: list[int], together: tuple[int, ...]) -> Iterator[tuple[list[Entry], bool]]:
    """Entries, by their kinds, and whether the last of them makes sense. `together`: some that hold the same
    partition."""
    first, _, third, fourth = numbers
    added = 5, ["n9", "127.0.0.1:7999", "", 1, b""]
    yield [added], True
    yield [added, added], False  # its name
    yield [added, (5, ["n8", "127.0.0.1:7999", "", 1, b""])], False  # its address
    yield [(11, [fourth])], True
    yield [(11, [fourth]), (11, [fourth])], False
    yield [(11, [fourth]), (12, [fourth])], True  # it died meanwhile
    yield [(12, [fourth]), (12, [fourth])], False
    yield [(12, [fourth]), (11, [fourth])], False
    yield [(11, [fourth]), (11, [third])], False  # too few would be left
    yield [added, (11, [fourth]), (11, [third])], True
    yield [added, (13, [first, fourth + 1, False])], True
    yield [(13, [*together[:2], False])], False
    yield [(13, [first, fourth + 1, False])], False  # there is no such member
    yield [(11, [fourth]), (15, [[]])], True
    yield [(11, [fourth]), (15, [[]]), (11, [fourth])], True  # that was taken back
    yield [(12, [fourth]), (15, [[]]), (12, [fourth])], False  # who is dead stays so


def test_what_entries_make_of_members_is_what_the_product_makes_of_them(four: Four) -> None:
    node = four.world.machines[0].node
    assert node is not None
    first = node.membership.group.topology
    assert first is not None
    for entries, sensible in cases(four.world.numbers, four.held.seats[0].old):
        ours, theirs, error = four.held, first, ""
        for index, (kind, fields) in enumerate(entries, first.epoch + 1):
            entry = encode_entry(Suggestion(KINDS[kind](*fields), UNNAMED, 0, 0))
            theirs, _, outcome = judge(theirs, index, entry)
            assert outcome is not None
            error, after = outcome.error, ours.after(index, kind, fields)
            assert (after is None) == bool(error), (entries, error)
            ours = after or ours
            assert ours.standing == {each.number: each.standing.value for each in theirs.members}
            assert ours.plan == theirs.plan
        assert bool(error) != sensible, (entries, error)
