"""Watches: the feeds of a node's own clients.

    Watch, no feed named    a new one: from now on, from the start, or from a token
    Watch, with its feed    more of it; an answer that names no feed, where it has ended meanwhile

A feed belongs to the connection over which it was begun, and ends with it, or once its client has asked for
nothing for a while. All that a client needs to go on elsewhere is in its token, so nothing of a feed is kept.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

from basestore.cluster.outbox import Outbox
from basestore.coordinator.admission import admit_watch
from basestore.coordinator.context import Context, refuse
from basestore.errors import InvalidRequest, Overloaded, RequestFailed
from basestore.feeds.feed import TIME_SHARE, Feed, Poll
from basestore.feeds.position import BLANK, NOW
from basestore.feeds.token import Subject
from basestore.instant import Instant
from basestore.protocol.client import Watch, Watched
from basestore.repair.version import COUNTER_BITS

WATCHERS_MAX: Final = 256
_CROWDED: Final = (
    f"overloaded: {WATCHERS_MAX} watchers are served by this node; nothing was begun. Ask another node, or "
    f"try again later"
)


class Watches:
    """Of one node. `requests`: by the class of what a client asks."""

    def __init__(
        self, context: Context, cluster: bytes, store_of: Callable[[int], bytes], first: int
    ) -> None:
        """`store_of`: on which store a member runs; `first`: numbers of feeds count from here."""
        self._context, self._cluster, self._store_of = context, cluster, store_of
        self._feeds: dict[int, Feed] = {}
        self._numbers = count(first)
        self.requests: Mapping[type, Callable[[Outbox, Any, Instant], None]] = {Watch: self._watch}

    @property
    def count(self) -> int:
        return len(self._feeds)

    def lag_ms(self, now: Instant) -> int | None:
        """How long ago the stamp is up to which the slowest watcher was told all; None if that is not known
        of all."""
        stamps = [min(each.stable for each in feed.positions) for feed in self._feeds.values()]
        if not stamps or not min(stamps):
            return None
        now_ms = self._context.peers.clock.now_ms(now)
        return None if now_ms is None else max(0, now_ms - (min(stamps) >> COUNTER_BITS))

    def _watch(self, outbox: Outbox, request: Watch, now: Instant) -> None:
        try:
            label = admit_watch(self._context, request)
            feed = self._feeds.get(request.feed) if request.feed else None
            if request.feed and not request.token:
                if feed is None or feed.outbox is not outbox or feed.subject.label != label:
                    outbox.put(Watched(request.id, 0, [], 0, "", 0, 0))
                    return
            else:
                if feed is not None and feed.outbox is outbox:
                    self._end(feed)
                feed = self._begin(outbox, request, label)
        except (InvalidRequest, RequestFailed) as error:
            refuse(self._context, outbox, request.id, error)
            return
        outbox.release()
        until_s = now.monotonic + request.timeout_ms * TIME_SHARE / 1e3
        feed.ask(Poll(outbox, request.id, request.bytes_max, until_s), now)

    def _begin(self, outbox: Outbox, request: Watch, label: bytes) -> Feed:
        subject, partitions = (
            Subject(self._cluster, label, request.prefix),
            self._context.placement.partitions,
        )
        if request.token:
            positions = subject.positions(request.token, partitions)
        else:
            positions = [BLANK if request.everything else NOW] * partitions
        if len(self._feeds) >= WATCHERS_MAX:
            raise Overloaded(_CROWDED)
        number = next(self._numbers)
        feed = Feed(self._context, outbox, number, request.bucket, subject, positions, self._store_of)
        self._feeds[number] = feed
        return feed

    def _end(self, feed: Feed) -> None:
        feed.end()
        del self._feeds[feed.number]

    def tick(self, now: Instant) -> None:
        """Feeds end whose client, or bucket, has gone; others answer what is due."""
        rules, buckets = self._context.buckets.rules, self._context.buckets
        for feed in list(self._feeds.values()):
            if feed.outbox.closed or feed.idle(now):
                self._end(feed)
            elif feed.subject.label not in rules:
                gone = buckets.gone(feed.bucket) or "; it was dropped"
                feed.fail(
                    InvalidRequest(f"bucket {feed.bucket!r} is watched no more, for there is none{gone}")
                )
                del self._feeds[feed.number]
            else:
                feed.tick(now)
