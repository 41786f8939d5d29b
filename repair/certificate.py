"""Certificate: what replicas of a partition have proven about each other, and what follows. Pure.

A *certificate* says: what my store held at sequence `mine` and what the peer's held at `theirs` has been
merged, and both hold the result; durably: the peer by its word, this store once the batch with the
certificate is (`LastExchange.batch`). It speaks of two stores, and means nothing once either member runs on
another.

A *closed stamp* is a replica's own promise: it takes no direct write at or below that stamp any more
(CockroachDB's closed timestamp). It is raised when an exchange begins, and never goes back.

The *claim* of a replica is the least of the closed stamps that it enforced when it took the snapshots
certified with each other replica. The *stable stamp* is the least of all claims. Why every version at or
below it is on all replicas, for good, or beaten there:

    some replica took it first, as a direct write     for what comes any other way was taken by another before
    it did so before it closed that stamp             or it would have refused the write
    so it is in each snapshot of its claim            which were taken after the stamp was closed
    so each other replica has got it since            that is what the certificates prove
    and none will get another such version            all have closed; exchanges find nothing to bring

Claims are told to others with a *tag* of all the stores that they speak of; a claim with another tag is not
believed, nor a certificate of two who did not agree on that tag: else a claim could join proofs about a store
that is gone with proofs about the one that took its place. Where the replicas of a partition may change, the
tag is also of the epoch since which they are these: what a replica has proven with one that leaves, and then
got from it, would otherwise lack in its earlier proofs with those that stay. A certificate made before that
is still a base to compare from; only its closed stamps count for nothing. Stores none of it
(`anti_entropy/certificates.py` does).
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from basestore.repair.runs import Runs

TAG_BYTES = 4
EPOCH_BYTES = 8


class Certificate(NamedTuple):
    """Proof that two replicas hold the same: sequences and closed stamps of both at their snapshots,
    the tag that both had of all replicas (0: they did not agree), and when it was made (ms since 1970, by
    this node's clock)."""

    mine: int
    theirs: int
    my_closed: int
    their_closed: int
    tag: int
    made_ms: int


class LastExchange(NamedTuple):
    """The last exchange with a member that ended with a certificate.

    begun_s     when, by `Instant.monotonic`
    peer_whole  whether the other store counted as whole
    taken       sequences under which entries of the other side are stored here, as runs of origin 0. They
                came after the snapshot, so the certificate does not cover them; but the other side has them
    batch       with this one all of that is durable here; the other side has said so of its part
    stores      of both sides
    end         by which sequence of its own the other side had all that this one's snapshot had, or better
    """

    begun_s: float
    peer_whole: bool
    taken: Runs
    batch: int
    stores: bytes
    end: int = 0

    def holds(self, stores: bytes, durable: int) -> bool:
        """Whether both sides hold all that they must, if they run on these stores: this one once so many
        batches are durable."""
        return self.peer_whole and self.stores == stores and self.batch <= durable


class Claim(NamedTuple):
    """A replica's claim, as far as it is known: a stamp, and the tag of the stores it speaks of."""

    closed: int
    tag: int


def stores_tag(stores: Sequence[bytes], since: int | None = None) -> int:
    """A tag of the stores of all replicas, in their order, and of the epoch `since` which they are these,
    where that is known. With an epoch it is never 0."""
    if since is None:
        return int.from_bytes(blake2b(b"".join(stores), digest_size=TAG_BYTES).digest())
    said = since.to_bytes(EPOCH_BYTES) + b"".join(stores)
    return int.from_bytes(blake2b(said, digest_size=TAG_BYTES).digest()) or 1


def own_claim(certificates: Mapping[int, Certificate], others: Sequence[int], tag: int) -> int:
    """The claim of the replica that holds these certificates with `others`; 0 while one is missing."""
    closed = []
    for other in others:
        certificate = certificates.get(other)
        if certificate is None or certificate.tag != tag:
            return 0
        closed.append(certificate.my_closed)
    return min(closed, default=0)


def stable_stamp(
    own: int,
    certificates: Mapping[int, Certificate],
    others: Sequence[int],
    claims: Mapping[int, Claim],
    tag: int,
) -> int:
    """The stamp up to which all replicas are proven to hold the same: the least of all claims.

    `own` is one's own claim, `others` all other replicas, `claims` what they have told of theirs, believed
    under this `tag`. Of two replicas each knows the other's claim from the certificate.
    """
    stable = own
    for other in others:
        if len(others) == 1:
            stable = min(stable, certificates[other].their_closed if other in certificates else 0)
        else:
            claim = claims.get(other)
            stable = min(stable, claim.closed if claim is not None and claim.tag == tag else 0)
    return stable


def newer_base(mine: Certificate | None, theirs: tuple[int, int] | None) -> tuple[int, int] | None:
    """What an exchange builds on: the newer of the certificate held here and the one that the peer
    names, both as (sequence here, sequence there), for either may have missed the last words of an
    exchange. None when one side has none, or has dropped it: then all that is held is compared."""
    if mine is None or theirs is None:
        return None
    return max((mine.mine, mine.theirs), theirs)
