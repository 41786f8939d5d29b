"""Verdicts: what follows from what the replicas of its partitions say of a batch. Pure.

    held by a quorum of each        nobody gives it up any more: it may be committed
    committed somewhere             so it was held by a quorum of each, and may be committed everywhere
    never, of all replicas of one   nobody holds it there, nor ever will: nobody has committed, nor will
    never of all, and committed     it was held there: it is through, and its tombstones are purged
    elsewhere
    done somewhere                  it is over

A quorum that says never is not enough: the one that does not answer may hold it, and vouch for copies. Nor is
it enough that it is not there (NONE), for it may be on its way.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from basestore.batches.part import APPLIED, GIVEN_UP, NO_CHECK, Ended, Known, Part
from basestore.batches.round import Answers, Told, saying
from basestore.consistency import Level, Quorum
from basestore.protocol.groups import COMMITTED, DONE, HELD, NEVER
from basestore.repair.version import Record


class Facts(NamedTuple):
    """Of a batch, where known. `numbers`: by partition that of its part; `check`: as in `Part`."""

    numbers: dict[int, int]
    check: bytes


QuorumOf = Callable[[int, Level], Quorum]


def may_commit(answers: Answers, quorum: QuorumOf) -> bool:
    """Whether it is held by a quorum of each, so far as is told."""
    return all(is_held(of, quorum(partition, Level.QUORUM)) for partition, of in answers.items())


def is_held(answers: dict[int, Told], quorum: Quorum) -> bool:
    return quorum.met(saying(answers, HELD, COMMITTED))


def is_committed(answers: Answers) -> bool:
    """Whether somebody has applied a part."""
    return any(saying(of, COMMITTED) for of in answers.values())


def is_applied(answers: Answers, quorum: QuorumOf, level: Level) -> bool:
    """Whether what is committed is applied in each partition, at this level. Of who has a tombstone by now it
    is not known that it has applied it itself, only that a quorum has."""
    states = (COMMITTED, DONE) if level is Level.QUORUM else (COMMITTED,)
    return all(
        quorum(partition, level).met(saying(of, *states)) or is_never(of, quorum(partition, level).replicas)
        for partition, of in answers.items()
    )


def is_never(answers: dict[int, Told], replicas: Collection[int]) -> bool:
    """Whether none of these holds it, nor ever will."""
    return set(saying(answers, NEVER)) >= set(replicas)


def is_dead(answers: Answers, quorum: QuorumOf) -> bool:
    """Whether it can be committed no more, if nobody has."""
    return any(is_never(of, quorum(partition, Level.ALL).replicas) for partition, of in answers.items())


def is_sealed(answers: Answers, quorum: QuorumOf) -> bool:
    """Whether a tombstone is at a quorum of some partition: so nobody finds it held by one there."""
    return any(quorum(partition, Level.QUORUM).met(saying(of, DONE)) for partition, of in answers.items())


def nothing_was_purged(answers: Answers, stamp: int) -> bool:
    """Whether no tombstone of it can have been purged where that was asked: else it may have been applied."""
    return all(told.stable < stamp for of in answers.values() for told in of.values())


def ended(answers: Answers) -> Ended | None:
    """What a tombstone says, if there is one: one that knows how it has ended, before all others."""
    found = [
        Ended.of(Record(told.record))
        for of in answers.values()
        for told in of.values()
        if told.state == DONE and told.record
    ]
    told = [each for each in found if each.how in (APPLIED, GIVEN_UP)] or found
    return told[0] if told else None


def facts_of(known: Known, answers: Answers) -> Facts:
    """What the records of parts say, and tombstones."""
    numbers, check = dict[int, int](), NO_CHECK
    for partition, of in answers.items():
        for told in of.values():
            if not told.record:
                continue
            record = Record(told.record)
            if told.state == DONE:
                over = Ended.of(record)
                number, proves = over.number, over.check
            else:
                number, proves = record.version.number, Part.of(known.row(partition), record).check
            numbers[partition] = number or numbers.get(partition, 0)
            check = proves if proves != NO_CHECK else check
    return Facts(numbers, check)
