"""Rules of Raft left out, on real nodes: those that `tests/consensus` leaves out of the library alone, one by
one. What a seed of whole worlds seldom comes by is caught by the scripted case, or the seed, that it has
there."""

from functools import partial

from tests.consensus.mutants import MUTANTS as OF_RAFT
from tests.consensus.mutants import Mutant as OfRaft
from tests.consensus.mutants import patches
from tests.simulation.mutations.registry import LOG, MUTANTS, ONE, Mutant, Patch, of


def _patched(rule: OfRaft) -> list[Patch]:
    return list(patches(rule))


UPSET = (
    "leader gone", "leader still", "leader apart", "majority stopped", "voter wiped", "crash", "power",
    "crash after ack", "power after ack", "wipe", "pause", "isolate",
)  # fmt: skip

EXPECTED = LOG | {"crash"}

MUTANTS += [
    Mutant(f"raft: {each.name}", EXPECTED, partial(_patched, each), of(*UPSET), rule=each.name, clients=ONE)
    for each in OF_RAFT
]
