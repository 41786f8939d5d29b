"""The protocol of transactions with one of its rules left out, and which seed notices."""

from typing import Any

from tests.model.patches import Breakage, Patch, constant, instead
from tests.model.transactions import deciding, helping, transaction
from tests.model.transactions.acceptor import Acceptor, Known
from tests.model.transactions.records import NEVER, Ballot, Decision, Intent, Row, Verdict, has_committed
from tests.model.transactions.rows import Answered, Rows

ABORTED = Decision(Verdict.ABORTED)


def steps(value: Any) -> Any:
    """A function of steps that comes to this at once."""

    def made(*_args: Any, **_kinds: Any) -> Any:
        yield 0
        return value

    return made


# What the coordinator does.


def validates_first(running: Any, writes: str) -> Any:
    return (yield from transaction.validate(running)) and (yield from transaction.lay_all(running, writes))


def proposes_whatever_is_there(node: Any, row: Ballot, keys: str) -> Any:
    wanted = Decision(Verdict.COMMITTED, row, row, keys=keys)
    found = yield from deciding.paxos(node, row, lambda _found, _ballot: wanted)
    return True if found is not None else None


def proposes_again_where_nothing_is(node: Any, row: Ballot) -> Any:
    def choose(found: Decision, ballot: Ballot) -> Decision:
        nothing = found.verdict in (Verdict.OPEN, Verdict.FORGOTTEN)
        return Decision(Verdict.COMMITTED, ballot, row, keys="") if nothing else found

    found = yield from deciding.paxos(node, row, choose)
    return None if found is None else has_committed(found, row)


def row_goes_first(running: Any, row: Ballot, decision: Decision) -> Any:
    yield from deciding.delete(running.node, row, decision)
    for key, intent in running.laid.items():
        yield from helping.resolve(running.node, key, intent, decision)


def lists_the_first(running: Any, row: Ballot) -> Any:
    return (yield from deciding.propose(running.node, row, next(iter(running.laid))))


def answers_before(running: Any, row: Ballot) -> Any:
    running.told.answer("committed")
    return (yield from deciding.propose(running.node, row, "".join(running.laid)))


def gives_up_in_doubt(running: Any, row: Ballot) -> Any:
    committed = Decision(Verdict.COMMITTED, row, row, keys="".join(running.laid))
    if (yield from deciding.accept(running.node, row, committed)):
        return True
    yield from transaction.give_up(running)
    return False


def found_is_aborted(decision: Decision, row: Ballot) -> bool:
    return decision.identity == row or decision.replaced == row


def tombstone_is_aborted(decision: Decision, row: Ballot) -> bool:
    return decision.identity == row


def lays_over_anything(self: Rows, row: Row, intent: Intent) -> bool:
    return True


def lays_blindly(self: Rows, key: str, intent: Intent) -> Answered:
    """What names nothing: whatever is there is the old record of what is laid."""
    row = self.rows[key]
    told = next(each for each in self.judge.told if each.writes.get(key) == intent.identity)
    if row.intent is None and key not in told.reads:
        intent = intent._replace(old=row.identity)
    return LAY(self, key, intent)


LAY = Rows.lay

# What helpers do.


def undecided_is_aborted(node: Any, row: Ballot) -> Any:
    found = yield from deciding.look(node, row)
    return ABORTED if found is None or helping.is_undecided(found) else found


def forgotten_is_gone(decision: Decision) -> bool:
    return decision.verdict is Verdict.OPEN


def tells_all(node: Any, row: Ballot) -> Any:
    """Nothing found: ABORTED, whatever may have been purged."""

    def choose(found: Decision, ballot: Ballot) -> Decision:
        nothing = found.verdict in (Verdict.OPEN, Verdict.FORGOTTEN)
        return Decision(Verdict.ABORTED, ballot, ballot) if nothing else found

    return (yield from deciding.paxos(node, row, choose))


def below(node: Any, row: Ballot) -> Ballot:
    """By a clock that is behind, and has not seen the intent."""
    ballot: Ballot = node.stamp()
    behind = node.world.chance(0.5) and ballot > row
    return (
        Ballot(row.stamp - node.world.random.randint(1, 30), ballot.stamp * 10 + node.number)
        if behind
        else ballot
    )


def by_identity(self: Rows, row: Row, intent: Intent) -> bool:
    return row.identity == intent.identity


def fresh_identity(node: Any, key: str, intent: Intent) -> None:
    judge = node.world.judge
    fresh = judge.fresh()
    judge.same[fresh] = judge.same.get(intent.old, intent.old)
    node.world.rows.resolve(key, intent, fresh)


def leaves_what_is_gone(resolve: Any) -> Any:
    def made(node: Any, key: str, intent: Intent, decision: Decision) -> Any:
        if decision.verdict is not Verdict.GONE:
            yield from resolve(node, key, intent, decision)

    return made


def gone_is_committed(resolve: Any) -> Any:
    def made(node: Any, key: str, intent: Intent, decision: Decision) -> Any:
        gone = decision.verdict is Verdict.GONE
        yield from resolve(
            node, key, intent, decision._replace(verdict=Verdict.COMMITTED) if gone else decision
        )

    return made


