"""Bugs of watches: from where a feed goes on, what it tells, and when a mark is told."""

from functools import partial

from basestore.anti_entropy.exchange import Exchange
from basestore.feeds import follower
from basestore.feeds.feed import Feed
from basestore.feeds.follower import Follower
from basestore.feeds.followers import Followers
from basestore.feeds.position import Mark
from basestore.replica.summaries import Summaries
from tests.simulation.mutations.registry import reworded

MARKS = {"marks"}
watched = partial(reworded, clients=None, watches=True)

watched(
    "watch: a proof counts whatever was told of the other store", MARKS, follower, "start",
    " and position.sequence >= met.end", "",
)  # fmt: skip
watched(
    "watch: an exchange tells its snapshot for its end", MARKS, Exchange, "_conclude",
    "self.member), self._summary.sequence,", "self.member), snapshot.sequence,",
)  # fmt: skip
watched(
    "watch: lines are there below the floor", MARKS, follower, "start",
    "behind if behind is not None and behind >= floor else None", "behind",
)  # fmt: skip
watched(
    "watch: a sequence is of any store", MARKS, follower, "start",
    "position.store == store and", "position.store and",
)  # fmt: skip
watched(
    "watch: where nothing is proven it goes on from now", MARKS, follower, "start",
    "else None", "else sequence if position.store else None",
)  # fmt: skip
watched("watch: marks are told at once", MARKS, Mark, "reach", " or sequence < self._upto", "")
watched("watch: what is replaced unread counts as told", MARKS, Mark, "replaced", "|=", "&=")
watched(
    "watch: purges leave no trace", MARKS, Summaries, "lose",
    "if summary is not None:", "if summary is not None and sequence is None:",
)  # fmt: skip
watched(
    "watch: gaps are not told", MARKS, Follower, "_visit",
    "self._gaps[partition] = gap", "pass",
)  # fmt: skip
watched(
    "watch: a position moves before its changes are passed on", MARKS, Feed, "fed",
    "self._waiting.append((source, answer))",
    "self._waiting.append((source, answer)), self._pass_on(source, answer, now)",
)  # fmt: skip
watched(
    "watch: a store tells what it does not hold whole", MARKS, Followers, "_unserved",
    "held and self._certificates.counts(partition)", "held",
)  # fmt: skip
watched(
    "watch: after a look through it goes on from its end", MARKS, Follower, "_look_through",
    "    place.row = None", "    place.row, place.sequence = None, place.log.summary.sequence",
)  # fmt: skip
watched(
    "watch: changes are told before they are durable", {"told", *MARKS}, Followers, "_tell",
    "self._group_commit.reply(follower.outbox, told, None, size, surely=True)",
    "follower.outbox.put(told, size)",
)  # fmt: skip
