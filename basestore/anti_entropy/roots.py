"""Roots: one exchange of many partitions at once, where two replicas expect that nothing differs.

Most of the time nothing does. So who opens a round (`scheduler.py`) names all *plain* partitions of it in one
message, and is told in one which of them are the same; of these both sides conclude exactly what an exchange
that ends with Same concludes (`exchange.py`), in one batch. All others are left to exchanges of their own.

    n1 -> n2   Roots(partitions 1, 2, 3, ...)        each with root, sequence, stable and closed stamp, claims
    n2         has other roots of 2, and is just comparing 3 with n3
    n2 -> n1   SameRoots(1, ...)                      n2 keeps a certificate of 1
    n1         keeps one of 1, and opens exchanges of 2 and 3

A partition is plain at the side that names it while

    both stores are whole                     nobody has to find out what was lost, and what was purged
    there is a certificate with the peer      and it is still the same one when the answer is here: if another
                                              exchange has made a newer one, or it was found wrong, the
                                              answer says nothing
    nothing is held that is due for purge     else what one side has purged would look like a difference
    no exchange of it is open, nor is it to be scrubbed or healed first

The side that answers holds each against the same, adopts the greater stable stamp first, and refuses what was
named of more than it has ever held, or of less than its own certificate speaks of: what that means is found
out by an exchange. Roots are told whole, 16 bytes, with a digest of what they mean something to: both
stores, and under a topology the epochs and the tags of all that is named. So tags need not be told, and who
stands at another epoch answers that nothing is the same. What is said leaves once all that it speaks of is
durable. It keeps no copy of anything: roots and sequences are those of one moment, the one at which the
stamps are closed. Maintenance leaves alone what is named until the answer is here.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from basestore.anti_entropy.exchange import LocalSide, ground_digest
from basestore.cluster.outbox import SMALL_BYTES, Outbox, weight
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.anti_entropy import ROOTS_MAX, Roots, SameRoots
from basestore.protocol.codec import Message
from basestore.protocol.limits import ProtocolError
from basestore.repair.certificate import Certificate
from basestore.repair.digest_tree import SUM_BYTES
from basestore.repair.version import COUNTER_BITS

SILENCE_S_MAX = 15.0
REST_S = 3.0  # a proof of what is at rest is not renewed before
SEALED_TAGS_SINCE = 10  # version of the wire: Roots without tags, which are in its digest
COST = 10  # of naming a partition, or judging one that is named, in rows of a list


class _Turn(NamedTuple):
    """Partitions to be compared with a member, and how many of them at most by exchanges of their own."""

    partitions: Sequence[int]
    most: int


class _Told(NamedTuple):
    """What one side says of a partition at one moment, as in `Roots` and `SameRoots`."""

    sequence: int
    stable: int
    closed: int
    tag: int
    claims: list[int]


class _Asked(NamedTuple):
    """What was named to a member: the certificate that each partition had, and what was told of it."""

    number: int
    begun_s: float
    ground: bytes
    most: int
    partitions: list[int]
    held: list[Certificate]
    told: list[_Told]

    @property
    def named(self) -> frozenset[int]:
        return frozenset(self.partitions)


class RootComparison:
    """Of one node, with all its peers. `named`: by partition, to how many members it was named that have not
    answered yet."""

    def __init__(self, local: LocalSide, peers: Peers, may_open: Callable[[int], bool], first: int) -> None:
        """`may_open`: whether an exchange of a partition could be opened now; `first`: a number."""
        self._local = local
        self._peers = peers
        self._certificates = local.certificates
        self._summaries = local.replica.summaries
        self._may_open = may_open
        self._number = first
        self._turns: dict[int, _Turn] = {}
        self._asked: dict[int, _Asked] = {}
        self._heard: dict[int, tuple[Outbox, Roots, float]] = {}  # and when
        self._answers: dict[int, SameRoots] = {}
        self._changed: dict[int, tuple[int, int]] = {}  # sequences, and the stamps when they were first seen
        self.named: dict[int, int] = defaultdict(int)
        self.handlers: dict[type, Callable[[int, Outbox, Any, Instant], None]] = {
            Roots: self._hear_roots,
            SameRoots: self._hear_answer,
        }

    # --- what comes in, and when it is seen to -------------------------------------------------

    def ask(self, member: int, partitions: Sequence[int], most: int) -> None:
        """Compare these with a member in the next `run`, those first that come first; by exchanges of their
        own at most so many."""
        self._turns[member] = _Turn(partitions, most)

    def _hear_roots(self, member: int, outbox: Outbox, said: Roots, now: Instant) -> None:
        """A peer names partitions. One that asks anew does not wait for an answer any more."""
        others = self._certificates.others
        known = self._certificates.seating.known or self._peers.unknowing()
        # Under a topology one of the two may be at an earlier epoch: then nothing is the same.
        if not (known or all(member in others.get(partition, ()) for partition in said.partitions)):
            raise ProtocolError("the root of a partition that is not held by both was told")
        self._heard[member] = outbox, said, now.monotonic

    def _hear_answer(self, member: int, outbox: Outbox, said: SameRoots, now: Instant) -> None:
        asked = self._asked.get(member)
        if asked is None or asked.number != said.number:
            return  # it comes too late
        if said.places and said.places[-1] >= len(asked.partitions):
            raise ProtocolError("a partition is said to be the same that was not named")
        self._answers[member] = said

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do in `run` just now."""
        return not (self._turns or self._answers or self._answerable)

    @property
    def _answerable(self) -> bool:
        # While a disk does not keep up nothing new begins; what a peer has asked can wait.
        return bool(self._heard) and not self._local.group_commit.full

    def run(self, now: Instant) -> list[tuple[int, int]]:
        """Ask, answer and conclude, as far as this step's rows last. Called while nothing is staged. Returns
        members and partitions of which exchanges are to be opened."""
        left: list[tuple[int, int]] = []
        pace = self._local.pace
        while self._answers and pace.rows_left > 0:
            member, answer = self._answers.popitem()
            left += ((member, partition) for partition in self._conclude(member, answer, now))
        while self._answerable and pace.rows_left > 0:
            member, (outbox, said, heard_s) = self._heard.popitem()
            self._answer(member, outbox, said, heard_s, now)
        while self._turns and pace.rows_left > 0:
            member, turn = self._turns.popitem()
            left += ((member, partition) for partition in self._take_turn(member, turn, now))
        return left

    def tick(self, now: Instant) -> None:
        """Wait no more for an answer that does not come."""
        for member, asked in list(self._asked.items()):
            if now.monotonic - asked.begun_s > SILENCE_S_MAX:
                self._forget(member)

    def lost(self, member: int) -> None:
        """The link to a member is gone."""
        self._forget(member)
        self._turns.pop(member, None)
        self._heard.pop(member, None)

    def end_of(self, partitions: Collection[int]) -> None:
        """The seats of these have changed: what was named with one of them is not waited for any more."""
        for member, asked in list(self._asked.items()):
            if not asked.named.isdisjoint(partitions):
                self._forget(member)
        for member, turn in self._turns.items():  # some may not be held any more
            left = [each for each in turn.partitions if each not in partitions]
            self._turns[member] = turn._replace(partitions=left)
        for partition in partitions:
            self._changed.pop(partition, None)

    def _forget(self, member: int) -> None:
        self._answers.pop(member, None)
        asked = self._asked.pop(member, None)
        for partition in asked.partitions if asked is not None else ():
            self.named[partition] -= 1
            if not self.named[partition]:
                del self.named[partition]

    # --- naming --------------------------------------------------------------------------------

    def _take_turn(self, member: int, turn: _Turn, now: Instant) -> list[int]:
        """Name what is plain; returns what is not, as far as it may be opened."""
        plain: list[int] = []
        others: list[int] = []
        for partition in turn.partitions:
            held = self._certificates.certificate(partition, member)
            if held is None or not self._is_plain(partition, self._peers.all[member].outbox):
                others.append(partition)
            elif self._may_open(partition):
                plain.append(partition)
        plain = self._due(plain, member, now)
        if len(plain) == 1:  # said by a Syn in fewer bytes, and no slower
            others += plain
        elif plain and member not in self._asked and self._local.identity.counts:
            opened = min(len(others), turn.most)
            # Those that are never plain must not hold up the ones that were found to differ.
            most = max(turn.most - opened, turn.most // 2)
            # Requests may not keep any from its turn, however many change all the time.
            named = min(max(self._local.pace.named, turn.most), ROOTS_MAX)
            self._name(member, plain[:named], most, now)
        return others[: turn.most]

    def _is_plain(self, partition: int, outbox: Outbox) -> bool:
        """Whether it may be named to a peer with which there is a certificate of it. Under a topology not to
        one that speaks an older version: that would have to be told tags."""
        spoken = outbox.version >= SEALED_TAGS_SINCE or not self._certificates.seating.known
        return spoken and self._fit(partition) and self._local.maintenance.all_purged(partition)

    def _fit(self, partition: int) -> bool:
        return partition not in self._summaries.unfit

    def _due(self, partitions: Sequence[int], member: int, now: Instant) -> list[int]:
        """Those of which a newer proof is worth something, in order. What is at rest does not change, so its
        proofs are renewed together, and seldom: newer ones only say the same of a later stamp."""
        rested: dict[int, float] = {}
        for partition in partitions:
            last = self._certificates.last_exchange(partition, member)
            rested_s = math.inf if last is None else now.monotonic - last.begun_s
            if self._rests(partition, now):
                rested[partition] = rested_s
        least_s = REST_S / 2 if max(rested.values(), default=0.0) >= REST_S else REST_S
        return [partition for partition in partitions if rested.get(partition, math.inf) >= least_s]

    def _rests(self, partition: int, now: Instant) -> bool:
        """Whether all that was ever taken is stable: nothing has changed since a stamp that is by now."""
        summary = self._summaries.of[partition]
        sequence, stamp = self._changed.get(partition, (-1, 0))
        if sequence != summary.sequence:
            stamp = self._local.closed_stamps.time_ms(now) << COUNTER_BITS
            self._changed[partition] = summary.sequence, stamp
        return stamp <= summary.stable

    def _name(self, member: int, partitions: list[int], most: int, now: Instant) -> None:
        """Ask a member about these."""
        self._number += 1
        told = self._told(member, partitions, now)
        ground = self._certificates.common_ground(member, partitions)
        held = [self._certificates.certificates(partition)[member] for partition in partitions]
        self._asked[member] = _Asked(self._number, now.monotonic, ground, most, partitions, held, told)
        for partition in partitions:
            self.named[partition] += 1
        roots = b"".join(self._summaries.of[each].root.to_bytes(SUM_BYTES) for each in partitions)
        theirs = [each.theirs for each in held]
        columns = self._columns(told)
        said = Roots(self._number, ground_digest(ground), partitions, roots, theirs, *columns)
        self.say(self._peers.all[member].outbox, said)
        self._local.pace.spend(COST * len(partitions))

    def _told(self, member: int, partitions: Sequence[int], now: Instant) -> list[_Told]:
        """What is held now, and the stamps closed now: in one step, so that what is held has all that was
        ever taken at or below these (`Exchange._snapshot`)."""
        certificates, summaries = self._certificates, self._summaries.of
        closed = self._local.closed_stamps.close(partitions, now)
        return [
            _Told(
                summaries[partition].sequence, summaries[partition].stable, stamp,
                certificates.tag(partition), certificates.claims_for(partition, member),
            )
            for partition, stamp in zip(partitions, closed, strict=True)
        ]  # fmt: skip

    def say(self, outbox: Outbox, message: Message) -> None:
        """Send it once all that is stored by now is durable, as all that is said in exchanges."""
        size = weight(message)
        self._local.metrics.count("exchange_bytes_sent", size - SMALL_BYTES)
        self._local.group_commit.when_durable(partial(outbox.put, message, size))

    # --- answering -----------------------------------------------------------------------------

    def _answer(self, member: int, outbox: Outbox, said: Roots, heard_s: float, now: Instant) -> None:
        """Say which of the partitions are the same here, and keep proof of it: as of when they were heard.
        What the member has said since was not so yet when it named them (`cluster/finishing.py`)."""
        self._local.pace.spend(COST * len(said.partitions))
        ground = self._certificates.common_ground(member, said.partitions)
        agreed = ground_digest(ground) == said.stores
        told = self._rows(said, said.partitions) if agreed else []
        judged = range(len(told) if self._local.identity.counts else 0)
        places = [place for place in judged if self.same(member, said, place, told[place], now)]
        partitions = [said.partitions[place] for place in places]
        # Nothing has changed since the roots were compared: what is told is of the same moment.
        mine = self._told(member, partitions, now)
        self.say(outbox, SameRoots(said.number, places, *self._columns(mine)))
        for place, partition, here in zip(places, partitions, mine, strict=True):
            self.prove(member, partition, here, told[place], heard_s, now)
        self._local.metrics.count("exchanges_same", len(places))

    def same(self, member: int, said: Roots, place: int, theirs: _Told, now: Instant) -> bool:
        """Whether both hold the same of a partition, and it can be told in one word."""
        partition = said.partitions[place]
        summary, held = self._summaries.of[partition], self._certificates.certificate(partition, member)
        if (
            not self._may_open(partition)
            or not self._fit(partition)
            or not self._credible(theirs, now)
            or said.theirs[place] > summary.sequence
            or (held is not None and held.theirs > theirs.sequence)
        ):
            return False
        # Both sides purge up to the same stamp before they compare (`Exchange._respond`).
        self._certificates.adopt(partition, theirs.stable)
        root = said.roots[place * SUM_BYTES : (place + 1) * SUM_BYTES]
        return self._local.maintenance.all_purged(partition) and summary.root == int.from_bytes(root)

    def _credible(self, told: _Told, now: Instant) -> bool:
        """Whether stamps that are told do not lie in the future."""
        return max(told.stable, told.closed) <= self._local.closed_stamps.time_ms(now) << COUNTER_BITS

    # --- concluding ----------------------------------------------------------------------------

    def _conclude(self, member: int, said: SameRoots, now: Instant) -> list[int]:
        """The answer is here. Returns what is not the same, as far as it may be opened."""
        asked = self._asked[member]
        self._forget(member)
        self._local.pace.spend(COST * len(asked.partitions))
        ground = self._certificates.common_ground(member, asked.partitions)
        if not self._local.identity.counts or ground != asked.ground:
            return []
        named = [asked.partitions[place] for place in said.places]
        answers = dict(zip(said.places, self._rows(said, named), strict=True))
        left, proven = [], 0
        for place, partition in enumerate(asked.partitions):
            held, theirs = self._certificates.certificate(partition, member), answers.get(place)
            # Whatever has happened to it meanwhile, an exchange of its own tells.
            if held is not asked.held[place] or not self._may_open(partition):
                continue
            if theirs is None or theirs.sequence < held.theirs or not self._credible(theirs, now):
                left.append(partition)
            else:
                self.prove(member, partition, asked.told[place], theirs, asked.begun_s, now)
                proven += 1
        self._local.metrics.count("exchanges_same", proven)
        return left[: asked.most]

    def prove(
        self, member: int, partition: int, mine: _Told, theirs: _Told, begun_s: float, now: Instant
    ) -> None:
        """Both hold the same: conclude what an exchange does that ends so (`Exchange._proven`)."""
        certificates = self._certificates
        certificates.adopt(partition, theirs.stable)
        certificates.hear_claims(partition, theirs.claims)
        tag = mine.tag if mine.tag == theirs.tag == certificates.tag(partition) else 0
        made_ms = self._local.closed_stamps.time_ms(now)
        certificate = Certificate(mine.sequence, theirs.sequence, mine.closed, theirs.closed, tag, made_ms)
        certificates.certify(partition, member, certificate)
        certificates.remember(partition, member, begun_s, peer_whole=True, end=theirs.sequence)

    # --- columns -------------------------------------------------------------------------------

    def _columns(self, told: Iterable[_Told]) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
        """As both messages have them. Under a topology both sides know the tags."""
        rows = list(told)
        claims = [
            number
            for place, row in enumerate(rows)
            for at in range(0, len(row.claims), 3)
            for number in (place, *row.claims[at : at + 3])
        ]
        tags = [] if self._certificates.seating.known else _shared([row.tag for row in rows])
        return (
            [row.sequence for row in rows], _shared([row.stable for row in rows]),
            _shared([row.closed for row in rows]), tags, claims,
        )  # fmt: skip

    def _rows(self, said: Roots | SameRoots, partitions: Sequence[int]) -> list[_Told]:
        """Inverse of `_columns`, of these partitions."""
        count = len(said.sequences)
        claims: list[list[int]] = [[] for _ in range(count)]
        for at in range(0, len(said.claims), 4):
            claims[said.claims[at]] += said.claims[at + 1 : at + 4]
        tags = said.tags or list(map(self._certificates.tag, partitions))
        shared = (said.stable, said.closed, tags)
        columns = [column * count if len(column) == 1 else column for column in shared]
        return list(map(_Told._make, zip(said.sequences, *columns, claims, strict=True)))


def _shared(column: list[int]) -> list[int]:
    """What all have in common is said once."""
    return column[:1] if len(set(column)) == 1 else column
