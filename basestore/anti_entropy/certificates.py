"""Certificates: what this node has proven with other replicas, and the stable stamps that follow.

Owns the certificates (`repair.certificate`): one for each partition and other replica, the newest, stored
under partition and name. It alone moves the stable stamp of a summary. It does not compare
anything (`exchange.py` does), and closes nothing (`closed_stamps.py`).

A certificate counts only between the two stores that made it: it names both, and once either member runs on
another store it is as if it were not there.

Under a topology the replicas of a partition may change while the node runs (`seat`): those that compare are
then all that hold it, or are to. A certificate stays, as a base to compare from, whatever changes; a claim is
only made of those with the present *tag*, of the stores and of the epoch since which they hold the partition.
So a replica that comes holds back the stable stamp until all are proven to hold the same as it.

An example, with three replicas n1, n2 and n3 of partition 7. What each has closed is written as a number
(really a stamp):

    n1 and n2 compare; n1 had closed 40, n2 38      both keep a certificate: (40, 38)
    n1 and n3 compare; n1 had closed 44, n3 41      n1's *claim* is the least that it closed: min(40, 44) = 40
    n2 and n3 compare; n2 had closed 43, n3 45      n2's claim is min(38, 43) = 38, n3's min(41, 45) = 41
    n3 tells n1 these claims in a later exchange    stable = min(40, 38, 41) = 38 at n1: every version at
                                                    or below 38 is on all three replicas, for good

Of this opening of the store only, `last_exchange` is kept beside each certificate: the exchange that made it.
"""

from collections.abc import Callable, Collection, Iterable

import cbor2

from basestore.cluster.finishing import Finishing
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement
from basestore.cluster.seating import Seating
from basestore.repair.certificate import (
    EPOCH_BYTES,
    Certificate,
    Claim,
    LastExchange,
    own_claim,
    stable_stamp,
    stores_tag,
)
from basestore.repair.digest_tree import STAMP_MAX
from basestore.repair.runs import Runs
from basestore.repair.seats import Seats
from basestore.repair.write_repair import split_stores
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.summaries import Summaries
from basestore.storage import keyspace

DEPARTED_MAX = 16  # stores of a partition that have left it, the last ones
# Lines of the log that are kept for a replica that comes: far more than are in memory
# (`replica/summary_log.py`), for of what is there an open exchange may be about to make a list.
BACKLOG_MAX = 1_000_000


