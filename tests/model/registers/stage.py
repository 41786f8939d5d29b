"""Stage: the shortest histories known in which one rule is all that helps.

Chance meets most of what `breakages` leaves out within some hundred worlds, but these want several rare
things in one order. Each is harmless to the whole protocol, and a violation without its rule.
"""

from tests.model.registers.messages import Accept, Prepare
from tests.model.registers.script import KEY, Script
from tests.model.registers.topology import Stage, TakeIn


def take_in(script: Script, member: int, *aware: int) -> bool:
    """Whether it may be."""
    entry = script.log[-1]
    complete = script.leader.is_complete(member, entry)
    if complete:
        script.decide(TakeIn(frozenset({member}), entry.since))
        script.catch_up(*aware)
    return complete


def replaced(script: Script, goes: int, comes: int, stays: int, third: int) -> None:
    """A seat is moved while the third of three hears nothing of it."""
    old, new = {goes, stays, third}, {comes, stays, third}
    script.seat(Stage.FILL, old, new, goes, comes, stays)
    script.certify((comes, goes), (comes, stays))
    script.seat(Stage.JOINT, old, new, goes, comes, stays)
    script.certify((comes, goes), (comes, stays), (stays, goes))
    assert script.leader.is_over(script.log[-1])
    script.seat(Stage.STILL, new, new, goes, comes, stays)


def a_promise_outlives_those_who_gave_it() -> None:
    """n is promised by 0 and 1, and accepted by 2 alone, which then hears nothing. 0 and 1 are replaced. A
    slower clock must not have anything chosen below n by those two, for 2 comes back with it."""
    script = Script(3, 2)
    script.nodes[0].skew_us = 300_000
    script.write(0)
    script.deliver(0, 1, wanted=Prepare)
    while script.wire[0, 2]:
        script.deliver_one(0, 2, Accept)
    script.nodes[0].rounds.end()
    script.lose()
    replaced(script, 0, 3, 1, 2)
    replaced(script, 1, 4, 3, 2)
    done = script.write(4)
    script.deliver(3, 4)
    assert done
    script.catch_up(2, 3, 4)
    script.nodes[2].sweep()
    script.deliver(2, 3, 4)
    script.judge_all()


def what_is_closed_stays_so_with_those_who_come() -> None:
    """A tombstone is purged by 0, 1 and 2. Two with slower clocks, that take the places of two of them, must
    not have anything chosen below it."""
    script = Script(3, 2)
    script.nodes[3].skew_us = script.nodes[4].skew_us = -3_000_000
    script.write(0, None)
    script.deliver(0, 1, 2)
    script.now += 1_000_000
    for _ in range(2):
        script.certify((0, 1), (0, 2), (1, 2))
    for member in (0, 1, 2):
        script.nodes[member].tend()
    assert KEY not in script.nodes[0].store.data
    replaced(script, 0, 3, 1, 2)
    replaced(script, 1, 4, 3, 2)
    script.write(4)
    script.deliver(3, 4)
    script.judge_all()


def barred_with_an_unfinished_source() -> Script:
    """Of 0 to 4, n is accepted by 0, 1 and 3, and learned by 3 alone; then 0 loses its store. Of the others
    only 1 has not finished."""
    script = Script(5, 1)
    script.untold = {0, 1}
    script.write(0)
    script.deliver(0, 1, 3)
    script.lose()
    script.untold.clear()
    script.bar(0, 1, 2, 3, 4)
    script.now += 1_000
    return script


def completed(script: Script) -> None:
    """0 is taken in as soon as it may be, and writes where nobody else has learned of n."""
    script.certify((0, 2), (0, 4))
    if not take_in(script, 0, 0, 2, 4):
        script.deliver(0, 1)
        script.certify((0, 1))
        assert take_in(script, 0, 0, 2, 4)
    script.write(0)
    script.deliver(0, 2, 4)
    script.judge_all()


def an_exchange_that_began_before_the_word_proves_nothing() -> None:
    """1 begins an exchange with 0, finishes, and says so; then the exchange ends. What it proves is about
    what 1 held when it began."""
    script = barred_with_an_unfinished_source()
    script.nodes[1].exchanges.open(0)
    script.deliver_one(1, 0)
    script.nodes[1].sweep()
    script.deliver(1, 2, 3)
    script.deliver(0, 1)
    completed(script)


