"""Followers: who follows partitions of this node's store, and when they are told.

    Follow      from these positions on; answered once there is something
    More        the last answer was heard, and passed on: the next may be made
    Unfollow    no more

A follower is looked at when one of its partitions has changed, or its stable stamp may be told, and told in
the step in which that was: before the step's batch is stored, so that the answer waits for the same sync as
the change does. How far it has come, without any change, is told a few times a second. Nothing is sent to
whom has not heard the last answer: so who does not read costs what one answer takes, and its lines.

Lines of the log are kept for who has not read them (`kept`), so many; after that all that is held is looked
through for them. It judges nothing: from where a feed goes on is `position.py`'s affair, what is read
`follower.py`'s.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from basestore.anti_entropy.certificates import Certificates
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.peers import Peers
from basestore.feeds.follower import Follower
from basestore.feeds.position import Met, Position
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.feeds import Follow, More, Unfollow
from basestore.protocol.replication import Rejected
from basestore.repair.digest_tree import STAMP_MAX
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.replica import Replica
from basestore.topology.buckets import DROPPED, UNKNOWN_YET

FOLLOWERS_MAX: Final = 1024
TOLD_AT_ONCE: Final = 64  # in a step
MARKS_S: Final = 0.25  # until it is told how far it has come, where that is all
LOOK_S: Final = 1.0  # until all its partitions are looked at
KEPT_LINES_MAX: Final = 64 << 10  # of a partition, for followers
KEPT_BYTES_MAX: Final = 16 << 20  # of them, once they are rows
_UNFIT: Final = "it does not hold all that it must of this partition"
_NOT_WHOLE: Final = "its store is not known to be whole"
_TOO_MANY: Final = f"{FOLLOWERS_MAX} feeds follow it already"


class Followers:
    """Of one node. `handlers`: by the class of what a member says."""

    def __init__(
        self, replica: Replica, group_commit: GroupCommit, certificates: Certificates,
        identity: StoreIdentity, peers: Peers, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._replica, self._group_commit, self._certificates = replica, group_commit, certificates
        self._identity, self._peers, self._metrics = identity, peers, metrics
        self._followers: dict[tuple[Outbox, int], Follower] = {}
        self._by_partition: dict[int, dict[Follower, None]] = {}
        self._due: dict[Follower, None] = {}
        self._marks_due_s: dict[Follower, float] = {}
        self._look_due_s = 0.0
        self._counted = False
        self._shown: set[int] = set()
        certificates.followed = self.kept
        replica.summaries.shows = self._shown.add
        self.handlers: Mapping[type, Callable[[int, Outbox, Any, Instant], None]] = {
            Follow: self._follow,
            More: self._more,
            Unfollow: self._unfollow,
        }

    @property
    def count(self) -> int:
        return len(self._followers)

    @property
    def at_rest(self) -> bool:
        """Whether nobody is to be told anything as soon as it may be."""
        return not (self._due or self._marks_due_s)

    # --- who follows -------------------------------------------------------------------------

    def _follow(self, member: int, outbox: Outbox, message: Follow, now: Instant) -> None:
        reason = self._refusal(message.label)
        if not reason and len(self._followers) >= FOLLOWERS_MAX:
            reason = _TOO_MANY
        if reason:
            outbox.put(Rejected(message.id, reason, True), SMALL_BYTES + len(reason))
            return
        if (known := self._followers.get((outbox, message.id))) is not None:
            self._end(known)
        store = self._identity.store
        follower = Follower(outbox, message, self._replica, self._group_commit, store)
        self._followers[outbox, message.id] = follower
        for partition, told, sequence, stable in message.rows:
            if why := self._unserved(partition):
                follower.refuse(partition, why)
                continue
            self._by_partition.setdefault(partition, {})[follower] = None
            position = Position(told, sequence, stable)
            follower.begin(position, partition, self._met(partition, told))
        self._due[follower] = None
        self._marks_due_s[follower] = now.monotonic

    def _refusal(self, label: bytes) -> str:
        buckets = self._replica.buckets
        if not self._peers.alive[self._peers.me]:
            return _NOT_WHOLE
        if label in buckets.rules:
            return ""
        return DROPPED if buckets.is_gone(label) else UNKNOWN_YET

    def _unserved(self, partition: int) -> str:
        held = partition in self._replica.summaries.of
        return "" if held and self._certificates.counts(partition) else _UNFIT

    def _met(self, partition: int, store: bytes) -> Met | None:
        """What was proven with that store in this opening."""
        for member in self._certificates.others[partition] if store else ():
            if self._certificates.store(member) == store:
                certificate = self._certificates.certificate(partition, member)
                last = self._certificates.last_exchange(partition, member)
                # One from before this was told says nothing of where it ended.
                if certificate and last and last.peer_whole and last.end >= certificate.theirs:
                    return Met(certificate.mine, last.end)
        return None

    def _more(self, member: int, outbox: Outbox, message: More, now: Instant) -> None:
        follower = self._followers.get((outbox, message.id))
        if follower is not None:
            follower.waits = True
            self._due[follower] = None

    def _unfollow(self, member: int, outbox: Outbox, message: Unfollow, now: Instant) -> None:
        follower = self._followers.get((outbox, message.id))
        if follower is not None:
            self._end(follower)

    def _end(self, follower: Follower) -> None:
        follower.end()
        del self._followers[follower.outbox, follower.id]
        self._due.pop(follower, None)
        self._marks_due_s.pop(follower, None)
        for partition in follower.asked:
            followers = self._by_partition.get(partition, {})
            followers.pop(follower, None)
            if not followers:
                self._by_partition.pop(partition, None)

    # --- what is kept for them ----------------------------------------------------------------

    def kept(self, partition: int) -> int:
        """Behind which sequence lines of this partition's log are kept for who follows it."""
        kept = STAMP_MAX
        for follower in self._by_partition.get(partition, ()):
            place = follower.behind(partition)
            if place is not None:
                log, sequence = place
                if log.summary.sequence - sequence <= KEPT_LINES_MAX and log.spilled_bytes <= KEPT_BYTES_MAX:
                    kept = min(kept, sequence)
        return kept

    @property
    def behind(self) -> Iterator[int]:
        """By how many changes each follower has not been told yet what it is to be, in the partition where
        they are most."""
        for follower in self._followers.values():
            places = (follower.behind(partition) for partition in follower.partitions)
            yield max((log.summary.sequence - at for log, at in filter(None, places)), default=0)

    # --- when they are told -------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Who is to be told how far it has come is, with the next step, once it is time. Now and then all is
        looked at: a follower whose link is gone ends, or whose bucket is."""
        self._due.update(
            dict.fromkeys(each for each, due_s in self._marks_due_s.items() if now.monotonic >= due_s)
        )
        if now.monotonic < self._look_due_s:
            return
        self._look_due_s = now.monotonic + LOOK_S
        for follower in list(self._followers.values()):
            if follower.outbox.closed:
                self._end(follower)
            elif reason := self._refusal(follower.label):
                follower.outbox.put(Rejected(follower.id, reason, True), SMALL_BYTES + len(reason))
                self._end(follower)
            else:
                for partition in follower.partitions:
                    self._stir(follower, partition)

    def step(self, now: Instant) -> None:
        """Tell what has come, before it is stored. Not while a batch is open that the engine has refused, for
        what is in it cannot be scanned."""
        if self._counted != self._identity.counts:
            self._counted = self._identity.counts
            for partition in self._replica.summaries.of:
                self._replica.summaries.doubt_gone(partition)
        if not self._followers:
            self._shown.clear()
            return
        changed = self._shown.union(self._replica.summaries.summary_log.changed)
        self._shown.clear()
        for partition in changed & self._by_partition.keys():
            for follower in self._by_partition[partition]:
                self._stir(follower, partition)
        told = 0
        for follower in list(self._due):
            if told == TOLD_AT_ONCE:
                break
            del self._due[follower]
            if follower.outbox.closed:
                self._end(follower)
            elif follower.waits and follower.outbox.roomy:
                told += self._tell(follower, now)

    def _stir(self, follower: Follower, partition: int) -> None:
        if follower.behind(partition) is not None:
            follower.stirred[partition] = None
            self._due[follower] = None

    def _tell(self, follower: Follower, now: Instant) -> bool:
        """Whether there was anything to tell."""
        for partition in [each for each in follower.stirred if self._unserved(each)]:
            follower.refuse(partition, _UNFIT)
        due_s = self._marks_due_s.get(follower)
        said = follower.tell(marks=due_s is not None and now.monotonic >= due_s)
        if said is None:
            if follower.marks_wait and due_s is None:
                self._marks_due_s[follower] = now.monotonic + MARKS_S
            return False
        self._marks_due_s.pop(follower, None)
        told, size = said
        follower.waits = False
        self._metrics.count("feed_answers")
        self._group_commit.reply(follower.outbox, told, None, size, surely=True)
        return True
