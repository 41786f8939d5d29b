"""Cases: scripted turns of a few real nodes, or of a decision alone, in which one rule is what keeps it
right, where whole worlds seldom come by. Each holds, and not where the rule is left out (`mutations`)."""

from tests.simulation.cases import acceptors, batches, members, moves, registers, requests, rows, transactions
from tests.simulation.cases.registry import CASES, Case, shown_by

__all__ = [
    "CASES",
    "Case",
    "acceptors",
    "batches",
    "members",
    "moves",
    "registers",
    "requests",
    "rows",
    "shown_by",
    "transactions",
]
