"""Bugs of losses: what is known to be lost, up to which moment, and of what."""

from typing import Any
from unittest.mock import patch

from basestore.anti_entropy.birth import Birth
from basestore.handoff.hints import Hints
from basestore.replica import losses
from basestore.replica.losses import Losses
from basestore.results.cluster_view import ClusterView
from tests.simulation.mutations.registry import MUTANTS, Mutant, mutant, of

LOSSES = {"losses", "converged", "sessions", "staleness"}
_damaged = Hints.damaged


@mutant("a damaged only copy ends in silence", LOSSES, Hints, "damaged", "torn")
def _damaged_in_silence(self: Any, pile: Any, row: bytes, hint: Any, now: Any) -> None:
    _damaged(self, pile, row, hint._replace(only_copy=False, late=False), now)


MUTANTS.append(
    Mutant(
        "a loss after clocks that were ahead has no day more",
        LOSSES,
        lambda: [patch.object(losses, "AWAY_MS", 0)],
        of("alone"),
    )
)


@mutant("a recovered store notes no loss", LOSSES, Losses, "note", "wipe", "rollback", "alone")
def _note_nothing(self: Any, sources: Any, now: Any, *, accepted: bool = False) -> None:
    pass


_lost = Losses._lost


@mutant("a loss as early as its sources' last stamp", LOSSES, Losses, "_lost", "wipe", "rollback", "alone")
def _lost_early(self: Any, partition: int, sources: int, now: Any) -> Any:
    row = _lost(self, partition, sources, now)
    return row and row._replace(upto=row.upto - (5000 << 16))


@mutant("a receipt is proven past a loss", LOSSES, ClusterView, "may_lack", "alone", "ruin")
def _lack_nothing(self: Any, partition: int, writes: Any) -> bool:
    return False


@mutant("a loss is accepted as it is found", LOSSES, Losses, "note", "doubtful", "ruin")
def _note_accepted(self: Any, sources: Any, now: Any, *, accepted: bool = False) -> None:
    _note(self, sources, now, accepted=True)


_note = Losses.note


@mutant("the birth of a cluster lies before all that was written", LOSSES, Birth, "_settle", "ruin")
def _born_long_ago(self: Any, stamp: int) -> None:
    _settle(self, 1)


_settle = Birth._settle


@mutant("the birth of a cluster is not stored", LOSSES, Birth, "_keep", "ruin")
def _keep_nothing(self: Any, stamp: int) -> None:
    self._settle(stamp)
    self._news = True
