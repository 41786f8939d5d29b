"""Registry: what a mutant is, and the list of all."""

import inspect
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from basestore.topology import bucket_changes, judgement, member_changes
from tests.simulation.plan import Plan

Patch = AbstractContextManager[Any]

LOST = {"lost writes", "read your writes", "linearizable", "reads go back", "monotonic reads", "deletes"}
STALE = LOST | {"scans", "two winners"}
LOG = {
    "leaders", "decided", "log goes back", "in use", "topologies", "voters", "one log", "acknowledged",
    "consistent reads", "default reads", "stale reads", "dropped buckets", "log ends",
}  # fmt: skip


class Mutant(NamedTuple):
    """`expected`: the checkers that are meant to see it; a crash counts only where it is among them.
    `suits`: the worlds that are apt to show it. `model`: the breakage of the model that leaves out the same
    rule, if there is one; `rule`: the mutant of `tests/consensus` that does, whose case or seed is tried
    where none of whole worlds shows it. `clients`: only these ask, if what it spoils is not their data.
    `registers`: it is played in worlds of registers alone; `transactions`: in those where several are asked
    for at once; `watches`: in those in which some watch; `batches`: or write atomic
    batches."""

    name: str
    expected: set[str]
    patches: Callable[[], list[Patch]]
    suits: Callable[[Plan], bool] = lambda plan: True
    model: str = ""
    rule: str = ""
    clients: tuple[int, ...] | None = None
    registers: bool = False
    watches: bool = False
    transactions: bool = False
    batches: bool = False
    locks: bool = False


MUTANTS: list[Mutant] = []
ONE = (0,)
SURVIVORS = {
    "a checkpoint drops log records before its sums are stored": (
        "a leaf must be entered, a checkpoint drop its log records, and the life end before it changes again"
    ),
    "a store in doubt purges up to any stable stamp": (
        "two older stores of five, the tombstone due on one and the value on the other, and both whole "
        "before either compares with those that have purged"
    ),
    "a proof that was withdrawn still counts for recovery": (
        "a forgetful store takes from another what all others have purged, and loses the link at once"
    ),
    "a store that has lost something says nothing": (
        "that its store has another id is told on old links, too: what they carry is refused by its seal"
    ),
    "a peer counts before it is durable which store it runs on": (
        "that a store counts only once a peer knows its opening guards the same: both would have to go"
    ),
    "registers: prepare is skipped though the acceptors changed": (
        "who takes a seat, or comes back, has been told a floor, at or above all that was promised before: "
        "so a ballot from before is refused by enough of them"
    ),
    "watch: an exchange tells its snapshot for its end": (
        "a watcher must have been told what came to a store while it compared, and lose it before it was "
        "told what it took then; the model shows it, and a transcript of exchanges holds what is told"
    ),
    "watch: what is replaced unread counts as told": (
        "a line must be replaced, while a mark waits for it, by one behind all for which that waits; a test "
        "of the room's shows it, and the model"
    ),
    "watch: a store tells what it does not hold whole": (
        "no stable stamp is shown of such a partition, so nothing is marked by it, and its log tells the rest"
    ),
    "a superseded write-back confirms": (
        "a read writes back what a newer write overtakes at that replica, and ends after that one was "
        "acknowledged at a quorum"
    ),
    "a store counts before any peer has vouched, or knows of its opening": (
        "a node that nobody knows yet takes a write alone, and is then an older store: only one of two, "
        "of which the other keeps nothing of what its disk was given while it hung"
    ),
}


def of(*words: str) -> Callable[[Plan], bool]:
    """Worlds of these themes, or with a fault of these kinds; or where no exchanges run by themselves, or
    where replicas close themselves early, or where partitions move, or members come and go."""
    return lambda plan: (
        plan.theme in words
        or any(fault.kind in words for fault in plan.faults)
        or ("no rounds" in words and not plan.rounds)
        or ("haste" in words and plan.rounds and plan.hasty)
        or ("moves" in words and plan.moves)
        or ("changes" in words and plan.changes)
    )


def mutant_named(name: str) -> Mutant:
    return next(each for each in MUTANTS if each.name == name)


def mutant(
    name: str, expected: set[str], target: Any, attribute: str, *words: str, model: str = ""
) -> Callable[[Any], Any]:
    """Register a wrong function in place of `target.attribute`."""

    def register(wrong: Any) -> Any:
        suits = of(*words) if words else Mutant._field_defaults["suits"]
        MUTANTS.append(Mutant(name, expected, lambda: [patch.object(target, attribute, wrong)], suits, model))
        return wrong

    return register


def reworded(
    name: str, expected: set[str], target: Any, attribute: str, old: str, new: str, *words: str,
    clients: tuple[int, ...] | None = ONE, registers: bool = False, transactions: bool = False,
    watches: bool = False, batches: bool = False, locks: bool = False,
) -> None:  # fmt: skip
    """Register the function `target.attribute` with other words in it, which stand there once."""

    def patches() -> list[Patch]:
        function = getattr(target, attribute)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1, f"{name!r} does not fit the product: {old!r}"
        names: dict[str, Any] = {}
        module = sys.modules[function.__module__].__dict__
        exec(compile(source.replace(old, new), name, "exec"), module, names)
        wrong = names[function.__name__]
        if target in (bucket_changes, member_changes):  # what applies entries is found in a table
            appliers = judgement._APPLIERS  # private: the same
            if function in appliers.values():
                table = {kind: wrong if made is function else made for kind, made in appliers.items()}
                return [patch.object(judgement, "_APPLIERS", table)]
        return [patch.object(target, attribute, wrong)]

    suits = of(*words) if words else Mutant._field_defaults["suits"]
    made = Mutant(name, expected, patches, suits, clients=clients, registers=registers)
    MUTANTS.append(made._replace(transactions=transactions, watches=watches, batches=batches, locks=locks))