def the_word_is_durable_before_it_is_heard() -> None:
    """1 takes n from 3, and would say that it has finished; but it crashes before that is durable, and is
    again where it was."""
    script = barred_with_an_unfinished_source()
    node = script.nodes[1]
    node.sweep()
    script.deliver(1, 2)
    script.deliver_one(1, 3)
    script.slow = True
    script.deliver_one(3, 1)
    script.slow = False
    node.crash()
    node.up = True
    script.deliver(0, 1)
    script.certify((0, 1))
    node.sweep()
    script.deliver(1, 2, 3)
    completed(script)


def whoever_is_taken_in_has_met_enough() -> None:
    """n is learned by 0 and 1 of three; 0 loses its store, and meets 2, which has not heard of n."""
    script = Script(3, 1)
    script.write(0)
    script.deliver(0, 1)
    script.lose()
    script.bar(0, 1, 2)
    script.certify((0, 2))
    if not take_in(script, 0, 0, 1, 2):
        script.certify((0, 1))
        assert take_in(script, 0, 0, 1, 2)
    script.write(0)
    script.deliver(0, 2)
    script.judge_all()


def a_move_ends_with_a_quorum_that_is_complete() -> None:
    """n is learned by 0 and 1 while 3, which is to take the place of 0, is filled already. 1 is complete at
    once, but neither 3 nor 2 have heard of n."""
    script = Script(3, 1)
    old, new = {0, 1, 2}, {3, 1, 2}
    script.seat(Stage.FILL, old, new, 0, 1, 2, 3)
    script.certify((3, 0), (3, 1))
    script.write(0)
    script.deliver(0, 1)
    script.lose()
    script.seat(Stage.JOINT, old, new, 0, 1, 2, 3)
    script.certify((1, 0))
    if not script.leader.is_over(script.log[-1]):
        script.certify((3, 0), (3, 1))
        assert script.leader.is_over(script.log[-1])
    script.seat(Stage.STILL, new, new, 1, 2, 3)
    script.write(3)
    script.deliver(2, 3)
    script.judge_all()


def what_is_accepted_again_is_not_learned() -> None:
    """n is accepted by 0 and 1 of three, when 3 comes in place of 0. In joint 1 would have it finished: 0
    and 1 accept it again, but no quorum of the new ones. So n is of the present entry, and nobody has learned
    it."""
    script = Script(3, 1)
    old, new = {0, 1, 2}, {3, 1, 2}
    script.untold = {0, 1}
    script.write(0)
    script.deliver(0, 1)
    script.lose()
    script.untold.clear()
    script.seat(Stage.FILL, old, new, 0, 1, 2, 3)
    script.certify((3, 1), (3, 2))
    script.seat(Stage.JOINT, old, new, 0, 1, 2, 3)
    script.now += 1_000
    script.nodes[1].sweep()
    script.deliver(0, 1)
    script.deliver_one(1, 3)
    script.deliver_one(3, 1)
    script.deliver(0, 1)
    script.nodes[1].rounds.end()
    script.lose()
    for _ in range(2):
        script.certify((3, 0), (3, 1), (3, 2), (2, 0), (2, 1))
    if not script.leader.is_over(script.log[-1]):
        for member in (0, 1):
            script.nodes[member].sweep()
            script.deliver(0, 1, 2, 3)
        script.certify((3, 0), (3, 1), (2, 0), (2, 1))
        assert script.leader.is_over(script.log[-1])
    script.seat(Stage.STILL, new, new, 1, 2, 3)
    script.write(3)
    script.deliver(2, 3)
    script.judge_all()


