"""Coordinators that count, prove or repeat otherwise."""

from typing import Any

from tests.model.patches import Breakage, Patch, constant
from tests.model.registers import decision, operations
from tests.model.registers.breakages.patching import around, closed_only, patch
from tests.model.registers.clients import Client
from tests.model.registers.decision import Attempt, Kind, Seen, Verdict
from tests.model.registers.node import Node
from tests.model.registers.records import Record, at
from tests.model.registers.store import Store
from tests.model.registers.topology import Entry, quorum


def greatest_learned(seen: Any) -> Any:
    def made(answers: Any, entry: Entry) -> Seen:
        now: Seen = seen(answers, entry)
        known = [each.record for each in answers.values() if each.learned]
        return now if now.chosen else Seen(max(known, key=at, default=None), True, now.stable)

    return made


def restamped(take_kept: Any) -> Any:
    def made(node: Node, attempt: Attempt) -> Any:
        kept = take_kept(node, attempt)
        return kept and kept._replace(ballot=node.stamp())

    return made


def old_only(self: Entry) -> tuple[frozenset[int], ...]:
    return (self.old,)


def lost_unproven(decide: Any) -> Any:
    def made(attempt: Attempt, now: Seen) -> Verdict:
        verdict: Verdict = decide(attempt, now)
        if verdict is Verdict.UNKNOWN and attempt.wish.kind is not Kind.SET:
            return Verdict.STORED if attempt.wish.holds(now.record) else Verdict.LOST
        return verdict

    return made


def one_less(self: Entry, have: Any) -> bool:
    return all(len(have & each) >= max(1, quorum(each) - 1) for each in self.sets)


def without_barred(self: Entry, have: Any) -> bool:
    return all(len(have & each) >= quorum(each - self.barred) for each in self.sets)


def minority(record: Record | None, answers: Any, entry: Entry) -> bool:
    same = {who for who, each in answers.items() if at(each.record) == at(record)}
    return record is None or any(each.learned for each in answers.values()) or one_less(entry, same)


def blindly(wish: Any, record: Record | None) -> Verdict:
    return Verdict.PROPOSE if wish.holds(record) else Verdict.LOST


def identity_only(record: Record, attempt: Attempt) -> bool:
    return record.identity == attempt.identity


def new_identity(proposed: Any) -> Any:
    def made(node: Node, attempt: Attempt, *rest: Any) -> Record:
        attempt.identity = None
        record: Record = proposed(node, attempt, *rest)
        return record

    return made


def unproven(node: Node, key: int, now: Seen) -> Any:
    yield from ()
    return now


def kept_for_ever(node: Node, attempt: Attempt) -> Any:
    kept = node.kept.get(attempt.wish.key)
    return None if kept is None or kept.since != node.entry.since or attempt.sent or attempt.blind else kept


COORDINATORS = [
    Breakage("accepted is chosen", [constant(decision, "is_chosen", True)]),
    Breakage("a read takes what is learned for the greatest", [around(operations, "seen", greatest_learned)]),
    Breakage(
        "prepare is skipped with a ballot that nobody promised", [around(operations, "take_kept", restamped)]
    ),
    Breakage("prepare is skipped twice with one ballot", [patch(operations, "take_kept", kept_for_ever)]),
    Breakage("prepare is skipped though the acceptors changed", [constant(operations, "is_current", True)]),
    Breakage(
        "prepare is skipped though the acceptors changed, and they have no floor",
        [constant(operations, "is_current", True), patch(Store, "inherit", closed_only)],
    ),
    Breakage("in joint a quorum of the old is enough", [Patch(Entry, "sets", lambda _: property(old_only))]),
    Breakage("a write that may be applied is proposed again", [constant(decision, "is_unapplied", True)]),
    Breakage("a compare is reported lost without proof", [around(operations, "decide", lost_unproven)]),
    Breakage("one less than a quorum is enough", [patch(Entry, "enough", one_less)]),
    Breakage("a quorum of those that are not barred is enough", [patch(Entry, "enough", without_barred)]),
    Breakage("acceptances of another entry count for a read", [constant(decision, "counts_now", True)]),
    Breakage("a minority counts for a read", [patch(decision, "is_chosen", minority)]),
    Breakage("a proposal is repeated blindly", [patch(decision, "decide_blind", blindly)]),
    Breakage("what is absent was never there", [constant(decision, "is_unpurged", True)]),
    Breakage("the proposal is not looked at", [patch(decision, "is_mine", identity_only)]),
    Breakage("each ballot has its own identity", [around(operations, "proposed", new_identity)]),
    Breakage("a failing compare is not proven", [patch(operations, "prove", unproven)]),
    Breakage(
        "a repetition that sends nothing is definite",
        [patch(Client, "is_definite", lambda self, attempt: not attempt.sent)],
    ),
    Breakage(
        "a blind repetition is repeated by identity",
        [patch(Client, "is_blind", lambda self, attempt, *, told: not told)],
    ),
]
