"""Clipping: the limits that a node keeps to for buckets and keys (`[buckets.B] requests_per_s`,
`key_requests_per_s`), and the keys that it finds to be hot.

The limits are this node's own: each node keeps to its own, for what clients ask of it, and knows nothing of
the others'. What replicas ask of each other is never limited, nor what an operator asks. A request over a
limit is refused before it is stamped and before any replica is asked: `Overloaded`, with the time after which
there is room. A write that may be deferred is kept for later instead (`handoff/deferred_writes.py`): with the
end of the turn, once all that was let in before it is stamped, for what was asked later is to have the
greater stamp. (What follows it in the same step is over the limit as well.)

    get, set, delete    count one against their bucket, and one against their key
    many                the same for each; some of them may be let in
    scan                counts one a page against its bucket

What is over a limit is counted by bucket, for `basestore status`: among failures nobody would see why.

Where nothing is done for clients at all (`closed`) each of their requests for data is refused, and why.

Hot keys are looked for in one frame of thirty-two, whether there are limits or not, before these are applied:
whoever is refused is among them.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

from basestore.cluster.outbox import Outbox
from basestore.config import NodeConfig
from basestore.errors import Overloaded, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.intake.figures import Lately
from basestore.intake.hot_keys import HotKeys, digest
from basestore.intake.limits import SECOND_NS, BucketLimits, Refusal
from basestore.metrics import Metrics
from basestore.protocol.client import Commit, Delete, Get, Scan, Set, WriteBatch
from basestore.protocol.codec import Message
from basestore.protocol.groups import GetMany, WriteMany, chosen, singly
from basestore.protocol.operator import Explain, Survey
from basestore.topology.buckets import Buckets

SAMPLED: Final = 32  # one in so many is looked at for hot keys
GOLDEN: Final = 0.6180339887498949  # what is looked at falls in with no rhythm of the callers
_SINGLE: Final = frozenset((Get, Set, Delete))
_MANY: Final = frozenset((GetMany, WriteMany))
_OF_DATA: Final = _SINGLE | _MANY | {Commit, WriteBatch, Scan, Explain, Survey}


class Later(Protocol):
    """Keeps writes to be done later, and refuses."""

    def may_defer(self, outbox: Outbox, request: Any, /) -> bool: ...
    def defer(self, outbox: Outbox, request: Any, now: Instant, because: str, /) -> None: ...
    def refuse(self, outbox: Outbox, request: Any, error: RequestFailed, /) -> None: ...


class Clipping:
    """Of one node. `closed`: why it does nothing for clients; empty if it does."""

    def __init__(
        self, config: NodeConfig, buckets: Buckets, drawn: bytes, metrics: Metrics, later: Later
    ) -> None:
        """`drawn`: by chance, for this opening of the store; it need not be secret."""
        self._seed = blake2b(drawn, digest_size=16, key=config.cluster.key, person=b"hot-keys").digest()
        self._buckets, self._changes = buckets, -1
        self._metrics = metrics
        self._later = later
        self._lot = 0.0
        self._hot_keys = HotKeys(SAMPLED)
        self._put_off: list[tuple[Outbox, Any, str]] = []
        self._limited: dict[str, tuple[int, int]] = {}
        self._limits: dict[str, BucketLimits] = {}
        self._over: list[int] = []
        self._place: dict[str, int] = {}
        self._over_lately = Lately(0)
        self.closed: Callable[[], str] = lambda: ""
        self._see_to_buckets()

    def _see_to_buckets(self) -> None:
        """Those that there are now, and their limits."""
        buckets, had, before = self._buckets, self._limits, self._limited
        self._changes = buckets.changes
        self._stems = {name: buckets.stem(name) for name in buckets}
        self._options = dict(buckets.options)
        self._limited = {
            name: (options.requests_per_s, options.key_requests_per_s)
            for name, options in self._options.items()
            if options.requests_per_s or options.key_requests_per_s
        }
        if self._limited == before:
            return
        self._limits = {
            name: had[name] if before.get(name) == limits else BucketLimits(*limits)
            for name, limits in self._limited.items()
        }
        # Of each bucket in turn what was over its own limit, and over that of a key.
        self._place = {name: 2 * at for at, name in enumerate(self._limits)}
        self._over = [0] * (2 * len(self._limits))
        self._over_lately = Lately(len(self._over))

    def let_in(self, outbox: Outbox, requests: Sequence[Message], now: Instant) -> Sequence[Message]:
        """What is not over a limit of the requests of a frame. The rest is refused, or put off."""
        if why := self.closed():
            return self._turn_all_away(outbox, requests, why)
        if self._changes != self._buckets.changes:
            self._see_to_buckets()
        self._lot += GOLDEN
        if self._lot >= 1:
            self._lot -= 1
            if self._lot * SAMPLED < 1:
                self._look(requests, now)
        return self._clip(outbox, requests, now) if self._limits else requests

    def defer(self, now: Instant) -> None:
        """Keep what was put off. All that was let in is stamped, or waits to be."""
        if self._put_off:
            put_off, self._put_off = self._put_off, []
            for outbox, request, because in put_off:
                self._later.defer(outbox, request, now, because)

    def tick(self, now: Instant) -> None:
        """Time has passed."""
        self._over_lately.tick(self._over, now.monotonic)

    # --- limits ------------------------------------------------------------------------------

    def _clip(self, outbox: Outbox, requests: Sequence[Any], now: Instant) -> list[Any]:
        for limits in self._limits.values():
            limits.begin(int(now.monotonic * SECOND_NS))
        let_in: list[Any] = []
        for request in requests:
            kind = type(request)
            if kind is Commit:
                self._clip_commit(outbox, request, let_in)
                continue
            limited = kind in _SINGLE or kind in _MANY or kind is Scan
            if not limited or request.bucket not in self._limits:
                let_in.append(request)
                continue
            limits = self._limits[request.bucket]
            keys = request.keys if kind in _MANY else [b"" if kind is Scan else request.key]
            if limits.of_keys:
                name = self._stems[request.bucket]
                keys = [digest(self._seed, name, key) if key else b"" for key in keys]
            refusals = [limits.ask(key) for key in keys]
            if not any(refusals):
                let_in.append(request)
                continue
            if not all(refusals):
                let_in.append(chosen(request, [at for at, refusal in enumerate(refusals) if not refusal]))
            for single, refusal in zip(singly([request]), refusals, strict=True):
                if refusal:
                    self._turn_away(outbox, single, refusal)
        return let_in

    def _clip_commit(self, outbox: Outbox, request: Commit, let_in: list[Any]) -> None:
        """A transaction is let in if each of its keys would be; the first that is over a limit tells why."""
        for bucket, key in zip(request.buckets, request.keys, strict=True):
            limits = self._limits.get(bucket)
            if limits is None:
                continue
            asked = digest(self._seed, self._stems[bucket], key) if limits.of_keys else key
            if refusal := limits.ask(asked):
                self._turn_away(outbox, request, refusal, bucket)
                return
        let_in.append(request)

    def _turn_away(self, outbox: Outbox, request: Any, refusal: Refusal, bucket: str = "") -> None:
        bucket = bucket or request.bucket
        self._metrics.count("clipped_by_key" if refusal.of_key else "clipped_by_bucket")
        self._over[self._place[bucket] + refusal.of_key] += 1
        options, of = self._options[bucket], f"bucket {bucket!r}"
        setting, per_s = "requests_per_s", options.requests_per_s
        if refusal.of_key:
            setting, per_s, of = "key_requests_per_s", options.key_requests_per_s, f"each key of {of}"
        requests = f"{per_s} request{'s' * (per_s != 1)} a second"
        because = f"takes {requests} for {of} ({setting})"
        if type(request) in (Set, Delete) and self._later.may_defer(outbox, request):
            self._put_off.append((outbox, request, because))
            return
        text = f"overloaded: this node {because}; nothing was done"
        self._later.refuse(outbox, request, Overloaded(text, refusal.wait_ns / SECOND_NS))

    def _turn_all_away(self, outbox: Outbox, requests: Sequence[Any], why: str) -> list[Message]:
        """All that asks for data; what asks about the node, or the cluster, is let in."""
        for single in singly([request for request in requests if type(request) in _OF_DATA]):
            self._later.refuse(outbox, single, Unavailable.because(why))
        return [request for request in requests if type(request) not in _OF_DATA]

    # --- hot keys ----------------------------------------------------------------------------

    def _look(self, requests: Sequence[Any], now: Instant) -> None:
        self._hot_keys.pass_time(now.monotonic)
        for request in requests:
            kind = type(request)
            keys = [request.key] if kind in _SINGLE else request.keys if kind in _MANY else ()
            name = self._stems.get(request.bucket) if keys else None
            if name is not None:
                for key in keys:
                    self._hot_keys.add(digest(self._seed, name, key), request.bucket, key)

    def facts(self, now: Instant) -> dict[str, str]:
        """The hottest keys, for `basestore status`: how often in a second, and how many bytes the key has, of
        which the first follow, and the bucket. And the limits: of a bucket and of each key of it, in a second
        (0: none), and how many requests were over each, since the store was opened and in the last minute."""
        hot_keys = {
            f"hot key {rank}": f"{hot.per_s} {hot.size} {hot.key.hex()} {hot.bucket}"
            for rank, hot in enumerate(self._hot_keys.hottest(now.monotonic), 1)
        }
        lately, limits = self._over_lately.of(self._over), {}
        for name, at in self._place.items():
            options = self._options[name]
            told = options.requests_per_s, options.key_requests_per_s, *self._over[at : at + 2]
            limits[f"limit {name}"] = " ".join(map(str, told + lately[at : at + 2]))
        return hot_keys | limits
