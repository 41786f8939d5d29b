"""Deciding: what is asked of the row of a transaction. All of it is Paxos, but for the first word.

    propose   COMMITTED, by its coordinator, under its own ballot b0 and no other ever, without a prepare
    look      what is decided: a peek; what is accepted only is finished first, so that nobody hears of
              something that may not be chosen
    end       what is decided; if nothing is, ABORTED
    delete    a tombstone in the place of what was decided

Where a quorum knows nothing, and b0 is at or below the stable stamp of one of them, a decision may have been
purged: ABORTED would tell the coordinator, should it come to ask so late, what is not known. So a tombstone
is written that does not tell. Something is to be written even so: an acceptor that was not asked may hold
COMMITTED, accepted again under a later ballot by one who did not get through, and the next one who asks it
would finish that.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tests.model.events import Steps, Wait
from tests.model.transactions.acceptor import Acceptor, Known, Refused
from tests.model.transactions.records import (
    FORGOTTEN,
    OPEN,
    Ballot,
    Decision,
    Verdict,
    at,
    has_committed,
)  # fmt: skip

if TYPE_CHECKING:
    from tests.model.transactions.world import Node

QUORUM = 2
ROUNDS_MAX = 4
PATIENCE = 25

Answers = dict[int, Known]
Choose = Callable[[Decision, Ballot], Decision | None]


def ask(node: "Node", request: Callable[[Acceptor], Known | Refused]) -> Steps[Answers]:
    """Of all three, until a quorum has answered, or cannot any more, or has not for long. Those that refuse
    are left out; what they know is observed."""
    world, wait = node.world, Wait()
    answers: Answers = {}
    refused: set[int] = set()

    def hear(number: int, answer: Known | Refused) -> None:
        if wait.is_over:
            return
        if isinstance(answer, Refused):
            refused.add(number)
            node.observe(answer.known)
        else:
            answers[number] = answer
        if len(answers) >= QUORUM or len(refused) >= QUORUM:
            wait.give(answers)

    def arrive(acceptor: Acceptor) -> None:
        answer = request(acceptor)
        world.transmit(lambda: hear(acceptor.number, answer))

    for acceptor in world.acceptors:
        world.transmit(partial(arrive, acceptor))
    world.after(PATIENCE, lambda: wait.give(answers))
    found: Answers = yield wait
    return found


def is_quorum(answers: Answers) -> bool:
    return len(answers) >= QUORUM


def greatest(answers: Answers, row: Ballot) -> Decision:
    """OPEN, if there is none; FORGOTTEN, if one may have been purged."""
    found = max((known.decision for known in answers.values()), key=at)
    if found is not None:
        return found
    return FORGOTTEN if may_be_purged(answers, row) else OPEN


def may_be_purged(answers: Answers, row: Ballot) -> bool:
    return any(row.stamp <= known.stable for known in answers.values())


def is_chosen(decision: Decision, answers: Answers) -> bool:
    """Learned by one that answers, or accepted by a quorum; or there is nothing."""
    same = [known for known in answers.values() if at(known.decision) == decision.ballot]
    return decision in (OPEN, FORGOTTEN) or any(known.learned for known in same) or len(same) >= QUORUM


def paxos(node: "Node", row: Ballot, choose: Choose) -> Steps[Decision | None]:
    """`choose` is given the greatest that a quorum knows, and says what to propose, or that nothing is to be
    done (None). Returns what is chosen then; None: no quorum."""
    for attempt in range(ROUNDS_MAX):
        ballot = ballot_for(node, row)
        answers = yield from ask(node, lambda acceptor: acceptor.prepare(row, ballot))  # noqa: B023
        if is_quorum(answers):
            found = greatest(answers, row)
            wanted = choose(found, ballot)
            if wanted is None or (wanted == found and is_chosen(found, answers)):
                tell(node, row, found)
                return found
            decision = wanted._replace(ballot=ballot)
            if (yield from accept(node, row, decision)):
                return decision
        yield node.world.random.randint(1, 10 << attempt)
    return None


def ballot_for(node: "Node", row: Ballot) -> Ballot:
    node.observe(row)
    return node.stamp()


def accept(node: "Node", row: Ballot, decision: Decision) -> Steps[bool]:
    answers = yield from ask(node, lambda acceptor: acceptor.accept(row, decision))
    if not is_quorum(answers):
        return False
    node.world.judge.decide(row, decision)
    tell(node, row, decision)
    return True


def tell(node: "Node", row: Ballot, chosen: Decision) -> None:
    """Whoever has accepted it may learn it."""
    for acceptor in node.world.acceptors:
        node.world.transmit(partial(acceptor.learn, row, chosen.ballot))


def finish(found: Decision, ballot: Ballot) -> Decision | None:
    """What is there is accepted again."""
    return None if found in (OPEN, FORGOTTEN) else found


def look(node: "Node", row: Ballot) -> Steps[Decision | None]:
    answers = yield from ask(node, lambda acceptor: acceptor.known(row))
    if not is_quorum(answers):
        return None
    found = greatest(answers, row)
    if is_chosen(found, answers):
        tell(node, row, found)
        return found
    return (yield from paxos(node, row, finish))


def end(node: "Node", row: Ballot) -> Steps[Decision | None]:
    world = node.world

    def choose(found: Decision, ballot: Ballot) -> Decision | None:
        world.counts["COMMITTED finished by others"] += found.verdict is Verdict.COMMITTED
        if found.verdict is Verdict.OPEN:
            world.counts["ended by others"] += 1
            return Decision(Verdict.ABORTED, ballot, ballot)
        if found.verdict is Verdict.FORGOTTEN:
            world.counts["ended by a tombstone that does not tell"] += 1
            return Decision(Verdict.GONE, ballot, ballot)
        return found

    return (yield from paxos(node, row, choose))


def delete(node: "Node", row: Ballot, decided: Decision) -> Steps[None]:
    """Nothing, if something else is there by now."""

    def choose(found: Decision, ballot: Ballot) -> Decision | None:
        if found.identity != decided.identity or found.verdict is Verdict.GONE:
            return finish(found, ballot)
        return Decision(Verdict.GONE, ballot, ballot, found.identity)

    yield from paxos(node, row, choose)


def propose(node: "Node", row: Ballot, keys: str) -> Steps[bool | None]:
    """Whether it is committed; None: nobody can tell. Once COMMITTED has left, only its row knows; that a
    quorum refuses it is no proof that the third has not accepted it, and others may finish that."""
    committed = Decision(Verdict.COMMITTED, row, row, keys=keys)
    if (yield from accept(node, row, committed)):
        return True
    node.world.counts["COMMITTED was in doubt"] += 1
    return (yield from find_out(node, row))


def find_out(node: "Node", row: Ballot) -> Steps[bool | None]:
    found = yield from end(node, row)
    if found is None:
        return None
    committed = has_committed(found, row)
    node.world.counts["the coordinator came too late to be told"] += committed is None
    return committed
