"""Exchange: two replicas of a partition find out where they differ, mend it, and prove it.

The term is Riak's ("active anti-entropy exchange"); anti-entropy is from Demers et al., "Epidemic
algorithms for replicated database maintenance", 1987. This is the story of one exchange, on either side. What
is decided is in `repair.exchange`, how lists are compared and entries travel in `comparison.py`, when and
with whom exchanges are opened in `scheduler.py`.

    open      Syn: root, certificate, stamps               answered by Same, Listing, Ask or Sums
    respond   the other side of that
    descend   without a certificate: sums of nodes, then of leaves, until the leaves that differ are known
    offer or compare (`comparison.py`)                      Listing, Want, Entries
    conclude  both virtual roots are equal                 Certify, on both sides

What n1 and n2 say when both hold a certificate of sequences 100 at n1 and 90 at n2, and since then n1 has
stored 3 rows that n2 missed, and n2 one that n1 missed:

    n1 -> n2   Syn(mine=100, theirs=90, ahead=3)           n2's root is another: it lists, having less to say
    n2 -> n1   Listing(mine=90, theirs=100, {n2: 17})      the one write that n2 has stored since, by number
    n1 -> n2   Want({n2: 17}), Entries(3 rows)             it lacks that one, and pushes what n2 lacks
    n2 -> n1   Entries(1 row), Certify(sequence=91)        all is durable at n2, whose snapshot was at 91
    n1 -> n2   Certify(sequence=103)                       the roots are equal: certificate (103, 91)

Nothing of the partition is purged while its exchange is open, and no other exchange of it is open on this
node. Whatever goes wrong ends the exchange (`Broken`), and nothing came of it but the entries that were
taken, which do no harm.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.anti_entropy.comparison import NONE, SLICE_ROWS, Comparison, Unlistable
from basestore.anti_entropy.dialogue import Broken, Dialogue, Mismatch, RolledBack, Story
from basestore.anti_entropy.maintenance import Maintenance
from basestore.anti_entropy.pace import Pace
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.anti_entropy import Ask, Certify, Listing, Same, Sums, Syn
from basestore.repair.certificate import Certificate, newer_base
from basestore.repair.digest_tree import (
    ALL_LEAVES,
    FANOUT,
    NODES,
    SHORT_SUM_BYTES,
    STAMP_MAX,
    decode_sums,
    encode_leaves,
    encode_sums,
    leaves_under,
    nodes_of,
    shorten,
)
from basestore.repair.exchange import Completeness, Snapshot, Step, lister, next_step
from basestore.repair.runs import Runs
from basestore.repair.version import COUNTER_BITS
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.losses import Losses
from basestore.replica.replica import Replica

ROOT_BYTES = 8
GROUND_BYTES = 4
UNTOLD = -1
ALL = (NONE, NONE)  # no certificate to build on


def ground_digest(ground: bytes) -> bytes:
    """What a root means something to (`Certificates.ground`)."""
    return blake2b(ground, digest_size=GROUND_BYTES).digest()


@dataclass(frozen=True, slots=True)
class LocalSide:
    """What an exchange works on at this node."""

    group_commit: GroupCommit
    replica: Replica
    identity: StoreIdentity
    certificates: Certificates
    closed_stamps: ClosedStamps
    maintenance: Maintenance
    metrics: Metrics
    pace: Pace
    losses: Losses


class Outcome(NamedTuple):
    """What an exchange has proven, and how: `same`, `delta` or `full`; up to which stamp this side is now
    known to lack only what was purged (STAMP_MAX: it is whole); and `end`, as in `LastExchange`."""

    kind: str
    certificate: Certificate
    complete: int
    end: int


class Exchange:
    """One exchange. `now` is the moment of the present step, `heard_s` when the other side was heard last, or
    this one was at work; `told_s` when it was told that this one is."""

    def __init__(
        self, local: LocalSide, dialogue: Dialogue, member: int, partition: int, known: Runs, now: Instant,
        syn: Syn | None,
    ) -> None:  # fmt: skip
        """`known`: sequences here of what the member is known to hold, though it came after the certificate;
        `syn`: what the member has opened the exchange with, or None where this side opens it."""
        self._local = local
        self._certificates = local.certificates
        self._summary = local.replica.summaries.of[partition]
        self._known = known
        self.dialogue = dialogue
        self.member = member
        self.partition = partition
        self.now = now
        self.begun_s = self.heard_s = self.told_s = now.monotonic
        self.waiting = False
        self.opened_here = syn is None
        self.story: Story[Outcome] = self._open() if syn is None else self._respond(syn)
        self.comparison: Comparison | None = None
        counts = self._certificates.counts(partition)
        self.completeness = Completeness(STAMP_MAX if counts else self._summary.complete)
        self.based = False  # on a certificate
        self._stable = 0  # what stamps in messages count from
        self._their_closed = 0
        self._tag = 0
        self._their_tag = 0

    @property
    def runnable(self) -> bool:
        """Whether the story can go on now."""
        return bool(self.dialogue.inbox) or not self.waiting

    def end(self) -> None:
        """It is over."""
        if self.comparison is not None:
            self.comparison.end()
        self.story.close()

    # --- opening -----------------------------------------------------------------------------

    def _open(self) -> Story[Outcome]:
        """Begin an exchange."""
        yield from self._purge()
        # Only its root and sequence are told. Lists are made of a snapshot taken once the answer is here
        # (`_begin`), so that nothing is kept aside for an exchange that ends with SAME.
        probe = self._snapshot()
        self._stable = self._summary.stable
        base = self._certificates.certificate(self.partition, self.member)
        base = base if base and self._listable(base.mine) else None
        # With no certificate to name, `theirs` has the sequence here: SAME is certified by it.
        mine, theirs = (base.mine, base.theirs) if base else (NONE, probe.sequence)
        self.dialogue.say(
            Syn(
                self.dialogue.number, self.partition, self._seal(probe.root), mine, theirs,
                probe.sequence - mine if base else 0, self._stable, self._relative(probe.closed),
                self.completeness.told, self._certificates.tag(self.partition),
                self._certificates.claims_for(self.partition, self.member), self._above(probe.closed),
            )
        )  # fmt: skip
        answer: Same | Listing | Ask | Sums = yield from self.dialogue.next(Same, Listing, Ask, Sums)
        self.completeness.hear(answer.complete)
        if isinstance(answer, Same):
            yield from self._adopt(answer.stable)
            self._hear_closed(answer)
            return self._proven("same", probe, answer.sequence)
        if isinstance(answer, Sums):
            return (yield from self._descend(answer))
        if isinstance(answer, Ask):
            yield from self._adopt(answer.stable)
            return (yield from self._list(self._base(answer), answer.leaves))
        return (yield from self._compare(answer))

    def _respond(self, syn: Syn) -> Story[Outcome]:
        """Answer an opened exchange."""
        self._agree_on_stores(syn.root)
        self._stable = syn.stable
        self.completeness.hear(syn.complete)
        # Both sides purge up to the same stable stamp before they take snapshots: otherwise what only one
        # of them has purged would look as if the other alone had it, and be brought back.
        yield from self._adopt(0)
        self._hear_closed(syn)
        yield from self._purge()
        snapshot = self._snapshot()
        held = self._certificates.certificate(self.partition, self.member)
        # Either side may have missed the last word of an exchange, so both name what they hold.
        named = self._base(syn) if syn.mine != NONE else None
        base = newer_base(held, named)
        base = base if base and self.completeness.comparable and self._listable(base[0]) else None
        step = next_step(
            equal=syn.root == self._seal(snapshot.root),
            based=base is not None,
            mine=snapshot.sequence - base[0] if base else 0,
            theirs=syn.ahead,
            empty=not self._summary.count,
            peer_empty=syn.root == self._seal(0),
            completeness=self.completeness,
        )
        if step is Step.SAME:
            self._say_same(snapshot)
            # the opener's sequence: with a certificate it is told by how far it is ahead of that
            return self._proven("same", snapshot, syn.mine + syn.ahead if named else syn.theirs)
        if step is Step.TREE:
            return (yield from self._sum_up())
        if step is Step.LIST:
            return (yield from self._list(base or ALL, b"" if base else ALL_LEAVES))
        self._say_ask(base or ALL, b"" if base else ALL_LEAVES)
        return (yield from self._compare((yield from self.dialogue.next(Listing))))

    def _say_same(self, snapshot: Snapshot) -> None:
        stable = self._summary.stable - self._stable
        claims = self._certificates.claims_for(self.partition, self.member)
        tag, closed = self._certificates.tag(self.partition), self._relative(snapshot.closed)
        told = snapshot.sequence, stable, closed, self.completeness.told, tag, claims
        self.dialogue.say(Same(self.dialogue.number, 0, *told, self._above(snapshot.closed)))

    def _say_ask(self, base: tuple[int, int], leaves: bytes) -> None:
        stable, told = self._summary.stable - self._stable, self.completeness.told
        self.dialogue.say(Ask(self.dialogue.number, 0, *base, stable, told, leaves))

    def _relative(self, closed: int) -> int:
        return closed - self._stable if closed >= self._stable and closed else UNTOLD

    def _above(self, closed: int) -> int:
        """By how much more is closed than is told."""
        return max(0, self._summary.closed - closed)

    def _hear_closed(self, said: Syn | Same | Certify) -> None:
        """What the other side enforces, and what it knows of others."""
        closed, above = (0, 0) if said.closed == UNTOLD else (self._stable + said.closed, said.above)
        self._their_closed, self._their_tag = self._credible(closed), said.tag
        self._local.closed_stamps.inherit(self.partition, self._credible(closed + above))
        self._certificates.hear_claims(self.partition, said.claims)
        self._certificates.advance(self.partition)

    def _seal(self, root: int) -> bytes:
        """A root, and the stores and epochs that it means something to: 8 bytes and 4."""
        ground = self._certificates.ground(self.member, self.partition)
        return blake2b(root.to_bytes(16) + ground, digest_size=ROOT_BYTES).digest() + ground_digest(ground)

    def _agree_on_stores(self, seal: bytes) -> None:
        """Broken when the other side speaks of other stores, or under another epoch: one of the two is new,
        and not yet known."""
        if seal[ROOT_BYTES:] != self._seal(0)[ROOT_BYTES:]:
            raise Broken("the stores have changed, or who holds what")

    # --- snapshots ---------------------------------------------------------------------------

    def _adopt(self, beyond: int) -> Story[None]:
        """Take over the other side's stable stamp, so far beyond the Syn's, and purge up to it."""
        self._certificates.adopt(self.partition, self._credible(self._stable + beyond))
        yield from self._purge()

    def _credible(self, stamp: int) -> int:
        """A stable or closed stamp that the other side tells; Broken when it lies in the future, for these
        follow the clocks by a lag."""
        if not 0 <= stamp <= self._local.closed_stamps.time_ms(self.now) << COUNTER_BITS:
            raise Broken("a stamp lies in the future; the clocks differ too much")
        return stamp

    def _base(self, named: Syn | Ask | Listing) -> tuple[int, int]:
        """What the other side builds on, as (sequence here, sequence there); Broken when it cannot be. A
        certificate of more than this store has ever held was made before it was rolled back."""
        base = (named.theirs, named.mine)
        if base != ALL and not (0 <= named.theirs < 1 << 64 and 0 <= named.mine < 1 << 64):
            raise Broken("a certificate is named that cannot be")
        if named.theirs > self._summary.sequence:
            raise RolledBack("a certificate is named of what is not there any more")
        if base != ALL and not isinstance(named, Syn) and not self._listable(base[0]):
            raise Unlistable("the log does not reach back to the certificate")
        return base

    def _listable(self, base: int) -> bool:
        """Whether the log has all that was stored after this. It has after every certificate that counts
        (`Certificates.passed`); if it does not, all that is held is compared, for a list would lack
        something."""
        return base >= self._summary.floor

    def _purge(self) -> Story[None]:
        """What is due is outside all roots: it goes before a snapshot is taken."""
        while self._summary.purged < self._local.maintenance.purgeable(self.partition):
            yield self._local.maintenance.purge(self.partition, SLICE_ROWS)

    def _snapshot(self, *, leaves: bool = False) -> Snapshot:
        """What is held now, and the stamp closed now."""
        # In one step with the snapshot: so it has all that was ever taken at or below this stamp. Closed
        # any later, a write could slip in between, and be neither compared nor refused.
        (closed,) = self._local.closed_stamps.close((self.partition,), self.now)
        self._tag = self._certificates.tag(self.partition)
        return Snapshot(self._summary, leaves=leaves, closed=closed)

    def _begin(self, *, leaves: bool = False) -> Comparison:
        """Compare by a snapshot that is taken now, unless it was begun."""
        if self.comparison is None:
            self.based = not leaves
            local, snapshot = self._local, self._snapshot(leaves=leaves)
            self.comparison = Comparison(
                self.dialogue, local.replica, local.metrics, local.pace, self._known, self.partition, snapshot
            )
        return self.comparison

    # --- without a certificate: which leaves differ ------------------------------------------

    def _sum_up(self) -> Story[Outcome]:
        """The side that was asked: sums of all nodes; then compare the leaves of those that differ."""
        mine, stable = self._begin(leaves=True).snapshot.leaves, self._summary.stable - self._stable
        sums = encode_sums(nodes_of(mine))
        self.dialogue.say(Sums(self.dialogue.number, 0, stable, self.completeness.told, b"", sums))
        answer: Sums = yield from self.dialogue.next(Sums)
        nodes = list(answer.nodes)
        if len(answer.sums) != len(nodes) * FANOUT * SHORT_SUM_BYTES or max(nodes, default=0) >= NODES:
            raise Broken("sums do not fit their nodes")
        theirs = decode_sums(answer.sums)
        leaves = [node * FANOUT + at for node in nodes for at in range(FANOUT)]
        pairs = zip(leaves, shorten(leaves_under(mine, nodes)), theirs, strict=True)
        differing = encode_leaves(leaf for leaf, ours, other in pairs if ours != other)
        if lister(0, 0, self.completeness) is Step.LIST:
            return (yield from self._list(ALL, differing))
        self._say_ask(ALL, differing)
        return (yield from self._compare((yield from self.dialogue.next(Listing))))

    def _descend(self, top: Sums) -> Story[Outcome]:
        """The side that opened: the leaves of the nodes that differ."""
        yield from self._adopt(top.stable)
        mine = self._begin(leaves=True).snapshot.leaves
        theirs = decode_sums(top.sums)
        if len(theirs) != NODES:
            raise Broken("there are not as many sums as nodes")
        pairs = enumerate(zip(shorten(nodes_of(mine)), theirs, strict=True))
        nodes = bytes(node for node, (ours, other) in pairs if ours != other)
        sums = encode_sums(leaves_under(mine, nodes))
        self.dialogue.say(Sums(self.dialogue.number, 0, 0, self.completeness.told, nodes, sums))
        answer: Listing | Ask = yield from self.dialogue.next(Listing, Ask)
        if isinstance(answer, Ask):
            return (yield from self._list(ALL, answer.leaves))
        return (yield from self._compare(answer))

    # --- comparing, and concluding -----------------------------------------------------------

    def _list(self, base: tuple[int, int], leaves: bytes) -> Story[Outcome]:
        comparison = self._begin(leaves=base == ALL)
        stable = self._summary.stable - self._stable
        heading = Listing(self.dialogue.number, 0, *base, stable, self.completeness.told, leaves, b"", False)
        yield from comparison.offer(heading)
        return (yield from self._conclude(comparison, full=base == ALL))

    def _compare(self, listing: Listing) -> Story[Outcome]:
        """What this side alone holds, and the other has purged, is dropped, not pushed."""
        base = self._base(listing)
        if self.comparison is None:  # else the snapshot is taken, and nothing may be purged any more
            yield from self._adopt(listing.stable)
        # Its snapshot counts what is purged here since: the roots would differ, though nothing was lost.
        if self._summary.stable > self._stable + listing.stable:
            raise Broken("the stable stamp has moved on")
        self.completeness.hear(listing.complete)
        comparison = self._begin(leaves=base == ALL)
        purged = self.completeness.purged(self._summary.stable)
        yield from comparison.compare(listing, purged)
        return (yield from self._conclude(comparison, full=base == ALL))

    def _conclude(self, comparison: Comparison, *, full: bool) -> Story[Outcome]:
        """All entries of the other side are here. Equal virtual roots on both sides are the proof."""
        # Certify leaves once all entries taken are durable here (`Dialogue.say`): only then is it a proof.
        snapshot, root = comparison.snapshot, self._seal(comparison.merge.root)
        self.dialogue.say(
            Certify(
                self.dialogue.number, 0, root, snapshot.sequence, self._relative(snapshot.closed),
                self._certificates.tag(self.partition),
                self._certificates.claims_for(self.partition, self.member), self._summary.sequence,
                self._above(snapshot.closed),
            )
        )  # fmt: skip
        theirs: Certify = yield from self.dialogue.next(Certify)
        self._agree_on_stores(theirs.root)
        # A seal is of the stores too, so these are agreed on first: a new store is no sign of loss.
        if theirs.root != root:
            while self.dialogue.unsent:  # the other side must learn of it too: it may be its disk
                yield 1
            raise Mismatch
        comparison.lay_ghosts()
        self._hear_closed(theirs)
        return self._proven("full" if full else "delta", snapshot, theirs.sequence, theirs.end)

    def _proven(self, kind: str, snapshot: Snapshot, sequence: int, end: int = 0) -> Outcome:
        if not 0 <= sequence < 1 << 64:
            raise Broken("a sequence is named that cannot be")
        # one of the stores may have been replaced meanwhile: then no claim is to be built on this proof
        agreed = self._tag == self._their_tag == self._certificates.tag(self.partition)
        tag, closed = self._tag if agreed else 0, (snapshot.closed, self._their_closed)
        made_ms = self._local.closed_stamps.time_ms(self.now)
        certificate = Certificate(snapshot.sequence, sequence, *closed, tag, made_ms)
        complete = self.completeness.proven(self._summary.stable, delta=kind == "delta")
        # Where roots were equal nothing was taken: it had all that at its snapshot.
        return Outcome(kind, certificate, complete, sequence if kind == "same" else end)