class Certificates:
    """Certificates, claims and stamps of the partitions that this node holds. `seating` says who else does;
    `compared`, `others`, `sources` and `meeting` are its. `finishing`: which proofs are of all accepted."""

    def __init__(
        self, group_commit: GroupCommit, summaries: Summaries, identity: StoreIdentity,
        placement: Placement, peers: Peers,
    ) -> None:  # fmt: skip
        self._group_commit = group_commit
        self._summaries = summaries
        self._identity = identity
        self._peers = peers
        seating = Seating(peers.me, {each: placement.seats[each] for each in summaries.of})
        self.seating, self.meeting = seating, seating.meeting
        self.finishing = Finishing(seating, peers, group_commit.when_durable, self.store)
        self.compared, self.others, self.sources = seating.compared, seating.others, seating.sources
        self.followed: Callable[[int], int] = lambda partition: STAMP_MAX  # `feeds/followers.py` says
        self._strangers: dict[int, list[str]] = {}  # with whom there are others, of no use now
        self._certificates = self._load()
        self._claims: dict[int, dict[int, Claim]] = {partition: {} for partition in summaries.of}
        # What follows from the stores that the members run on, as of this many changes of them.
        self._changes, self._stores = -1, list[bytes]()
        self._tags: dict[tuple[int | None, tuple[int, ...]], int] = {}
        self._last_exchanges: dict[tuple[int, int], LastExchange] = {}  # by partition and member
        self._durable: dict[tuple[int, int], LastExchange] = {}  # those before them, as far as they are
        self._departed = {p: split_stores(group_commit.get(keyspace.departed(p)) or b"") for p in self.others}

    def _load(self) -> dict[int, dict[int, tuple[bytes, bytes, Certificate]]]:
        named = self._peers.named
        loaded: dict[int, dict[int, tuple[bytes, bytes, Certificate]]] = {p: {} for p in self._summaries.of}
        for key, stored in self._group_commit.scan(*keyspace.certificates()):
            partition, name = keyspace.certificate_of(key)
            mine, theirs, *numbers = cbor2.loads(stored)
            if partition in loaded and name in named:
                loaded[partition][named[name].index] = (mine, theirs, Certificate(*numbers))
            else:
                self._strangers.setdefault(partition, []).append(name)
        return loaded

    # --- seats -------------------------------------------------------------------------------

    def seat(self, partition: int, seats: Seats, without: Collection[int] = ()) -> None:
        """This partition, which is held here or is to be, has these seats from now on, in members' indices.
        `without`: members that have left it without proof."""
        left = self.seating.seat(partition, seats).difference(without)
        self._tags = {}
        self._claims[partition] = {}
        for other in seats.both:  # what was proven before says nothing of what was acknowledged since
            for each in (self._last_exchanges, self._durable):
                each.pop((partition, other), None)
        held = self._certificates.setdefault(partition, {})
        # No lines are kept for who holds it no more: should it come back, all is compared with it.
        for member in held.keys() - set(seats.both):
            self.withdraw(partition, member)
        known, back = self._departed.get(partition, []), set(map(self.store, seats.both))
        # Who holds it again may have taken more since, and leave without proof the next time.
        departed = [store for store in known if store not in back]
        departed += filter(None, map(self.store, sorted(left)))
        if departed != known:
            self._departed[partition] = departed = departed[-DEPARTED_MAX:]
            self._group_commit.stage(keyspace.departed(partition), b"".join(departed))

    def take_up(self, partition: int) -> None:
        """What was proven of this partition by what the store held of it before proves nothing any more."""
        for name in self._strangers.pop(partition, ()):
            self._group_commit.stage(keyspace.certificate(partition, name), None)
        for member in list(self._certificates.get(partition, ())):
            self.withdraw(partition, member)

    def give_up(self, partition: int) -> None:
        """This node has no seat in it any more."""
        self.take_up(partition)
        self._group_commit.stage(keyspace.departed(partition), None)
        self.seating.give_up(partition)
        for each in (self._claims, self._certificates, self._departed):
            each.pop(partition, None)

    def counts(self, partition: int) -> bool:
        """Whether this store is whole, and holds what it must of the partition."""
        return self._identity.counts and partition not in self._summaries.unfit

    def whole(self, partition: int) -> int:
        """How many of its sources are whole, as far as this node has heard."""
        return sum(self._peers.all[other].whole for other in self.sources[partition])

    def all_heard(self, partition: int) -> bool:
        """Whether each of them is here, and has said whether it is whole."""
        peers = self._peers.all
        return all(peers[other].linked and peers[other].introduced for other in self.sources[partition])

    def recoverable(self, partition: int) -> bool:
        """Whether enough of them are whole: what a quorum has acknowledged is on these."""
        return self.whole(partition) >= self.meeting(partition)

    # --- certificates ------------------------------------------------------------------------

    def certificate(self, partition: int, member: int) -> Certificate | None:
        """The newest with this member, if both still run on the stores that made it."""
        held = self._certificates[partition].get(member)
        stores = self._known_stores()  # as in `certificates`, of one
        if held is None or held[0] != stores[self._peers.me] or held[1] != stores[member]:
            return None
        return held[2] if member in self.others[partition] else None

    def certificates(self, partition: int) -> dict[int, Certificate]:
        """Those that count, by member."""
        # A store that was replaced has not got what the one before it was proven to hold.
        stores, certificates, me = self._known_stores(), self._certificates[partition], self._peers.me
        held = {other: certificates[other] for other in self.others[partition] if other in certificates}
        return {other: of[2] for other, of in held.items() if of[0] == stores[me] and of[1] == stores[other]}

    def passed(self, partition: int) -> int:
        """Up to which sequence every other replica is proven to hold all that is held here, or better (0
        while there is no proof with one of them), and who follows it has been told all. Of what was stored
        until then no list will be made. For a replica that comes no more than `BACKLOG_MAX` are kept: then
        all that is held is compared with it."""
        if partition not in self.others:
            return 0
        certificates, sequence = self.certificates(partition), self._summaries.of[partition].sequence
        passed = min(sequence, self.followed(partition))
        for other in self.others[partition]:
            reached = certificates[other].mine if other in certificates else 0
            if self.seating.comes(partition, other):
                reached = max(reached, sequence - BACKLOG_MAX)
            passed = min(passed, reached)
        return passed

    def certify(self, partition: int, member: int, certificate: Certificate) -> None:
        """Both hold the same: keep the proof, and draw the conclusions."""
        mine, theirs = self._identity.store, self.store(member)
        self._certificates[partition][member] = (mine, theirs, certificate)
        self._group_commit.stage(self._key(partition, member), cbor2.dumps([mine, theirs, *certificate]))
        self.advance(partition)

    def withdraw(self, partition: int, member: int) -> None:
        """The certificate with this member was found wrong: all that is held is to be compared."""
        self._durable.pop((partition, member), None)
        if self._certificates[partition].pop(member, None) is not None:
            self._group_commit.stage(self._key(partition, member), None)

    def withdraw_all(self, partition: int) -> None:
        """Nothing that was proven of this partition may be built on."""
        for each in list(self._certificates[partition]):
            self.withdraw(partition, each)

    def remember(
        self, partition: int, member: int, begun_s: float, *, peer_whole: bool, end: int = 0,
        taken: Runs | None = None,
    ) -> None:  # fmt: skip
        """This exchange has made the newest certificate with the member, which was staged just now
        (`certify`): with its batch all that came before is durable. `end`: as in `LastExchange`."""
        before, stores = self._last_exchanges.get((partition, member)), self.stores(member)
        if before is not None and before.holds(stores, self._group_commit.durable_sequence):
            self._durable[partition, member] = before
        last = LastExchange(begun_s, peer_whole, taken or {}, self._group_commit.open_batch, stores, end)
        self._last_exchanges[partition, member] = last

    def last_exchange(self, partition: int, member: int) -> LastExchange | None:
        """The exchange that made the newest certificate with the member, if it was since the opening, and
        the certificate still counts: a store that has been given up since may have been an old copy."""
        # Recovery counts by these: a member whose proof is void must be compared with again.
        counts = self.certificate(partition, member) is not None
        return self._last_exchanges.get((partition, member)) if counts else None

    def met(self, partition: int) -> set[int]:
        """With which of those that hold it, or are to, this store was proven to hold the same, durably, and
        in this opening since its seats changed: those that held all that they must, and had finished."""
        finishing, durable = self.finishing, self._group_commit.durable_sequence
        return {
            each
            for each in self.others[partition]
            for last in (self.last_exchange(partition, each), self._durable.get((partition, each)))
            if last and last.holds(self.stores(each), durable)
            if finishing.proves(partition, each, finishing.acceptor_of(each), last.begun_s)
        }

    def known_to(self, partition: int, member: int) -> Runs:
        """What a member is known to hold although it came after the certificate: it came from there."""
        return exchange.taken if (exchange := self.last_exchange(partition, member)) else {}

    def _key(self, partition: int, member: int) -> bytes:
        return keyspace.certificate(partition, self._peers.all[member].name)

    def store(self, member: int) -> bytes:
        """The store that a member is known to run on; empty when none is."""
        return self._known_stores()[member]

    def _known_stores(self) -> list[bytes]:
        """Of all members. They hardly ever change, and are asked for with every step of a proof."""
        identity = self._identity
        if self._changes != identity.changes or len(self._stores) != len(self._peers.all):
            self._changes = identity.changes
            self._stores = [b"" if p.gone else identity.store_of(p.name) for p in self._peers.all]
            self._stores[self._peers.me] = identity.store
            self._tags = {}
        return self._stores

    def in_use(self, partition: int, stores: bytes) -> bool:
        """Whether a replica of the partition runs on one of these stores, or did until others had all that
        it held."""
        used = {*map(self.store, self.compared.get(partition, ())), *self._departed.get(partition, ())}
        return not used.isdisjoint(split_stores(stores))

    def ground(self, member: int, partition: int) -> bytes:
        """What a root of the partition means something to, the same on both sides: this node's store and that
        member's, and under a topology the epochs since which both stand where they do. Who stands elsewhere
        may act for other replicas, or hold rows of a bucket that is no more."""
        return self.stores(member) + self._epochs(self.seating.since(partition))

    def common_ground(self, member: int, partitions: Iterable[int]) -> bytes:
        """The same of roots of many partitions. Under a topology their tags are in it, of the epochs and of
        all stores: who agrees on it need not be told them."""
        tags = (self.tag(each) if each in self.others else None for each in partitions)
        return self.stores(member) + (self._epochs(*tags) if self.seating.known else b"")

    def stores(self, member: int) -> bytes:
        """This node's store and that member's, in one order on both sides."""
        first, second = sorted((self._peers.me, member), key=self._peers.number_of.__getitem__)
        return self.store(first) + self.store(second)

    def _epochs(self, *numbers: int | None) -> bytes:
        if self.seating.dropped_since is None:
            return b""
        epochs = (self.seating.dropped_since, *numbers)
        return b"".join([each.to_bytes(EPOCH_BYTES) for each in epochs if each is not None])

    # --- claims and the stable stamp -----------------------------------------------------------

    def tag(self, partition: int) -> int:
        """Of the stores that all replicas are known to run on, and under a topology of the epoch. Without
        one, with up to three replicas, each pair of certificates that makes a claim speaks of all, so that
        no tag need be agreed on: 0."""
        return 0 if not self.seating.known and len(self.others[partition]) < 3 else self._tag(partition)

    def _tag(self, partition: int) -> int:
        replicas, stores = self.compared[partition], self._known_stores()
        since = self.seating.since(partition)
        tag = self._tags.get((since, replicas))
        if tag is None:
            tag = stores_tag([stores[replica] for replica in replicas], since)
            self._tags[since, replicas] = tag
        return tag

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
            for number in (self._peers.number_of[other], claim.closed, claim.tag)
        ]

    def hear_claims(self, partition: int, told: list[int]) -> None:
        """Another replica tells what it knows of claims. Of the same stores the greatest is the newest.
        Conclusions are drawn by `advance`."""
        tag = self._tag(partition)
        claims = self._claims[partition]
        for number, closed, claim_tag in zip(told[::3], told[1::3], told[2::3], strict=True):
            member = self._peers.index_of.get(number, -1)
            if member in self.others[partition] and claim_tag == tag:
                known = claims.get(member)
                if known is None or known.tag != tag or closed > known.closed:
                    claims[member] = Claim(closed, tag)

    def advance(self, partition: int) -> None:
        """Raise the stable stamp to what is proven by now."""
        others = self.others[partition]
        certificates = self.certificates(partition)
        own = own_claim(certificates, others, self.tag(partition))
        stable = stable_stamp(own, certificates, others, self._claims[partition], self._tag(partition))
        self.adopt(partition, stable)
        # All others have given what this store may have lacked.
        if self.counts(partition) and len(certificates) == len(others):
            self._keep(partition, STAMP_MAX)

    def adopt(self, partition: int, stable: int) -> None:
        """Another replica's stable stamp, or a newer one of this: it holds for all."""
        summary = self._summaries.of[partition]
        if stable > summary.stable:
            # A store in doubt hears the stamp before it has got what the other one holds.
            if not self.counts(partition):
                summary.kept = summary.complete
            summary.stable = stable
            # Proven: nothing new comes at or below it, so it is closed too. Others build on it: they hear of
            # it only once it is durable.
            summary.closed = max(summary.closed, stable)
            self._summaries.touch(partition)
            self._group_commit.when_durable(lambda: self._summaries.show(partition, stable))

    def complete(self, partition: int, stamp: int) -> bool:
        """This store, which is in doubt, was found to lack only what was purged, up to this stamp. Whether
        that is news."""
        news = stamp > self._summaries.of[partition].complete
        if news:
            self._keep(partition, stamp)
        return news

    def _keep(self, partition: int, stamp: int) -> None:
        summary = self._summaries.of[partition]
        if summary.kept != stamp:
            summary.kept = stamp
            self._summaries.touch(partition)

    def incomplete(self, partition: int) -> None:
        """This store lacks something, and not because it was purged."""
        self._keep(partition, 0)

    def held_back_by(self, partition: int) -> dict[int, int]:
        """By replica, this one included: the claim that is known of it, 0 while none is."""
        others = self.others[partition]
        tag, pair_tag = self._tag(partition), self.tag(partition)
        claims = {self._peers.me: own_claim(self.certificates(partition), others, pair_tag)}
        for other in others:
            certificate = self.certificate(partition, other)
            claim = self._claims[partition].get(other)
            if len(others) == 1:
                sound = certificate is not None and certificate.tag == pair_tag
                claims[other] = certificate.their_closed if certificate is not None and sound else 0
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
