"""Proof: the end of every trouble in a drill: all replicas are proven to hold the same.

It is what `basestore converged` asks for: not a look at what nodes hold, but what they have proven to each
other.
"""

from basestore.drill.report import NotSo, Report
from basestore.drill.simulation import Simulation

CLAIM = "all replicas are proven equal"
AGAIN_MAX, AGAIN_S = 20, 0.5  # in which all have the same digest


def tell_proof(simulation: Simulation, report: Report) -> None:
    """Wait for it, and tell of it; NotSo if it does not come."""
    for _ in range(AGAIN_MAX):
        found = simulation.prove(0)
        if not found.proven:
            raise NotSo(CLAIM, "; ".join(obstacle.text for obstacle in found.obstacles))
        (proof,) = found.partitions
        if proof.digest is not None:
            break
        simulation.rest(AGAIN_S)  # what is settled is being purged, by one sooner than by another
    digest = proof.digest.hex() if proof.digest is not None else ""
    report.claim(
        CLAIM,
        holds=bool(digest),
        found=f"{proof.count} records with digest {digest or 'none'} on {' '.join(proof.replicas)}, "
        f"{found.waited_s:.2f} s after the proof was asked for",
    )
    report.note(records=proof.count, digest=digest, proven_after_s=round(found.waited_s, 6))
