"""Bugs of links: who counts as known and as alive. And of what is summed up of a store."""

from typing import Any
from unittest.mock import patch

from basestore.cluster.peers import Peers
from basestore.replica.summary_log import SummaryLog
from tests.simulation.mutations.registry import MUTANTS, STALE, Mutant, Patch, mutant


@mutant("a member counts before it is introduced", STALE | {"recovery", "strangers"}, Peers, "judge")
def _count_strangers(self: Any, peer: Any, now: Any) -> None:
    introduced, remembered = peer.introduced, peer.remembered
    peer.introduced = peer.remembered = True
    _judge(self, peer, now)
    peer.introduced, peer.remembered = introduced, remembered


_judge = Peers.judge


_link, _unlink = Peers.link, Peers.unlink


def _known_for_ever() -> list[Patch]:
    def link(self: Any, index: int, now: Any) -> Any:
        peer = self.all[index]
        known = peer.introduced, peer.remembered
        outbox = _link(self, index, now)
        peer.introduced, peer.remembered = known
        self.judge(peer, now)
        return outbox

    def unlink(self: Any, index: int, outbox: Any, now: Any) -> bool:
        peer = self.all[index]
        known = peer.introduced, peer.remembered
        done: bool = _unlink(self, index, outbox, now)
        peer.introduced, peer.remembered = known
        return done

    return [patch.object(Peers, "link", link), patch.object(Peers, "unlink", unlink)]


MUTANTS.append(Mutant("who was introduced once is known on every link", {"strangers"}, _known_for_ever))


@mutant(
    "a checkpoint drops log records before its sums are stored",
    {"counts", "mismatches", "log", "crash"},
    SummaryLog,
    "_write_sums",
)
def _skip_sums(self: Any, most: int) -> None:
    self._sums.clear()


@mutant("a line that was replaced stays in the log", {"log", "mismatches", "crash"}, SummaryLog, "enter")
def _keep_line(self: Any, rows: Any, heads: Any, helds: Any) -> Any:
    return _enter(self, rows, heads, [held[:-8] + bytes(8) if held else held for held in helds])


_enter = SummaryLog.enter


@mutant("a sum is not undone", {"counts", "mismatches", "crash"}, SummaryLog, "enter")
def _add_only(self: Any, rows: Any, heads: Any, helds: Any) -> Any:
    helds = [b"" if len(row) % 2 else held for row, held in zip(rows, helds, strict=True)]
    return _enter(self, rows, heads, helds)


@mutant("a goodbye is ignored by who hears it", {"goodbyes"}, Peers, "goodbye", "stop")
def _never_parted(self: Any, index: int, now: Any) -> None:
    pass
