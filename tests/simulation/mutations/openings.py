"""Bugs of openings and introductions: which store a node runs on, and what it may have forgotten."""

from typing import Any
from unittest.mock import patch

from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.peer_memory import PeerMemory
from basestore.peering.introductions import Introductions
from basestore.replica.identity import StoreIdentity
from tests.simulation.mutations.registry import MUTANTS, STALE, mutant

FORGOT = STALE | {"whole", "losses", "quorums", "recovery", "converged", "receipts", "convergence"}
_hear_remembered = StoreIdentity.hear_remembered


@mutant("two forgetful stores believe each other", FORGOT, StoreIdentity, "hear_remembered", "heirs")
def _believe_the_forgetful(self: Any, outbox: Any, name: str, said: Any, fresh_store: bytes) -> Any:
    return _hear_remembered(self, outbox, name, said._replace(forgetful=False), fresh_store)


@mutant("sequences never persisted", FORGOT, StoreIdentity, "tick", "blackout")
def _write_nothing_down(self: Any, now: Any) -> None:
    self._unwritten.clear()


@mutant("a peer's sequence is not heard", FORGOT, StoreIdentity, "hear_sequence", "blackout", "twins")
def _hear_nothing(self: Any, name: str, generation: bytes, sequence: int) -> None:
    pass


@mutant("a memory gives way before it is confirmed", FORGOT, StoreIdentity, "hear_claim", "blackout", "twins")
def _believe_at_once(self: Any, outbox: Any, name: str, said: Any) -> Any:
    known = self._peers.get(name)
    if known is not None and known.store == said.store:
        known = known._replace(generation=said.generation, sequence=said.sequence)
        self._remember(name, known)
    return _hear_claim(self, outbox, name, said)


_hear_claim = StoreIdentity.hear_claim


@mutant("a store that was given up is welcome again", FORGOT, StoreIdentity, "hear_claim", "outlived")
def _welcome_back(self: Any, outbox: Any, name: str, said: Any) -> Any:
    known = self._peers.get(name)
    if known is not None:
        self._peers[name] = known._replace(given_up=[])
    return _hear_claim(self, outbox, name, said)


@mutant("a cut log goes unnoticed", FORGOT, StoreIdentity, "_reopen", "log cut", "rollback")
def _reopen_in_good_faith(self: Any, stored: bytes, fresh: Any) -> None:
    engine = self._group_commit.engine
    loss, engine.loss = engine.loss, ""
    _reopen(self, stored, fresh._replace(held=0))
    engine.loss = loss


_reopen = StoreIdentity._reopen


@mutant("a newborn store waits for nobody", FORGOT, StoreIdentity, "born", "wipe", "ambushes")
def _born_at_once(self: Any) -> bool:
    return bool(self.state.value == "newborn")


@mutant("recovery counts exchanges of the store's former life", FORGOT, Recovery, "_done", "swaps")
def _count_old(self: Any, partition: int) -> Any:
    begin_s, self._begin_s = self._begin_s, float("-inf")
    done = _done(self, partition)
    self._begin_s = begin_s
    return done


@mutant(
    "recovery counts stores that are forgetful themselves", FORGOT, Recovery, "_done", "stores", "ambushes",
    model="whole after one peer",
)  # fmt: skip
def _count_the_forgetful(self: Any, partition: int) -> Any:
    return dict.fromkeys(_done(self, partition), True)


_done = Recovery._done


@mutant(
    "a store that has lost something says nothing", FORGOT, Introductions, "take_relink", "stores", "rollback"
)
def _never_relink(self: Any) -> bool:
    return False


@mutant(
    "a peer counts before it is durable which store it runs on", FORGOT, Introductions, "_introduce",
    "unknown",
)  # fmt: skip
def _introduce_at_once(self: Any, peer: Any, outbox: Any, said: Any) -> None:
    peer.introduced = self._introduced = True


@mutant(
    "a store counts before any peer has vouched, or knows of its opening", FORGOT, StoreIdentity,
    "counts", "unknown", "blackout",
)  # fmt: skip
def _count_unnoted(self: Any) -> bool:
    return bool(self.state.value == "whole")


MUTANTS[-1] = MUTANTS[-1]._replace(
    patches=lambda: [patch.object(StoreIdentity, "counts", property(_count_unnoted))]
)


@mutant("of openings that a peer has only heard of it keeps nothing", FORGOT, PeerMemory, "opened", "unknown")
def _hear_of_none(self: Any, generation: bytes) -> Any:
    return self


@mutant(
    "stores that only lie elsewhere recover from each other", FORGOT | {"losses"}, Recovery,
    "_awaits_word", "all moved",
)  # fmt: skip
def _await_nobody(self: Any, partition: int) -> bool:
    return False


_lost = StoreIdentity._lost


@mutant("how much a store held is not compared with what it holds", FORGOT, StoreIdentity, "_lost", "ruin")
def _hold_anything(self: Any, fresh: Any) -> str:
    return _lost(self, fresh._replace(held=0))
