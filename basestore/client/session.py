"""Session: what one caller has been shown of each key, so that it is never shown anything older.

These are the session guarantees of Terry et al. ("Session guarantees for weakly consistent replicated data",
1994): it reads what it wrote (read your writes), what it has read does not go back (monotonic reads), and
what it writes comes after what it has read and written (monotonic writes, writes follow reads), at every
level and at every node. For its writes the greatest stamp seen goes with each, whose own will be greater:
nodes' clocks differ, and a later write must not lose to an earlier one for that. For its reads, per bucket
and key a session holds the version seen, and every read that it sends names that version as its floor:
the answer is that version, or one that beats it by the bucket's rule; a replica that holds neither is not
enough, and others are asked. An example:

    set k at ONE, stored as v7    n1 has it; the session holds k: v7
    get k at ONE through n2       the request says: floor v7. n2 has only v5, and asks the others
    answer v7                     and were it v9, of another writer, the session would hold v9 from now on
    get k, answer v9, stable      v9 is proven to be on all replicas: k is forgotten, and needs no floor

It learns

    from a receipt       the version, if the write was stored, and whether a hint was all that kept it;
                         otherwise the version of the write that won
    from a read or scan  the version shown, a tombstone's or an expired value's included
    from an error        that writes to come are later, if it names a version; nothing else, for a write that
                         timed out was never promised

and forgets a version once a read has told that it is at or below the stable stamp of its partition:
every replica holds it then, or a better one. A version that all replicas say is lost it forgets too, once
the caller has been told (VersionLost).

In a last-write bucket a greater version is newer, in a first-write bucket a smaller one, of a register a
greater `order`. Which buckets are which the cluster says when one connects to it, and whenever that changes.
A bucket that was dropped and made anew is another: what was seen of the old one is forgotten (`learn`).

Full: a session has room for `keys_max` keys. It forgets none of the others, for with a version goes the
promise, and no version could stand for many keys: a key that was last written long ago would never
reach it. So a request for one key too many is refused with SessionFull before it is sent; the keys
that are in it go on as before. Room is set aside when a request is sent, so that there is some for
its answer.

A token holds all that a session has seen, for another process or another day:

    s1.<base64url of: cluster id 16 | compressed CBOR | checksum 8>

Pure, and for one caller at a time. Refuses to know how requests travel.
"""

import base64
import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import cbor2

from basestore.errors import BasestoreError, InvalidRequest, RequestFailed, SessionFull, VersionLost
from basestore.protocol.client import (
    OUTCOME_DEFERRED,
    OUTCOME_STORED,
    UNTAKEN,
    Delete,
    Failed,
    Get,
    Got,
    Set,
    Written,
)
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Rules, name_of, number_of
from basestore.protocol.limits import KEY_BYTES_MAX
from basestore.repair.rule import Rule
from basestore.repair.version import VERSION_BYTES
from basestore.results.answers import error_of
from basestore.results.receipts import Item

KEYS_MAX_DEFAULT = 10_000
KEY_BYTES_MEAN_MAX = 256
TOKEN_FORM = "s1."
STAMP_BYTES = 8
CLUSTER_BYTES = 16
CHECKSUM_BYTES = 8
CBOR_BYTES_PER_KEY_MAX = 128  # a version, the heads of what CBOR holds, and a bucket's name if need be
CBOR_DEPTH_MAX = 4

M = TypeVar("M", bound=Message)


