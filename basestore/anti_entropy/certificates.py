"""Certificates: what this node has proven with others of each partition, and the stamps that follow.

Owns the certificates (`repair.certificate`), stored as CERTIFICATE + partition + member; what others
have told of their claims; and it alone moves `closed` and `stable` in the summaries.

A certificate counts only between the two stores that made it. A store that is not whole, or keeps
nothing on a disk, tells no closed stamp: nothing is ever settled on its word.
"""

from collections.abc import Iterable

import cbor2

from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement
from basestore.instant import Instant
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.summaries import Summaries
from basestore.storage.engine import CERTIFICATE
from repair.certificate import Certificate, Claim, own_claim, stable_stamp, stores_tag
from repair.clock import HybridClock
from repair.version import COUNTER_BITS
from repair.write_repair import split_stores


class Certificates:
    """Certificates, claims and stamps of the partitions that this node holds."""

    def __init__(
        self,
        group_commit: GroupCommit,
        summaries: Summaries,
        identity: StoreIdentity,
        placement: Placement,
        peers: Peers,
        clock: HybridClock,
        lag_ms: int,
        now: Instant,
        *,
        durable: bool,
    ) -> None:
        """`lag_ms`: how far closed stamps stay behind the clock; `durable`: the store is on a disk."""
        self._begin_s = now.monotonic + lag_ms / 1e3
        self._group_commit = group_commit
        self._summaries = summaries
        self._identity = identity
        self._peers = peers
        self._lag_ms = lag_ms
        self._clock = clock
        self._durable = durable
        me = peers.me
        self.replicas = {partition: placement.replicas[partition] for partition in summaries.of}
        self.others = {p: [r for r in replicas if r != me] for p, replicas in self.replicas.items()}
        self._certificates: dict[int, dict[int, tuple[bytes, bytes, Certificate]]] = {}
        self._claims: dict[int, dict[int, Claim]] = {partition: {} for partition in summaries.of}
        self._named: dict[int, tuple[float, dict[int, int]]] = {}  # only copies, by who keeps them
        self.load()

    def load(self) -> None:
        """Certificates as they are stored: at open, and after a batch was not taken."""
        index = {peer.name: peer.index for peer in self._peers.all}
        self._certificates = {partition: {} for partition in self._summaries.of}
        end = bytes((CERTIFICATE[0] + 1,))
        for key, stored in self._group_commit.engine.scan(CERTIFICATE, end):
            partition, name = int.from_bytes(key[1:3]), key[3:].decode()
            mine, theirs, *numbers = cbor2.loads(stored)
            if partition in self._certificates and name in index:
                self._certificates[partition][index[name]] = (mine, theirs, Certificate(*numbers))

    # --- certificates ------------------------------------------------------------------------

    def certificate(self, partition: int, member: int) -> Certificate | None:
        """The newest with this member, if both still run on the stores that made it."""
        held = self._certificates[partition].get(member)
        if held is None or held[0] != self._identity.store or held[1] != self.store(member):
            return None
        return held[2]

    def certificates(self, partition: int) -> dict[int, Certificate]:
        """Those that count, by member."""
        held = ((other, self.certificate(partition, other)) for other in self.others[partition])
        return {other: certificate for other, certificate in held if certificate is not None}

    def passed(self, partition: int) -> int:
        """Up to which sequence every other replica is proven to hold all that is held here, or better; 0
        while there is no proof with one of them. Of what was stored until then no list will be made."""
        if partition not in self.others:
            return 0
        certificates = self.certificates(partition)
        if len(certificates) < len(self.others[partition]):
            return 0
        sequence = self._summaries.of[partition].sequence
        return min((certificate.mine for certificate in certificates.values()), default=sequence)

    def certify(self, partition: int, member: int, certificate: Certificate) -> None:
        """Both hold the same: keep the proof, and draw the conclusions."""
        mine, theirs = self._identity.store, self.store(member)
        self._certificates[partition][member] = (mine, theirs, certificate)
        self._group_commit.stage(self._key(partition, member), cbor2.dumps([mine, theirs, *certificate]))
        self.advance(partition)

    def withdraw(self, partition: int, member: int) -> None:
        """The certificate with this member was found wrong: all that is held is to be compared."""
        if self._certificates[partition].pop(member, None) is not None:
            self._group_commit.stage(self._key(partition, member), None)

    def _key(self, partition: int, member: int) -> bytes:
        return CERTIFICATE + partition.to_bytes(2) + self._peers.all[member].name.encode()

    def store(self, member: int) -> bytes:
        """The store that a member is known to run on; empty when none is."""
        if member == self._peers.me:
            return self._identity.store
        return self._identity.store_of(self._peers.all[member].name)

    def in_use(self, partition: int, stores: bytes) -> bool:
        """Whether a replica of the partition runs on one of these stores."""
        used = {self.store(replica) for replica in self.replicas.get(partition, ())}
        return not used.isdisjoint(split_stores(stores))

    def stores(self, member: int) -> bytes:
        """This node's store and that member's, in one order on both sides."""
        first, second = sorted((self._peers.me, member))
        return self.store(first) + self.store(second)

    # --- claims and the stable stamp -----------------------------------------------------------

    def tag(self, partition: int) -> int:
        """Of the stores that all replicas are known to run on. With up to three replicas each pair of
        certificates that makes a claim speaks of all, so that no tag need be agreed on: 0."""
        return 0 if len(self.others[partition]) < 3 else self._tag(partition)

    def _tag(self, partition: int) -> int:
        return stores_tag([self.store(replica) for replica in self.replicas[partition]])

    def claims_for(self, partition: int, member: int) -> list[int]:
        """What to tell this member of other claims than its own: member, stamp and tag, in turn."""
        if len(self.others[partition]) < 2:
            return []  # each knows the other's from the certificate
        own = own_claim(self.certificates(partition), self.others[partition], self.tag(partition))
        known = {self._peers.me: Claim(own, self._tag(partition)), **self._claims[partition]}
        return [
            number
            for other, claim in known.items()
            if other != member and claim.closed
            for number in (other, claim.closed, claim.tag)
        ]

    def hear_claims(self, partition: int, told: list[int]) -> None:
        """Another replica tells what it knows of claims. Of the same stores the greatest is the newest."""
        tag = self._tag(partition)
        claims = self._claims[partition]
        for member, closed, claim_tag in zip(told[::3], told[1::3], told[2::3], strict=True):
            if member in self.others[partition] and claim_tag == tag:
                known = claims.get(member)
                if known is None or known.tag != tag or closed > known.closed:
                    claims[member] = Claim(closed, tag)
        self.advance(partition)

    def advance(self, partition: int) -> None:
        """Raise the stable stamp to what is proven by now."""
        others = self.others[partition]
        certificates = self.certificates(partition)
        own = own_claim(certificates, others, self.tag(partition))
        stable = stable_stamp(own, certificates, others, self._claims[partition], self._tag(partition))
        self.adopt(partition, stable)

    def adopt(self, partition: int, stable: int) -> None:
        """Another replica's stable stamp, or a newer one of this: it holds for all."""
        summary = self._summaries.of[partition]
        if stable > summary.stable:
            summary.stable = stable
            summary.closed = max(summary.closed, stable)
            self._summaries.touch(partition)
            self._group_commit.effect(lambda: self._summaries.show(partition, stable))

    def held_back_by(self, partition: int) -> dict[int, int]:
        """By replica, this one included: the claim that is known of it, 0 while none is."""
        others = self.others[partition]
        tag = self._tag(partition)
        claims = {self._peers.me: own_claim(self.certificates(partition), others, self.tag(partition))}
        for other in others:
            certificate = self.certificate(partition, other)
            claim = self._claims[partition].get(other)
            if len(others) == 1:
                claims[other] = 0 if certificate is None else certificate.their_closed
            else:
                claims[other] = claim.closed if claim is not None and claim.tag == tag else 0
        return claims

    def reach(self, partition: int) -> list[tuple[int, int, int]]:
        """Each other replica: up to which stamp there is a proof with it, and up to which there is one of
        it with all others, as it has told; 0 while there is none."""
        certificates = self.certificates(partition)
        claims = self.held_back_by(partition)
        return [
            (other, min(held.my_closed, held.their_closed) if held else 0, claims[other])
            for other in self.others[partition]
            for held in (certificates.get(other),)
        ]

    def stalled_by(self, partition: int, stamp: int) -> list[int]:
        """The replicas because of which this stamp is not stable, as far as this node can tell."""
        reach = self.reach(partition)
        behind = [other for other, proof, _ in reach if proof < stamp]
        return behind or [other for other, _, claim in reach if claim < stamp]

    # --- the closed stamp --------------------------------------------------------------------

    def close(self, partition: int, now: Instant) -> int:
        """Raise the closed stamp to what the clock allows, as long as that can be trusted, and no hint
        is known that is the only copy of a write. Returns what may be told of it."""
        summary = self._summaries.of[partition]
        if self._peers.clock_sure and self._identity.whole and self._has_listened(now):
            stamp = min((now.wall_ms - self._lag_ms) << COUNTER_BITS, self._least_only_copy(partition, now))
            if len(self._peers.all) == 1:  # nobody can tell whether this clock is right
                stamp = min(stamp, self._clock.last)
            if stamp > summary.closed:
                summary.closed = stamp
                self._summaries.touch(partition)
        return self.told_closed(partition)

    def _has_listened(self, now: Instant) -> bool:
        """Whether, since the store was opened, every member has named the only copies that it keeps, or had
        as much time for it as the lag gives."""
        return now.monotonic >= self._begin_s or len(self._named) == len(self._peers.all)

    def close_alone(self, now: Instant) -> None:
        """Of a partition with no other replica all is stable that is closed."""
        for partition, others in self.others.items():
            if not others and self.close(partition, now):
                self.adopt(partition, self._summaries.of[partition].closed)

    def told_closed(self, partition: int) -> int:
        """The closed stamp, for others to build on; 0 while this store's word does not count."""
        return self._summaries.of[partition].closed if self._identity.whole and self._durable else 0

    def inherit(self, partition: int, closed: int) -> None:
        """A store that is not whole takes over what another has closed."""
        summary = self._summaries.of[partition]
        if not self._identity.whole and closed > summary.closed:
            summary.closed = closed
            self._summaries.touch(partition)

    def hear_only_copies(self, member: int, named: Iterable[int], now: Instant) -> None:
        """A member names the partitions of which it keeps only copies, and their least stamps."""
        told = list(named)
        copies = {told[at]: told[at + 1] for at in range(0, len(told) - 1, 2)}
        self._named[member] = (now.monotonic, copies)

    def _least_only_copy(self, partition: int, now: Instant) -> int:
        """Below the stamps of all only copies that were named within the lag."""
        stamps = [
            copies[partition] - 1
            for heard_s, copies in self._named.values()
            if partition in copies and now.monotonic - heard_s < self._lag_ms / 1e3
        ]
        return min(stamps, default=(1 << 64) - 1)
