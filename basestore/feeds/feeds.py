"""Feeds: both ends of every feed that passes through a node: its clients' (`watches.py`), and those that
other nodes, or it itself, read from its store (`followers.py`).

A change, from where it is stored to who watches it, at a node that is asked and is a replica too:

    replica/replica.py    _store: a line, in this step's batch
    feeds/followers.py    step: who follows that partition
    feeds/follower.py     tell: the lines since the last answer, and their records; one Fed
    replica/group_commit  it waits for the sync of that batch
    feeds/source.py       fed: that is ours
    feeds/feed.py         passed on as a client's answer; the position moves; More
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from basestore.anti_entropy.certificates import Certificates
from basestore.cluster.outbox import Outbox
from basestore.coordinator.context import Context
from basestore.feeds.followers import Followers
from basestore.feeds.watches import Watches
from basestore.instant import Instant
from basestore.replica.identity import Fresh, StoreIdentity
from basestore.replica.replica import Replica


class FeedState(NamedTuple):
    """How the feeds of a node stand. `watchers`: of its clients; `lag_ms`: how long ago all was written that
    the one furthest behind has been told, None if there is none, or that is not known; `followers`: who
    follow its store; `behind`: changes that the one furthest behind has not been told."""

    watchers: int
    lag_ms: int | None
    followers: int
    behind: int

    def facts(self) -> dict[str, str]:
        """For `basestore status`, as names and values."""
        return {
            "watchers": str(self.watchers),
            "watch lag ms": "" if self.lag_ms is None else str(self.lag_ms),
            "feeds served": str(self.followers),
            "feed changes behind": str(self.behind),
        }


class Feeds:
    """Of one node. `handlers`: of what members say; `requests`: of what clients ask."""

    def __init__(
        self, context: Context, replica: Replica, certificates: Certificates, identity: StoreIdentity,
        cluster: bytes, fresh: Fresh,
    ) -> None:  # fmt: skip
        """`cluster`: its id. Feeds have other numbers in each start of a node."""
        first = int.from_bytes(fresh.generation[:4]) + 1
        commit, peers, metrics = context.group_commit, context.peers, context.metrics
        self.followers = Followers(replica, commit, certificates, identity, peers, metrics)
        self.watches = Watches(context, cluster, certificates.store, first)
        self._group_commit = commit
        self.handlers: Mapping[type, Callable[[int, Outbox, Any, Instant], None]] = self.followers.handlers
        self.requests: Mapping[type, Callable[[Outbox, Any, Instant], None]] = self.watches.requests

    def tick(self, now: Instant) -> None:
        """Time has passed."""
        self.watches.tick(now)
        self.followers.tick(now)

    def state(self, now: Instant) -> FeedState:
        followers, watches = self.followers, self.watches
        return FeedState(
            watches.count, watches.lag_ms(now), followers.count, max(followers.behind, default=0)
        )

    def step(self, now: Instant) -> None:
        """All of the step is staged, and nothing of it stored."""
        if not self._group_commit.stalled:
            self.followers.step(now)