class Session:
    """The versions seen in one cluster, for at most `keys_max` keys, of 256 bytes on average."""

    def __init__(self, cluster: bytes, rules: Mapping[str, Rule], keys_max: int = KEYS_MAX_DEFAULT) -> None:
        """`cluster` is its id, `rules` are those of its buckets."""
        if not isinstance(keys_max, int) or keys_max < 1:
            raise InvalidRequest(f"a session has room for at least 1 key, not {keys_max!r}")
        self.cluster = cluster
        self.keys_max = keys_max
        self._rules = Rules()
        self._known_as: dict[str, str] = {}  # of buckets, by name
        self._bytes_max = KEY_BYTES_MAX + KEY_BYTES_MEAN_MAX * keys_max
        self._seen: dict[str, dict[bytes, bytes]] = {}
        self._under_way: dict[tuple[str, bytes], int] = {}  # how many requests, by key
        self._latest = 0  # the greatest stamp seen; what is forgotten is stable, so below every clock
        self._keys = 0  # seen or under way; `_bytes` likewise
        self._bytes = 0
        self.learn(rules if isinstance(rules, Rules) else Rules(rules.items()))

    def __len__(self) -> int:
        """How many keys have been seen."""
        return sum(map(len, self._seen.values()))

    def floor(self, bucket: str, key: bytes) -> bytes:
        """What a read must reach, as `Get.floor`: empty if no version was seen."""
        return self._seen.get(self._place_of(bucket), {}).get(key, b"")

    # --- buckets that are dropped, and made anew -----------------------------------------------

    def learn(self, rules: Rules) -> None:
        """These are the buckets by now, as a node says; it may know less than another that told before."""
        if rules is self._rules:
            return
        self._rules = rules
        for bucket, known_as in rules.known_as.items():
            self._make_anew(bucket, known_as)

    def _make_anew(self, bucket: str, known_as: str) -> None:
        """What was seen of an earlier bucket of this name no one can be shown any more."""
        if number_of(known_as) <= number_of(self._place_of(bucket)):
            return
        gone = self._seen.pop(self._place_of(bucket), {})
        self._known_as[bucket] = known_as
        for key in gone:
            self._leave_room((bucket, key))

    def _place_of(self, bucket: str) -> str:
        """By what the latest bucket of this name is known."""
        return self._known_as.get(bucket, bucket)

    # --- requests and answers ----------------------------------------------------------------

    def begin(self, request: M) -> M:
        """The request as this session sends it: a read with its floor, a write with the greatest stamp seen.
        SessionFull when there is no room for its key. Every request that was begun is to be ended, once."""
        if isinstance(request, Set | Delete | Get):
            place = (request.bucket, request.key)
            # Room is counted once a key, whether it is seen or only asked about, by however many requests.
            if not self.floor(*place) and place not in self._under_way:
                self._take_room([place])
            self._under_way[place] = self._under_way.get(place, 0) + 1
            if isinstance(request, Get):
                # A request of a session within this one has a floor already: the newer counts.
                floor = self._newer(request.bucket, request.floor, self.floor(*place))
                return request._replace(floor=floor, tell=True)
            return request._replace(after=max(request.after, self._latest))
        return request

    def end(
        self, request: Message, answer: Message | BasestoreError | None, rules: Rules | None = None
    ) -> None:
        """Learn from the answer to a request that was begun, if one came. `rules`: by which it was answered;
        None: by those that were learned last."""
        if not isinstance(request, Set | Delete | Get):
            return
        if rules is not None:
            self.learn(rules)
            if number_of(rules.known_as.get(request.bucket, "")) < number_of(self._place_of(request.bucket)):
                answer = None  # it is of a bucket that is no more
        # Learn before room is given back: a key that was seen keeps what was set aside for it.
        if isinstance(answer, Failed):
            self._latest = max(self._latest, int.from_bytes(answer.version[:STAMP_BYTES]))
        elif isinstance(answer, RequestFailed) and answer.identity and answer.identity.version:
            self._latest = max(self._latest, answer.identity.version.stamp)
        version = _told(answer)
        if version[VERSION_BYTES:] in (b"", UNTAKEN) and len(version) >= VERSION_BYTES:
            self.show(request.bucket, request.key, version)
        place = (request.bucket, request.key)
        if isinstance(answer, Got):
            self._forget(place, answer.stable)
        lost = _lost(answer)
        if lost and lost == self.floor(*place)[:VERSION_BYTES]:  # not what another call has seen meanwhile
            self._forget(place, int.from_bytes(lost[:STAMP_BYTES]))
        if place in self._under_way:
            self._under_way[place] -= 1
            if not self._under_way[place]:
                del self._under_way[place]
                self._leave_room(place)

    def _forget(self, place: tuple[str, bytes], stable: int) -> None:
        """All replicas hold what is at or below this stamp: no replica need be told of it."""
        bucket, key = place
        known = self.floor(bucket, key)
        # The floor that is held by now, not that of the answer: another call may have seen a newer one.
        if known and int.from_bytes(known[:STAMP_BYTES]) <= stable:
            seen = self._seen[self._place_of(bucket)]
            del seen[key]
            if not seen:
                del self._seen[self._place_of(bucket)]
            self._leave_room(place)

    def show(self, bucket: str, key: bytes, version: bytes) -> None:
        """The caller is about to be shown this version of a key; SessionFull when there is no room
        for the key, and then it must not be."""
        known = self.floor(bucket, key)
        if not known and (bucket, key) not in self._under_way:
            self._take_room([(bucket, key)])
        self._seen.setdefault(self._place_of(bucket), {})[key] = self._newer(bucket, version, known)
        self._latest = max(self._latest, int.from_bytes(version[:STAMP_BYTES]))

    def _newer(self, bucket: str, version: bytes, known: bytes) -> bytes:
        if not version or not known:
            return version or known
        if version[:VERSION_BYTES] == known[:VERSION_BYTES]:
            return min(version, known)  # once taken by a replica, taken for good
        rule = self._rules.get(bucket, Rule.OF_REMOVED_BUCKET)
        return version if rule.beats(version, known) else known

    # --- room --------------------------------------------------------------------------------

    def _take_room(self, places: Collection[tuple[str, bytes]]) -> None:
        keys, size = len(places), sum(len(key) for _, key in places)
        if self._keys + keys > self.keys_max or self._bytes + size > self._bytes_max:
            raise SessionFull(
                f"this session is full: it has seen {len(self)} keys, has room for {self.keys_max} keys of "
                f"{self._bytes_max} bytes together, and forgets none; nothing was done. Begin another "
                f"session (in the shell: another FILE), or one with a greater keys_max that goes on from the "
                f"token of this one"
            )
        self._keys += keys
        self._bytes += size

    def _leave_room(self, place: tuple[str, bytes]) -> None:
        """Give room back, unless the key is still seen or a request of it under way."""
        if place not in self._under_way and not self.floor(*place):
            self._keys -= 1
            self._bytes -= len(place[1])

    # --- scans -------------------------------------------------------------------------------

    def behind(self, bucket: str, item: Item) -> bool:
        """Whether a newer version of the item's key was seen."""
        return self._newer(bucket, self.floor(bucket, item.key), item.compared) != item.compared

    def doubtful(
        self, bucket: str, prefix: bytes, after: bytes, last: bytes | None, items: Sequence[Item]
    ) -> list[bytes]:
        """The keys of one page of a scan that a session must read for itself: of those after `after`
        and up to `last` (None: to the end), the page has an older version than was seen, or none, or one
        of a register, which it gives without its order."""
        serial = bucket in self._rules and self._rules[bucket].serial
        vague = {item.key for item in items if serial and not item.order}
        fresh = {item.key for item in items if not self.behind(bucket, item)} - vague
        return sorted(
            key
            for key in vague.union(self._seen.get(self._place_of(bucket), ()))
            if key.startswith(prefix) and key > after and (last is None or key <= last) and key not in fresh
        )

    # --- tokens ------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """All that was seen, as ASCII text that a URL can carry; two sessions that have seen the same
        have the same token."""
        rows = [[bucket, _flat(self._seen[bucket])] for bucket in sorted(self._seen)]
        body = self.cluster + zlib.compress(cbor2.dumps(rows), 9)
        return TOKEN_FORM + _base64(body + _checksum(body))

    def merge(self, token: str, base: str | None = None) -> None:
        """See what another session has seen. `base`: the token that both have gone on from, so that what the
        one has forgotten of it, and the other knows from there alone, is forgotten. InvalidRequest when a
        token is damaged or belongs to another cluster, SessionFull when there is no room; then nothing of
        it was taken."""
        theirs, common = self._versions(token), self._versions(base) if base else {}
        changed = {
            place: theirs.get(place, b"")
            for place in theirs.keys() | common.keys()
            if theirs.get(place) != common.get(place)
        }
        new = {place for place, version in changed.items() if version and not self.floor(*place)}
        self._take_room(new - self._under_way.keys())
        for place, version in changed.items():
            known = self.floor(*place)
            if known != common.get(place, b""):
                version = self._newer(place[0], version, known)
            self._latest = max(self._latest, int.from_bytes(version[:STAMP_BYTES]))
            if version:
                self._seen.setdefault(self._place_of(place[0]), {})[place[1]] = version
            else:
                self._forget(place, int.from_bytes(known[:STAMP_BYTES]))

    def _versions(self, token: str) -> dict[tuple[str, bytes], bytes]:
        """What a token says was seen, by bucket and key."""
        cluster, packed = _opened(token)
        check_cluster(cluster, self.cluster)
        entries = list(_entries(self._unpacked(packed)))
        for known_as in {bucket for bucket, _, _ in entries}:
            self._make_anew(name_of(known_as), known_as)
        return {
            (name_of(bucket), key): version
            for bucket, key, version in entries
            if bucket == self._place_of(name_of(bucket))
        }

    def _unpacked(self, packed: bytes) -> bytes:
        """The CBOR of a token, if it is no longer than what this session has room for."""
        # Bounded before it is unpacked: a few compressed bytes can stand for gigabytes.
        bytes_max = self._bytes_max + CBOR_BYTES_PER_KEY_MAX * self.keys_max
        unpacker = zlib.decompressobj()
        try:
            cbor = unpacker.decompress(packed, bytes_max)
        except zlib.error:
            raise _damaged("its content is not what a session writes") from None
        if unpacker.unconsumed_tail or (not unpacker.eof and len(cbor) == bytes_max):
            raise SessionFull(
                f"the session token holds more than this session has room for, {self.keys_max} keys; nothing "
                f"was done. Begin one with a greater keys_max"
            )
        if not unpacker.eof or unpacker.unused_data:
            raise _damaged("its content is not what a session writes")
        return cbor


def check_cluster(session: bytes, cluster: bytes) -> None:
    """InvalidRequest unless a session of the one cluster may be used with the other."""
    if session != cluster:
        raise InvalidRequest(
            f"the session belongs to cluster {session.hex()}, and this is cluster {cluster.hex()}. Use it "
            f"there, or begin another one here, without a token"
        )


def _told(answer: Message | BasestoreError | None) -> bytes:
    """The version that an answer tells the caller of; empty if none."""
    if isinstance(answer, Got):
        return answer.order or answer.version
    if isinstance(answer, Written):
        if answer.outcome in (OUTCOME_STORED, OUTCOME_DEFERRED):
            version = answer.order or answer.version
            return version if answer.acknowledged else version + UNTAKEN
        return answer.order or answer.better
    return b""


def _lost(answer: Message | BasestoreError | None) -> bytes:
    """The version that an answer says is lost; empty if none."""
    if isinstance(answer, Failed) and answer.code == VersionLost.code:
        answer = error_of(answer)
    if isinstance(answer, VersionLost) and answer.version is not None:
        return answer.version.encode()
    return b""


def _flat(versions: dict[bytes, bytes]) -> list[bytes]:
    return [part for key in sorted(versions) for part in (key, versions[key])]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _checksum(body: bytes) -> bytes:
    """It tells a token that was cut or altered by mistake; it is no signature."""
    return hashlib.blake2b(body, digest_size=CHECKSUM_BYTES, person=b"session-token").digest()


def _damaged(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the session token cannot be used: {why}. Pass it whole, as it was given, or begin a session "
        f"without it, which knows nothing of what was seen before"
    )


def _opened(token: str) -> tuple[bytes, bytes]:
    """The cluster's id and the compressed content of a token; InvalidRequest when it is damaged."""
    if not isinstance(token, str):
        raise InvalidRequest(f"a session token is a str, not {type(token).__name__}")
    if not token.startswith(TOKEN_FORM):
        raise _damaged(f"a token of this version begins with {TOKEN_FORM}, not with {token[:3]!r}")
    text = token.removeprefix(TOKEN_FORM)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _damaged("it was cut or altered") from None
    body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    # The text is compared too: base64 that ends in spare bits has several spellings.
    if len(body) <= CLUSTER_BYTES or checksum != _checksum(body) or _base64(data) != text:
        raise _damaged("it was cut or altered")
    return body[:CLUSTER_BYTES], body[CLUSTER_BYTES:]


def _entries(cbor: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Bucket, key and version of all that a token holds; InvalidRequest when it holds anything else."""
    try:
        rows: Any = cbor2.loads(cbor, max_depth=CBOR_DEPTH_MAX, allow_indefinite=False)
        for bucket, versions in rows:
            for key, version in zip(versions[::2], versions[1::2], strict=True):
                if not (type(bucket) is str and type(key) is type(version) is bytes and key):
                    raise TypeError
                if len(version) < VERSION_BYTES or version[VERSION_BYTES:] not in (b"", UNTAKEN):
                    raise ValueError
                yield bucket, key, version
    except (cbor2.CBORError, LookupError, RecursionError, TypeError, ValueError):
        raise _damaged("its content is not what a session writes") from None
