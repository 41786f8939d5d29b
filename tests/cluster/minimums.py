"""Minimums: what a soak must have met, in proportion to its time, or it has proven nothing.

A mild world must not pass for a hard one: a run whose counts, for each minute under faults, fall
under these has failed, whatever the checkers say. What depends on the speed of the machine is about
a sixth of what two busy cores reached (nodes, clients and the relay together). The first seconds do
not count: few faults have struck by then.
"""

from collections import Counter
from collections.abc import Collection

LEAD_S = 4.0
PER_MINUTE = {
    "faults": 40,
    "set QUORUM stored": 1000, "set QUORUM superseded": 10, "set QUORUM lost": 200,
    "set QUORUM refused": 100, "set QUORUM timeout": 4, "set ALL stored": 60, "set ONE stored": 60,
    "set ANY stored": 60, "delete QUORUM stored": 150, "get QUORUM found": 1200, "get ALL found": 500,
    "get ONE found": 120, "scan QUORUM found": 120,
    "Unavailable": 200, "Unreachable": 100, "WriteTimeout": 10, "ReadTimeout": 10, "ConnectionLost": 15,
    "repeated with its version": 10,
}  # fmt: skip
RELAY_PER_MINUTE = {"half-closed": 1, "reset": 1, "reset after a hole": 10, "bytes swallowed": 10_000}
FAULT_PER_MINUTE = 1  # of each kind


def shortfalls(counts: Counter[str], seconds: float, kinds: Collection[str]) -> list[str]:
    """What was met too rarely, of all that is common to every run and of these kinds of faults."""
    wanted = PER_MINUTE | {f"fault: {kind}": FAULT_PER_MINUTE for kind in kinds}
    if "reset" in kinds:
        wanted |= RELAY_PER_MINUTE
    faults = sum(count for name, count in counts.items() if name.startswith("fault: "))
    met = counts | Counter(faults=faults)
    share = max(0.0, seconds - LEAD_S) / 60
    return [
        f"{name}: {met[name]}, at least {int(least * share)} expected"
        for name, least in wanted.items()
        if met[name] < int(least * share)
    ]
