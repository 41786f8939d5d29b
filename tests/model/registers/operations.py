"""Operations: a write, a read, and finishing, as their coordinator goes through them.

Each is a generator. It yields what it asks of the acceptors, and is given their answers once they are enough;
or None where one refused, or the acceptors are others by now: then it begins anew.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple

from tests.model.registers.decision import Attempt, Seen, Verdict, decide, seen
from tests.model.registers.messages import Accept, Learn, Peek, Prepare, Request
from tests.model.registers.records import Ballot, Record, name
from tests.model.registers.store import Known
from tests.model.registers.topology import Entry

if TYPE_CHECKING:
    from tests.model.registers.node import Node

BACK_OFF_US = 30_000
WIDEN_US = 20_000  # a read waits so long for more than a quorum

Answers = dict[int, Known]


class Ask(NamedTuple):
    """A round. `patience_us`: after that it is given what there is."""

    request: Request
    enough: Callable[[Answers], bool]
    patience_us: int = 0


class Pause(NamedTuple):
    us: int


class Kept(NamedTuple):
    """What the next write on a row may begin with: the ballot that was promised with the acceptance of this
    record, under this entry."""

    since: int
    ballot: Ballot
    record: Record


class Result(NamedTuple):
    verdict: Verdict
    record: Record | None = None
    one_trip: bool = False


Steps = Generator[Ask | Pause, Answers | None, Result]


def quorum(entry: Entry) -> Callable[[Answers], bool]:
    return lambda answers: entry.enough(set(answers))


def write(node: "Node", attempt: Attempt) -> Steps:
    key = attempt.wish.key
    while True:
        kept = take_kept(node, attempt)
        if kept is not None:
            ballot, now = kept.ballot, Seen(kept.record, True, 0)
        else:
            ballot = node.stamp()
            entry = node.entry
            answers = yield Ask(Prepare(key, ballot), quorum(entry))
            if answers is None:
                yield back_off(node)
                continue
            now = seen(answers, entry)
        verdict = decide(attempt, now)
        if verdict is Verdict.UNKNOWN:
            return Result(verdict)
        if verdict is Verdict.PROPOSE:
            record = proposed(node, attempt, ballot, now.record)
        elif kept is not None:
            looked = yield from prove(node, key, now)
            if looked.chosen and decide(attempt, looked) is verdict:
                return Result(verdict, looked.record, one_trip=True)
            continue
        elif now.chosen:
            return Result(verdict, now.record)
        else:
            assert now.record is not None
            record = now.record.again(ballot)
        if (yield from propose(node, key, record)):
            found = record if verdict is Verdict.PROPOSE else now.record
            stored = Verdict.STORED if verdict is Verdict.PROPOSE else verdict
            return Result(stored, found, one_trip=kept is not None)
        yield back_off(node)


def back_off(node: "Node") -> Pause:
    return Pause(node.world.random.randrange(BACK_OFF_US))


def take_kept(node: "Node", attempt: Attempt) -> Kept | None:
    """A repetition looks first."""
    kept = node.kept.pop(attempt.wish.key, None)
    if kept is None or not is_current(kept, node) or attempt.sent or attempt.blind:
        return None
    return kept


def is_current(kept: Kept, node: "Node") -> bool:
    return kept.since == node.entry.since


def proposed(node: "Node", attempt: Attempt, ballot: Ballot, now: Record | None) -> Record:
    """The identity is the first ballot."""
    attempt.identity = attempt.identity or ballot
    attempt.sent = attempt.named = True
    attempt.meant = name(now)
    wish = attempt.wish
    node.world.judge.identities[wish.proposal].add(attempt.identity)
    return Record(
        ballot, attempt.identity, attempt.meant, wish.proposal, wish.value,
        now.ballot if now is not None else None,
    )  # fmt: skip


def propose(
    node: "Node", key: int, record: Record, enough: Callable[[Answers], bool] | None = None
) -> Generator[Ask | Pause, Answers | None, bool]:
    """Whether it is chosen."""
    entry = node.entry
    following = node.stamp(above=record.ballot)
    node.world.judge.propose(key, record)
    answers = yield Ask(Accept(key, record, following), enough or quorum(entry))
    if answers is None:
        return False
    node.kept[key] = Kept(entry.since, following, record)
    for member in entry.acceptors:
        node.send(member, Learn(key, record.ballot))
    return True


def prove(node: "Node", key: int, now: Seen) -> Generator[Ask | Pause, Answers | None, Seen]:
    """What was kept says that a condition fails: another may have come since."""
    return (yield from look(node, key))


def look(node: "Node", key: int) -> Generator[Ask | Pause, Answers | None, Seen]:
    """What a quorum knows, or if that proves nothing, more than one."""
    entry = node.entry
    answers = yield Ask(Peek(key), quorum(entry))
    if answers is None:
        return Seen(None, False, 0)
    now = seen(answers, entry)
    if not now.chosen and node.entry is entry:
        wider = yield Ask(Peek(key), proving(entry), WIDEN_US)
        if wider and proving(entry)(wider):
            return seen(wider, entry)
    return now


def proving(entry: Entry) -> Callable[[Answers], bool]:
    return lambda answers: entry.enough(set(answers)) and seen(answers, entry).chosen


def read(node: "Node", key: int) -> Steps:
    while True:
        now = yield from look(node, key)
        if now.chosen:
            return Result(Verdict.STORED, now.record, one_trip=True)
        result = yield from finish(node, key)
        if result.verdict is Verdict.STORED:
            return result


def finish(node: "Node", key: int, *, own: bool = False) -> Steps:
    """Has the greatest record chosen. `own`: of what is accepted here, which is why it is done."""
    for _ in range(20):
        entry, ballot = node.entry, node.stamp()
        enough = finishing(node, entry) if own else quorum(entry)
        answers = yield Ask(Prepare(key, ballot), enough)
        if answers is not None:
            now = seen(answers, entry)
            if now.chosen:
                return Result(Verdict.STORED, now.record)
            assert now.record is not None
            record = now.record.again(ballot)
            if (yield from propose(node, key, record, all_left(entry) if own else quorum(entry))):
                return Result(Verdict.STORED, record)
        yield back_off(node)
    return Result(Verdict.UNKNOWN)


def all_left(entry: Entry) -> Callable[[Answers], bool]:
    return lambda answers: entry.enough_to_finish(set(answers))


def finishing(node: "Node", entry: Entry) -> Callable[[Answers], bool]:
    """What is accepted here must be among the answers."""
    return lambda answers: node.number in answers and entry.enough_to_finish(set(answers))
