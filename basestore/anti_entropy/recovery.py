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

Where replicas change while the node runs, it may be given a partition: what it holds of that counts for
nothing until it is *fit*. This is to be forgetful in one partition only, and ends by the same count, of those
that have held the partition until now. So it is where this node has been away for so long that it cannot tell
whether it has kept its seat all the time. For whom an operator has said to be dead nobody waits: where too
few others are left, that is a loss too.

Nothing of this begins before every request has ended that may count on an answer from before the doubt: of
the store's former life, or of this one, where a peer has shown only later that something is lost. A write
acknowledged by a replica that then forgot it, recovered from others that the write had not reached yet, and
was counted beside one of these, would be on too few. A member that has just been added, and was never given
anything, has no former life: its store need not wait (`membership/newcomer.py`).
"""

import math
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.exchange import LocalSide
from basestore.anti_entropy.scheduler import Scheduler
from basestore.cluster.seating import Seating, in_turn
from basestore.instant import Instant
from basestore.repair.seats import Seats, Stage
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.losses import Losses
from basestore.replica.summaries import COMES, DOUBTED

FILL_S = 1.0
MEET_MAX = 256  # partitions of which a barred member wishes for proofs at once


class Recovery:
    """Recovery of one node's store, while it is forgetful, or of partitions that it was given."""

    def __init__(self, local: LocalSide, scheduler: Scheduler, request_s_max: float) -> None:
        """`request_s_max`: how long requests last at most."""
        self._request_s_max = request_s_max
        self.waits: Callable[[], bool] = lambda: False  # it is not known here yet who holds what
        self.is_new: Callable[[], bool] = lambda: False  # nothing was given to this member before
        self._doubts = -1  # as many there were when this began last
        self._local = local
        self._identity: StoreIdentity = local.identity
        self._certificates: Certificates = local.certificates
        self._summaries = local.replica.summaries
        self._scheduler = scheduler
        self._losses: Losses = local.losses
        self._peers = local.losses.peers
        self._begin_s = -math.inf  # what was proven earlier was before the last doubt
        self._bereft_s = -math.inf  # since then a member is dead that was not
        self._noted = -1  # doubts, when losses were noted last
        self._fill_due_s = -math.inf  # when what was given is wished for again
        self._heard = 0  # what others had said that they have finished, when proofs were wished for last
        self._met_last = -1  # the last partition of which that was, as one that is barred there
        for partition, how in self._summaries.foreseen.items():
            self._doubt(partition) if how == DOUBTED else self._take_up(partition)

    @property
    def seating(self) -> Seating:
        """What it goes by."""
        return self._certificates.seating

    @property
    def known(self) -> tuple[int | None, AbstractSet[int]]:
        """The epoch of the last drop that it goes by, None without a topology; and who is dead."""
        return self._certificates.seating.dropped_since, self._certificates.seating.dead

    # --- seats -----------------------------------------------------------------------------------

    def foresee(
        self, seats: Mapping[int, Seats], now: Instant, given_up: Collection[int] = (),
        left_of: Mapping[int, int] | None = None, *, unsure: Collection[int] = (),
    ) -> None:  # fmt: skip
        """In the batch that makes the node use these at its next opening, if not before: what it is given by
        them, or has to doubt, is unfit then too. As `adopt` takes them. `given_up`: of these this node does
        not hold any by what it is to use before them; `left_of`: of those that held them so many were left,
        and what only the others had is lost."""
        for partition, of in seats.items():
            if self._peers.me not in of.both:
                continue
            how = COMES if partition in given_up else self._news(partition, unsure)
            if how:
                self._summaries.foresee_unfit(partition, how)
        self.note_lost(
            {at: left for at, left in (left_of or {}).items() if self._peers.me in seats[at].both}, now
        )

    def adopt(
        self, seats: Mapping[int, Seats], dropped_since: int, now: Instant, *,
        dead: AbstractSet[int] = frozenset(), unsure: Collection[int] = (),
    ) -> None:  # fmt: skip
        """From now on these partitions have these seats, in members' indices: all that have changed, and at
        first all. `dead`: members that are, by an operator's word: they leave without proof. `unsure`: what
        happened between is not known, and this node may have given these up, and been given them again."""
        local, seating = self._local, self._certificates.seating
        self._fill_due_s = -math.inf  # what is begun by this is wished for now
        held = {partition: of for partition, of in seats.items() if self._peers.me in of.both}
        gone = [each for each in seats if each not in held and each in self._certificates.others]
        ended = self._certificates.others if dropped_since != seating.dropped_since else seats
        self._scheduler.exchanges.end_of(list(ended), "who holds it is changing")
        self._scheduler.forget(gone)
        for partition in gone:
            local.maintenance.give_up(partition)
            self._certificates.give_up(partition)
            local.replica.let_go(partition)
            self._summaries.let_go(partition)
        for partition, of in held.items():
            how = self._news(partition, unsure)
            self._certificates.seat(partition, of, dead)
            if how == COMES:
                self._take_up(partition)
                local.maintenance.hold(partition, now)
            elif how == DOUBTED:
                self._doubt(partition)
        if dead - seating.dead:
            self._bereft_s = now.monotonic
        seating.dropped_since, seating.dead = dropped_since, dead
        self._identity.dead = frozenset(self._peers.all[each].name for each in dead)

    def _news(self, partition: int, unsure: Collection[int]) -> bytes:
        """How a partition that is held from now on is to become unfit, if it is."""
        if partition not in self._certificates.others:
            return COMES
        return DOUBTED if partition in unsure else b""

    def _take_up(self, partition: int) -> None:
        """It was given to this store: what that holds of it, from another time, counts for nothing."""
        self._summaries.hold(partition)
        summary = self._summaries.of[partition]
        summary.lost = max(summary.lost, self._identity.birth)
        self._losses.hold(partition)
        self._doubt(partition)

    def _doubt(self, partition: int) -> None:
        self._summaries.make_unfit(partition)
        self._certificates.take_up(partition)

    # --- what is lacking -------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Wish for the exchanges that are still lacking."""
        if self.waits():
            return
        forgetful = self._identity.state is State.FORGETFUL
        if forgetful and self._doubts != self._identity.doubts:  # one arose, perhaps anew: from the start
            self._doubts, self._begin_s = self._identity.doubts, now.monotonic + self._request_s_max
        if now.monotonic < self._begin_s:
            if not self.is_new():
                return
            self._begin_s = -math.inf  # it had no former life on which anybody counts
        for partition in self._summaries.unfit - self._summaries.fitting:
            self._fill(partition, now)
        again = now.monotonic >= self._fill_due_s
        if again or self._heard != self._certificates.finishing.news:
            self._heard = self._certificates.finishing.news
            self._meet()
        if again:
            self._fill_due_s = now.monotonic + FILL_S
        if not forgetful:
            return
        missing = [partition for partition in self._held if not self._recovered(partition)]
        if not missing:
            if self._noted != self._doubts:
                self._noted = self._doubts
                self.note_losses(now)
            self._identity.make_whole()
        for partition in missing:
            self._wish(partition, self._done(partition), again=again)

    @property
    def _held(self) -> list[int]:
        """What counts by this store as a whole."""
        unfit = self._summaries.unfit
        return [partition for partition in self._certificates.others if partition not in unfit]

    def _wish(self, partition: int, done: Mapping[int, bool], *, again: bool) -> None:
        """`again`: of those, too, with whom it has ended, and who did not count."""
        waits, sources = self._awaits_word(partition), self._certificates.sources[partition]
        for other in self._certificates.others[partition]:
            whole = self._peers.all[other].whole
            # One that was not whole then, and is now, is asked again: only then does it count. It may lack
            # this partition all the same; so not all the time, or others would never have their turn.
            counts = other not in done or (other in sources and again)
            if (whole and not done.get(other) and counts) or not (waits or other in done):
                self._scheduler.wish(other, partition)

    def _fill(self, partition: int, now: Instant) -> None:
        """One that this node was given: until it is fit, wish for what is lacking."""
        done = self._done(partition)
        sources = self._sources(partition, done)
        # Who comes goes by those that have held it, while one is left; who may have held it all the time, as
        # in `_recovered`.
        certificates, seating = self._certificates, self._certificates.seating
        alone = seating.orphaned(partition) or not seating.comes(partition, self._peers.me)
        # With fewer, others that come may have got more of those that are dead by now.
        enough, covered = len(sources) >= certificates.meeting(partition), seating.covered(partition, sources)
        if enough or ((alone or covered) and self._exhausted(partition, done)):
            if not enough:
                self._losses.note({partition: len(sources)}, now)
            self._summaries.make_fit(partition)
            self._scheduler.exchanges.end_of((partition,), "this store is whole by now")
        elif now.monotonic >= self._fill_due_s:
            self._wish(partition, done, again=True)

    def _meet(self) -> None:
        """Who is to hold a partition, and is asked beside those that hold it, proves with each of these anew
        that both hold the same: only then may these leave. So does who is barred, with those that are not:
        only then is it taken in. Where some are barred, what they had may be with one that is to hold it."""
        certificates, seating = self._certificates, self._certificates.seating
        for partition in seating.moving:
            seats = seating.seats[partition]
            if seats.stage is Stage.JOINT and self._peers.me in seats.new:
                barred = partition in seating.barred
                self._prove(partition, (certificates.others if barred else certificates.sources)[partition])
        for partition in in_turn(seating.out, self._met_last, MEET_MAX):
            self._met_last = partition
            self._prove(partition, set(certificates.others[partition]) - seating.barred[partition])

    def _prove(self, partition: int, sources: Collection[int]) -> None:
        """Wish for exchanges with those of these with whom one would prove something that is not proven."""
        certificates = self._certificates
        if certificates.counts(partition):
            proves, store_of = certificates.finishing.proves, certificates.finishing.acceptor_of
            for source in set(sources) - certificates.met(partition):
                if proves(partition, source, store_of(source), math.inf):
                    self._scheduler.wish(source, partition)

    def note_losses(self, now: Instant) -> None:
        """All is recovered that can be: from how many sources each partition was. One that is to be filled
        went with the store, too; should it be filled from too few that is noted then. So may one have that is
        only given to this node later, for it may be behind."""
        done = {partition: self._done(partition) for partition in self._held}
        sources = {partition: len(self._sources(partition, of)) for partition, of in done.items()}
        # Though this node only comes, by what it knows: it may be behind, and have held it for long before.
        sources |= {each: self._certificates.meeting(each) for each in self._summaries.unfit}
        self._losses.note(sources, now)
        if not self.is_new():
            self._losses.note_hints(now)
            self._losses.note_store(now)

    def note_lost(self, left: Mapping[int, int], now: Instant) -> None:
        """Of these partitions so many are left of those that had what may be lost."""
        if left:
            self._losses.note(left, now)

    def note_dead(self, now: Instant) -> None:
        """A member is given up for dead, and with it the hints that it kept."""
        self._losses.note_hints(now)

    @property
    def takeable(self) -> bool:
        """Whether an operator's word that the store is the newest there is decides anything. Of one that only
        waits for others: none that is whole is there."""
        whole = any(peer.introduced and peer.whole for peer in self._peers.others)
        return self._identity.takeable or (self._identity.unconfirmed and not whole)

    def take_as_is(self, now: Instant) -> None:
        """An operator says that this is the newest there is of the store. It may be one of many that were
        restored together, or older than what those that are gone had: so what only the others had is noted as
        lost, and accepted with that word; and so may hints be."""
        if not self.takeable or self._local.group_commit.stalled:  # behind a refused batch nothing is staged
            return
        self._identity.take_as_is()
        self._losses.note({each: self._certificates.whole(each) for each in self._held}, now, accepted=True)
        self._losses.note_hints(now)
        self._losses.note_store(now)

    def progress(self) -> tuple[int, int]:
        """Partitions recovered so far, and all."""
        held = self._held if self._doubts >= 0 else []
        return sum(map(self._recovered, held)), len(held)

    def _done(self, partition: int) -> dict[int, bool]:
        """With whom an exchange begun since has ended with a certificate, and whether they were whole."""
        others, last_exchange = self._certificates.others[partition], self._certificates.last_exchange
        ended = ((other, last_exchange(partition, other)) for other in others)
        # An earlier exchange was of what this store held before it forgot. And what is to be filled may have
        # to make do with those that are left: with what they have got by now.
        unfit = partition in self._summaries.unfit
        since_s = max(self._begin_s, self._bereft_s) if unfit else self._begin_s
        return {
            other: last.peer_whole for other, last in ended if last is not None and last.begun_s >= since_s
        }

    def _recovered(self, partition: int) -> bool:
        done = self._done(partition)
        enough = len(self._sources(partition, done)) >= self._certificates.meeting(partition)
        return enough or self._exhausted(partition, done)

    def _sources(self, partition: int, done: Mapping[int, bool]) -> list[int]:
        """The whole ones among these of those that have held it."""
        return [source for source in self._certificates.sources[partition] if done.get(source)]

    def _exhausted(self, partition: int, done: Mapping[int, bool]) -> bool:
        """Whether there is nobody else from whom more could be got."""
        others = set(self._certificates.others[partition]) - self._certificates.seating.dead
        return done.keys() >= others and not self._awaits_word(partition)

    def _awaits_word(self, partition: int) -> bool:
        """Whether an operator may still take this store, or that of another replica, as it is."""
        others = self._certificates.others[partition]
        return self._identity.takeable or any(self._peers.all[other].takeable for other in others)
