"""Recovery: how a forgetful node gets back what it may have lost.

It asks the scheduler (`scheduler.py`) for anti-entropy exchanges of every partition that it holds, with the
other replicas of it, and runs none itself. A partition is recovered after exchanges with N - Q + 1 whole
replicas (every write that a quorum ever acknowledged is on one of them), or with all others, whatever their
state: what none of them has is nowhere. When all partitions are recovered, and that is durable, the store is
whole. Where fewer than N - Q + 1 were whole, what was written until then may be gone: in the same batch a
*loss* says so (`replica/losses.py`).

Of a store that only lies elsewhere than it was written perhaps nothing is lost, and an operator can say so
(`repair --as-is`), or that it is an old copy (`serve --forgetful`). As long as that may still be said of a
replica of the partition, a recovery from N - Q + 1 whole ones goes on as ever, but none from all others,
whatever their state: it would bring back what is purged in some of them, and note a loss where there is none.

With three replicas, Q = 2: n1, whose disk was wiped, compares each partition with both n2 and n3 (3 - 2 + 1
of them). One would not do: what n1 and n2 have acknowledged, and n3 has missed, would be gone.

Nothing of this begins before every request has ended that may count on an answer from before the doubt: of
the store's former life, or of this one, where a peer has shown only later that something is lost. A write
acknowledged by a replica that then forgot it, recovered from others that the write had not reached yet, and
was counted beside one of these, would be on too few.
"""

import math

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.scheduler import Scheduler
from basestore.cluster.placement import Placement
from basestore.instant import Instant
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.losses import Losses


class Recovery:
    """Recovery of one node's store, while it is forgetful."""

    def __init__(
        self,
        identity: StoreIdentity,
        certificates: Certificates,
        scheduler: Scheduler,
        placement: Placement,
        losses: Losses,
        request_s_max: float,
    ) -> None:
        """`request_s_max`: how long requests last at most."""
        self._request_s_max = request_s_max
        self._doubts = -1  # as many there were when this began last
        self._identity = identity
        self._certificates = certificates
        self._scheduler = scheduler
        self._placement = placement
        self._losses = losses
        self._peers = losses.peers
        self._begin_s = math.inf  # since the last doubt
        self._noted = -1  # doubts, when losses were noted last

    def tick(self, now: Instant) -> None:
        """Wish for the exchanges that are still lacking."""
        if self._identity.state is not State.FORGETFUL:
            return
        if self._doubts != self._identity.doubts:  # one arose, perhaps anew: begin from the start
            self._doubts, self._begin_s = self._identity.doubts, now.monotonic + self._request_s_max
        if now.monotonic < self._begin_s:
            return
        missing = [p for p in self._placement.held_by(self._peers.me) if not self._recovered(p)]
        if not missing:
            if self._noted != self._doubts:
                self._noted = self._doubts
                self._note_losses(now)
            self._identity.make_whole()
        for partition in missing:
            done, waits = self._done(partition), self._awaits_word(partition)
            for other in self._certificates.others[partition]:
                whole = self._peers.all[other].whole
                # One that was not whole then, and is now, is asked again: only then does it count.
                if (whole and not done.get(other)) or not (waits or other in done):
                    self._scheduler.wish(other, partition)

    def _note_losses(self, now: Instant) -> None:
        """All is recovered that can be: from how many sources each partition was."""
        held = self._placement.held_by(self._peers.me)
        self._losses.note({partition: sum(self._done(partition).values()) for partition in held}, now)

    def take_as_is(self, now: Instant) -> None:
        """An operator says that this is the newest there is of the store. It may be one of many that were
        restored together, so what only the others had is noted as lost, and accepted with that word."""
        if self._identity.take_as_is():
            held = self._placement.held_by(self._peers.me)
            self._losses.note({each: self._certificates.whole(each) for each in held}, now, accepted=True)

    def progress(self) -> tuple[int, int]:
        """Partitions recovered so far, and all."""
        held = self._placement.held_by(self._peers.me) if self._doubts >= 0 else []
        return sum(map(self._recovered, held)), len(held)

    def _done(self, partition: int) -> dict[int, bool]:
        """With whom an exchange begun since has ended with a certificate, and whether they were whole."""
        others, last_exchange = self._certificates.others[partition], self._certificates.last_exchange
        ended = ((other, last_exchange(partition, other)) for other in others)
        return {
            other: last.peer_whole
            for other, last in ended
            # An earlier exchange was of what this store held before it forgot.
            if last is not None and last.begun_s >= self._begin_s
        }

    def _recovered(self, partition: int) -> bool:
        done = self._done(partition)
        if sum(done.values()) >= self._placement.sources_needed:
            return True
        others = set(self._certificates.others[partition])
        return done.keys() >= others and not self._awaits_word(partition)

    def _awaits_word(self, partition: int) -> bool:
        """Whether an operator may still take this store, or that of another replica, as it is."""
        others = self._certificates.others[partition]
        return self._identity.takeable or any(self._peers.all[other].takeable for other in others)