def who_returns_has_accepted_nothing() -> None:
    """n is accepted by 0 alone, in the joint in which it leaves. A delete follows, and is purged. 0 comes
    back to its seat, and n must not."""
    script = Script(3, 1)
    script.seat(Stage.FILL, {0, 1, 2}, {3, 1, 2}, 0, 1, 2, 3)
    script.certify((3, 1), (3, 2))
    script.seat(Stage.JOINT, {0, 1, 2}, {3, 1, 2}, 0, 1, 2, 3)
    script.write(0)
    for link in ((0, 0), (0, 1), (0, 2), (0, 0), (1, 0), (2, 0), (0, 0)):
        script.deliver_one(*link)
    script.nodes[0].rounds.end()
    script.lose()
    script.certify((3, 0), (3, 1), (1, 0), (1, 2), (2, 0))
    assert script.leader.is_over(script.log[-1])
    script.seat(Stage.STILL, {3, 1, 2}, {3, 1, 2}, 0, 1, 2, 3)
    script.write(1, None)
    script.deliver(1, 2, 3)
    script.now += 1_000_000
    for _ in range(2):
        script.certify((1, 2), (1, 3), (2, 3))
    for member in (1, 2, 3):
        script.nodes[member].tend()
    assert KEY not in script.nodes[1].store.data
    script.seat(Stage.FILL, {3, 1, 2}, {0, 1, 2}, 0, 1, 2, 3)
    script.certify((0, 1), (0, 2))
    script.seat(Stage.JOINT, {3, 1, 2}, {0, 1, 2}, 0, 1, 2, 3)
    script.certify((0, 3), (0, 1), (1, 3), (1, 2))
    script.seat(Stage.STILL, {0, 1, 2}, {0, 1, 2}, 0, 1, 2, 3)
    script.write(1)
    script.deliver(0, 1)
    script.judge_all()


def what_was_promised_ahead_is_of_one_entry_or_known_to_the_next() -> None:
    """0 is promised its next ballot, a later one. Two of three are replaced, and write what 0 does not hear
    of. What it was promised is worth nothing now."""
    script = Script(3, 2)
    script.write(0)
    for link in ((0, 0), (0, 1), (0, 2)):
        script.deliver_one(*link)
    script.nodes[0].skew_us = 500_000
    script.deliver(0, 1, 2)
    replaced(script, 0, 3, 1, 2)
    replaced(script, 1, 4, 3, 2)
    script.write(4)
    script.deliver(3, 4)
    script.catch_up(0)
    script.write(0)
    script.deliver(0, 3, 4)
    script.judge_all()


def what_was_closed_when_an_exchange_began_counts() -> None:
    """1 and 2 learn of n while both exchange with 0, and close what n is at. 0, whose clock is ahead, has
    closed that before."""
    script = Script(3, 1)
    script.nodes[0].skew_us = 3_000_000
    for _ in range(2):
        script.certify((0, 1), (0, 2), (1, 2))
    for member in (1, 2):
        script.nodes[member].exchanges.open(0)
        script.deliver_one(member, 0)
    script.write(1)
    script.deliver(1, 2)
    script.now += 1_000_000
    for member in (1, 2):
        script.nodes[member].tend()
        script.deliver_one(0, member)
    script.certify((1, 2), (1, 2))
    script.judge_all()


def a_change_is_of_the_entry_it_was_judged_under() -> None:
    """n is learned by 0 and 1; 0 loses its store, and is complete again; but before that is decided it loses
    this one too."""
    script = Script(3, 1)
    script.write(0)
    script.deliver(0, 1)
    script.lose()
    script.bar(0, 1, 2)
    script.certify((0, 2), (0, 1))
    entry = script.log[-1]
    assert script.leader.is_complete(0, entry)
    script.bar(0, 1, 2)
    script.leader.decided(TakeIn(frozenset({0}), entry.since))
    script.catch_up(0, 1, 2)
    script.write(0)
    script.deliver(0, 2)
    script.judge_all()


STAGED = {
    "closed of the end of the exchange": what_was_closed_when_an_exchange_began_counts,
    "changes are applied under any entry": a_change_is_of_the_entry_it_was_judged_under,
    "what was accepted in an earlier tenure is used": who_returns_has_accepted_nothing,
    "prepare is skipped though the acceptors changed, and they have no floor": (
        what_was_promised_ahead_is_of_one_entry_or_known_to_the_next
    ),
    "what is accepted again is finished": what_is_accepted_again_is_not_learned,
    "the floor is not inherited": a_promise_outlives_those_who_gave_it,
    "closed is not inherited": what_is_closed_stays_so_with_those_who_come,
    "finished is heard after the exchange began": an_exchange_that_began_before_the_word_proves_nothing,
    "finished is told before it is durable": the_word_is_durable_before_it_is_heard,
    "to have met one is enough": whoever_is_taken_in_has_met_enough,
    "one that is complete ends a move": a_move_ends_with_a_quorum_that_is_complete,
}
