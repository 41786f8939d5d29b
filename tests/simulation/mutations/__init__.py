"""Mutations: the bugs themselves, by what they spoil. Each replaces a function of the product by a
wrong one."""

from tests.simulation.mutations import (
    clocks,
    counting,
    deadlines,
    durability,
    exchanges,
    finality,
    handoff,
    hints,
    links,
    loss_horizons,
    openings,
    proofs,
    reads,
    sessions,
    stores,
    summary_logs,
    verdicts,
    versions,
)
from tests.simulation.mutations.registry import MUTANTS, SURVIVORS, Mutant

__all__ = [
    "MUTANTS",
    "SURVIVORS",
    "Mutant",
    "clocks",
    "counting",
    "deadlines",
    "durability",
    "exchanges",
    "finality",
    "handoff",
    "hints",
    "links",
    "loss_horizons",
    "openings",
    "proofs",
    "reads",
    "sessions",
    "stores",
    "summary_logs",
    "verdicts",
    "versions",
]