def deletes_unresolved(node: Any, row: Ballot, decision: Decision) -> Any:
    yield from deciding.delete(node, row, decision)


# What acceptors and registers do.


def learned_only(self: Acceptor, row: Ballot) -> Known:
    learned = self.learned.get(row)
    return Known(learned, learned is not None, self.stable)


def closed_but_for_accepts(accept: Any) -> Any:
    def made(self: Acceptor, row: Ballot, decision: Decision) -> Any:
        closed, self.closed = self.closed, 0
        answer = accept(self, row, decision)
        self.closed = closed
        return answer

    return made


def merges_all(self: Acceptor, theirs: dict[Ballot, Decision]) -> None:
    for row, decision in theirs.items():
        self.take(row, decision)


def compares_under_intents(self: Rows, intent: Intent, expected: int | None) -> bool:
    return expected != intent.old


def reads_old(intent: Intent, *, single: bool) -> int | None:
    return intent.old if single else None


def reads_new(intent: Intent, *, single: bool) -> int | None:
    return intent.identity


BREAKAGES = [
    # Those of the first model.
    Breakage("what is only read is not validated", [instead(transaction, "validate", steps(True))]),
    Breakage("validates before it lays", [instead(transaction, "prepare", validates_first)]),
    Breakage("a plain get reads through an intent", [instead(transaction, "read_through", reads_old)]),
    Breakage("a helper decides alone", [instead(helping, "end", undecided_is_aborted)]),
    Breakage(
        "COMMITTED is proposed whatever is there",
        [instead(transaction, "propose", proposes_whatever_is_there)],
    ),
    Breakage("the row goes before all is resolved", [instead(transaction, "conclude", row_goes_first)]),
    Breakage("resolves whatever is there", [constant(Rows, "is_still", True)]),
    Breakage("nobody helps", [constant(helping, "is_young", True)]),
    # The coordinator.
    Breakage(
        "COMMITTED is proposed again under a later ballot",
        [instead(deciding, "find_out", proposes_again_where_nothing_is)],
    ),
    Breakage("COMMITTED is given up in doubt", [instead(transaction, "decide", gives_up_in_doubt)]),
    Breakage("refused by a quorum is not committed", [instead(deciding, "find_out", steps(False))]),
    Breakage("answers before it is decided", [instead(transaction, "decide", answers_before)]),
    Breakage("COMMITTED lists one row", [instead(transaction, "decide", lists_the_first)]),
    Breakage(
        "what does not tell is taken for ABORTED", [instead(deciding, "has_committed", found_is_aborted)]
    ),
    Breakage("a tombstone is taken for ABORTED", [instead(deciding, "has_committed", tombstone_is_aborted)]),
    Breakage("a lay compares nothing", [instead(Rows, "may_lay", lays_over_anything)]),
    Breakage("a blind write names nothing", [instead(Rows, "lay", lays_blindly)]),
    # Helpers.
    Breakage("ABORTED is written where a decision may be purged", [instead(helping, "end", tells_all)]),
    Breakage(
        "where a decision may be purged nothing is written",
        [instead(helping, "is_undecided", forgotten_is_gone)],
    ),
    Breakage("resolves by identity alone", [instead(Rows, "is_still", by_identity)]),
    Breakage("rolls back with a fresh identity", [instead(helping, "roll_back", fresh_identity)]),
    Breakage("what is gone is not rolled back", [Patch(helping, "resolve", leaves_what_is_gone)]),
    Breakage("what is gone is committed", [Patch(helping, "resolve", gone_is_committed)]),
    Breakage("a sweep deletes before all is resolved", [instead(helping, "clean", deletes_unresolved)]),
    Breakage("nobody gives way", [constant(helping, "must_give_way", False)]),
    # The row of the transaction.
    Breakage("a helper's ballot is below that of the transaction", [instead(deciding, "ballot_for", below)]),
    Breakage("an acceptor has promised nothing at first", [constant(Acceptor, "promise_at_first", NEVER)]),
    Breakage(
        "an acceptor has promised nothing at first, and a helper's ballot is below",
        [constant(Acceptor, "promise_at_first", NEVER), instead(deciding, "ballot_for", below)],
    ),
    Breakage("accepted by one is chosen", [constant(deciding, "is_chosen", True)]),
    Breakage("one is a quorum", [Patch(deciding, "QUORUM", lambda _: 1)]),
    Breakage("acceptors tell what they have learned only", [instead(Acceptor, "known", learned_only)]),
    Breakage("promises above closed are dropped", [constant(Acceptor, "may_forget", True)]),
    Breakage("what is closed is accepted", [Patch(Acceptor, "accept", closed_but_for_accepts)]),
    Breakage("closed is not held", [constant(Acceptor, "holds", [])]),
    Breakage("tombstones go before they are stable", [constant(Acceptor, "is_due", True)]),
    Breakage("what is stable is taken again", [instead(Acceptor, "merge", merges_all)]),
    # Plain writes and reads.
    Breakage("a plain write goes over an intent", [constant(Rows, "blocks", False)]),
    Breakage("a compare compares under an intent", [instead(Rows, "blocks", compares_under_intents)]),
    Breakage("what is not decided is read", [instead(transaction, "read_through", reads_new)]),
]
