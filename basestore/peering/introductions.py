"""Introductions: two nodes tell each other which stores they run on, before either counts on the other.

Owns the conversation of every new link (`replica/identity.py` draws a replica's part of the conclusions):
what is said, what a peer's answer makes of it here (`introduced`, `remembered`, `noted` and `whole` of
`Peer`), and that this node, once its store has become whole or has ceased to be, tells all. Judges no data;
sends no heartbeats. What is remembered of a member's store goes when the member has left.

A store that turns out to have lost something goes on under a new id, and with new links: whoever drives
the node is asked for these by `take_relink`.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from basestore.cluster.outbox import Outbox
from basestore.cluster.peer import Peer
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.heartbeats import Confirmed, Remembered, StoreClaim
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import Fresh, StoreIdentity


class Introductions:
    """This node's side of all of them."""

    def __init__(
        self,
        identity: StoreIdentity,
        peers: Peers,
        group_commit: GroupCommit,
        fresh: Fresh,
        take_proof_of_loss: Callable[[], int | None],
    ) -> None:
        """`take_proof_of_loss`: a member that was found, since it was last asked, to have a certificate of
        what this store does not hold any more."""
        self._relink = False
        self._identity = identity
        self._peers = peers
        self._group_commit = group_commit
        self._fresh = fresh
        self._take_proof_of_loss = take_proof_of_loss
        self._stores = 0
        self._introduced = False  # a peer, since `settle`
        self._takeable = identity.takeable  # as all peers have been told
        peers.watch(leave=self._part)
        for former in (peer for peer in peers.named.values() if peer.gone):
            identity.forget(former.name)
        self.handlers: dict[type, Callable[[int, Outbox, Any, Instant], None]] = {
            StoreClaim: self.hear_claim,
            Remembered: self.hear_remembered,
            Confirmed: self.hear_confirmed,
        }

    def _part(self, peer: Peer, now: Instant) -> None:
        """It has left; or this node has, and its store counts for nothing any more. (Who comes is not waited
        for while this node runs: it knows of no earlier opening of this store.)"""
        if peer.index == self._peers.me:
            self._identity.retired = True
        elif all(each.name != peer.name for each in self._peers.present):  # else its name is another's by now
            self._identity.forget(peer.name)

    def dismiss(self, member: int, now: Instant) -> None:
        """This member, which has proven to hold the cluster's key, says that this node has left the cluster:
        it was removed while it was down, and its own log does not know yet. It links nobody from now on, and
        serves nothing. That is kept nowhere: started again, it is told again."""
        self._peers.dismiss(member, now)

    def _fresh_store(self) -> bytes:
        """A further store id for this open of the store, should it have to start over."""
        self._stores += 1
        text = self._fresh.generation + self._stores.to_bytes(4)
        return hashlib.blake2b(text, digest_size=16).digest()

    def take_relink(self) -> bool:
        """Whether links are to be made anew; told once."""
        relink, self._relink = self._relink, False
        return relink

    def tick(self, now: Instant) -> None:
        """Begin anew with peers with whom it has led to nothing, for something was lost."""
        for peer in self._peers.unintroduced(now):
            peer.outbox.put(self._identity.claim(again=True))

    def settle(self, now: Instant) -> None:
        """Count on whom is remembered durably by now. Notice when this store has become whole, or has ceased
        to be, and tell the peers. Called after all that can decide it: what peers have said, and what has
        become durable."""
        identity, peers = self._identity, self._peers
        if self._introduced:
            self._introduced = False
            for peer in peers.others:
                peers.judge(peer, now)
        proof_of_loss = self._take_proof_of_loss()
        if proof_of_loss is not None:
            identity.rolled_back(peers.all[proof_of_loss].name, self._fresh_store())
            self._relink = True
        # A newborn store is made whole by a row, and none is staged on top of a batch that was refused.
        if identity.birth and not self._group_commit.stalled and identity.born():
            identity.make_whole()
        counts, takeable = identity.counts, identity.takeable
        # Told at once, not with the next heartbeat: peers send nothing to a store that they believe not to
        # be whole, count too much on one that is whole no more, and wait for what an operator says of it.
        if peers.alive[peers.me] != counts or self._takeable != takeable:
            self._takeable = takeable
            peers.set_alive(peers.me, counts)
            for peer in peers.others:
                peer.outbox.put(identity.claim())

    def hear_claim(self, member: int, outbox: Outbox, message: StoreClaim, now: Instant) -> None:
        """Which store a peer runs on. It is answered with what is remembered of it here."""
        peer = self._peers.all[member]
        if self._identity.hear_claim(outbox, peer.name, message):
            self._introduce(peer, outbox, message)
        peer.whole, peer.takeable = message.whole, message.takeable
        if message.again:
            outbox.put(self._identity.claim())
        self._peers.judge(peer, now)

    def hear_remembered(self, member: int, outbox: Outbox, message: Remembered, now: Instant) -> None:
        """What a peer remembers of this store. If that is more than the store holds, the store has been
        rolled back: it starts over, and links are made anew, for the old ones speak of the old store."""
        peer = self._peers.all[member]
        peer.remembered = self._identity.hear_remembered(outbox, peer.name, message, self._fresh_store())
        peer.noted |= peer.remembered and message.generation == self._group_commit.generation
        if not peer.remembered:
            self._relink = True
        self._peers.judge(peer, now)

    def hear_confirmed(self, member: int, outbox: Outbox, message: Confirmed, now: Instant) -> None:
        """What is remembered here of a peer's store is still there: it can be counted on once its present
        opening is remembered instead."""
        peer = self._peers.all[member]
        if self._identity.hear_confirmed(outbox, peer.name, message):
            self._introduce(peer, outbox, message)

    def _introduce(self, peer: Peer, outbox: Outbox, said: StoreClaim | Confirmed) -> None:
        """What is remembered of a peer suffices to count on it, as soon as it is durable."""

        def introduce() -> None:
            remembered = self._identity.remembers(peer.name, said.store, said.generation)
            if remembered and peer.outbox is outbox and not outbox.closed:
                peer.introduced = self._introduced = True

        # A power cut could take back what is only in memory: then nobody could tell that this store lost
        # what it took meanwhile.
        if not peer.introduced:
            self._group_commit.when_durable(introduce)
