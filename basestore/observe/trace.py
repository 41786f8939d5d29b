"""Trace: what a member says of one row, for `basestore explain`.

Everything is as it is at this moment. Nothing is changed: a damaged record is said to be damaged, and not
even noted.
"""

from basestore.anti_entropy.certificates import Certificates
from basestore.cluster.peers import Peers
from basestore.cluster.placement import row_partition
from basestore.handoff.hints import Hints
from basestore.observe.status import state
from basestore.protocol.operator import DAMAGED, LATE, ONLY_COPY, UP, Reach, Trace, Traced, TracedHint
from basestore.replica.identity import StoreIdentity
from basestore.replica.replica import Replica
from repair.write_repair import Hint


def trace(
    message: Trace,
    identity: StoreIdentity,
    peers: Peers,
    replica: Replica,
    hints: Hints,
    certificates: Certificates,
) -> Traced:
    """What this node knows of a row."""
    record, said = replica.trace(message.row), state(identity)
    if record is None and said == UP:
        said = DAMAGED
    kept = hints.of_row(message.row)
    told = [TracedHint(peers.number_of[member], _sort_of(hint), hint.record.head) for member, hint in kept]
    partition, stable = row_partition(message.row), 0
    reach: list[Reach] = []
    if partition in certificates.replicas:
        stable = replica.summaries.of[partition].shown
        known = certificates.reach(partition)
        reach = [Reach(peers.number_of[member], proof, claim) for member, proof, claim in known]
    return Traced(message.id, said, record or b"", told, stable, reach)


def _sort_of(hint: Hint) -> int:
    return ONLY_COPY * hint.only_copy + LATE * hint.late
