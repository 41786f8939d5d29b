"""Acceptors that keep, refuse or tell something else."""

from typing import Any

from tests.model.patches import Breakage, constant
from tests.model.registers.breakages.patching import around, patch
from tests.model.registers.node import Node
from tests.model.registers.records import Record
from tests.model.registers.rounds import Rounds
from tests.model.registers.store import Known, Store


def at_once(self: Node, to: int, message: Any) -> None:
    self.send(to, message)
    self.when_durable(lambda: None)


def learned_only(self: Store, key: int) -> Known:
    learned = self.data.get(key)
    return Known(learned, learned is not None, 0, self.stable)


def by_identity(self: Store, key: int, record: Record) -> None:
    held = self.data.get(key)
    if held is None or record.identity >= held.identity:
        self.data[key] = record
    self.forget_accepted(key)


def drop_old(tend: Any) -> Any:
    def made(self: Node) -> None:
        tend(self)
        for key, row in self.store.unlearned():
            if (
                row.accepted
                and self.world.now - self.accepted_at.get(row.accepted.ballot, 0) > self.world.old_us
            ):
                self.store.rows[key] = row._replace(accepted=None)

    return made


def drop_promises(self: Store) -> None:
    for key, row in list(self.rows.items()):
        if row.accepted is None:
            del self.rows[key]


def promises_nothing(accept: Any) -> Any:
    return lambda self, key, record, following: accept(self, key, record, record.ballot)


ACCEPTORS = [
    Breakage("answers leave before they are durable", [patch(Node, "reply", at_once)]),
    Breakage("acceptors tell what they have learned only", [patch(Store, "known", learned_only)]),
    Breakage("accepted records are dropped when they are old", [around(Node, "tend", drop_old)]),
    Breakage("promises above closed are dropped", [patch(Store, "forget_promises", drop_promises)]),
    Breakage("ballots at or below closed are taken", [constant(Store, "is_closed", False)]),
    Breakage(
        "answers of any entry count",
        [constant(Node, "is_meant", True), constant(Rounds, "begin_anew", None)],
    ),
    Breakage("to accept promises nothing", [around(Store, "accept", promises_nothing)]),
    Breakage("an acceptor accepts below its promise", [constant(Store, "is_promised_away", False)]),
    Breakage("the data is ordered by identities", [patch(Store, "take", by_identity)]),
    Breakage("what was accepted in an earlier tenure is used", [constant(Store, "is_void", False)]),
    Breakage(
        "what is learned by exchange leaves what was accepted", [constant(Store, "forget_accepted", None)]
    ),
]
