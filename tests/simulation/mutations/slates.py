"""Bugs of the slate: what a flush does with the log, and what is left of it when its batch is refused."""

from typing import Any

from basestore.proofs import Proofs
from basestore.slate import Slate
from tests.simulation.mutations.registry import mutant

LACKING = {"log", "mismatches", "convergence"}


@mutant("lines are dropped on the word of one replica", {"floors", *LACKING}, Proofs, "passed")
def _passed_by_one(self: Any, partition: int) -> int:
    certificates = self.certificates(partition).values()
    return max((certificate.mine for certificate in certificates), default=0)


_deal = Slate._deal


@mutant("a pack goes before its lines are stored", LACKING, Slate, "_deal")
def _lose_lines(self: Any, page: Any, last: int, most: int, passed: Any) -> int:
    floor = page.ledger.floor
    dealt = _deal(self, page, last, most, lambda _: 1 << 63)
    page.ledger.floor = floor
    return dealt


_undo = Slate.undo


@mutant("what a refused flush has moved stays so", {"crash", *LACKING}, Slate, "undo", "disk full")
def _keep_moved(self: Any) -> None:
    self._staged = (self._staged[0], [])
    _undo(self)


@mutant("lines of a refused batch stay in the log", {"crash", "counts", *LACKING}, Slate, "undo", "disk full")
def _keep_lines(self: Any) -> None:
    lengths = {page: list(page.lines) for page in self.pages.values()}
    _undo(self)
    for page, lines in lengths.items():
        page.lines = lines
