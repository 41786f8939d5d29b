"""Limits: how often a bucket, and one key of it, may be asked for in a second. Pure: times are arguments.

A limit of N a second lets N through at once, and one more each N-th part of a second: in any stretch of s
seconds at most N + N * s. This is the generic cell rate algorithm (ITU-T I.371): of a bucket, or of a key,
nothing is kept but when it will be *full* again, so that N may come at once.

    2 a second    at 0 s two are let through: full again at 1 s
                  a third has to wait until 0.5 s; a fourth of the same frame until 1 s
                  at 0.5 s one is let through: full again at 1.5 s

A key that is full is as good as one that was never asked for, so keys are forgotten a second after their last
request. They are known by digests, which callers must not be able to choose.
"""

from typing import Final, NamedTuple

SECOND_NS: Final = 1_000_000_000
KEYS_MAX: Final = 1 << 16  # that are known; with more in a second, some are forgotten while they are not full


class Refusal(NamedTuple):
    """`of_key`: it is the key that is asked for too often, and not the bucket; `wait_ns`: until when."""

    of_key: bool
    wait_ns: int


class Limit:
    """So many a second. `burst_ns`: how long it takes to be full again after as many as may come at once."""

    __slots__ = ("_every_ns", "burst_ns")

    def __init__(self, per_s: int) -> None:
        self._every_ns = -(-SECOND_NS // per_s)
        self.burst_ns = per_s * self._every_ns

    def wait_ns(self, full_ns: int, now_ns: int, before: int) -> int:
        """How long one more has to wait, behind so many that wait already; 0: not at all."""
        return max(0, full_ns - now_ns + (before + 1) * self._every_ns - self.burst_ns)

    def full_ns(self, full_ns: int, now_ns: int) -> int:
        """When it is full again once one more is let through."""
        return max(full_ns, now_ns) + self._every_ns


class BucketLimits:
    """Of one bucket; a limit of 0 is none. What is refused of one frame is told to come one after the other,
    whatever is refused of others: who asks for a lot makes nobody else wait longer."""

    def __init__(self, requests_per_s: int, key_requests_per_s: int) -> None:
        self._whole = Limit(requests_per_s) if requests_per_s else None
        self._key = Limit(key_requests_per_s) if key_requests_per_s else None
        self.of_keys = self._key is not None
        self._full_ns = 0
        self._refused = 0
        self._known: dict[bytes, int] = {}  # when keys are full again
        self._before: dict[bytes, int] = {}  # the same of those that were last asked for before that
        self._turns_ns = 0
        self._key_refused: dict[bytes, int] = {}
        self._now_ns = 0

    def begin(self, now_ns: int) -> None:
        """A frame has come."""
        self._now_ns, self._refused = now_ns, 0
        self._key_refused.clear()

    def ask(self, key: bytes) -> Refusal | None:
        """One request of it, for the key of that digest, or for none: let it through, or refuse it. What is
        refused counts for nothing."""
        known_ns, now_ns = 0, self._now_ns
        of_key = self._key if key else None
        if of_key is not None:
            known_ns = self._full_at(of_key, key, now_ns)
            refused = self._key_refused.get(key, 0)
            if wait_ns := of_key.wait_ns(known_ns, now_ns, refused):
                self._key_refused[key] = refused + 1
                return Refusal(True, wait_ns)
        if self._whole is not None:
            if wait_ns := self._whole.wait_ns(self._full_ns, now_ns, self._refused):
                self._refused += 1
                return Refusal(False, wait_ns)
            self._full_ns = self._whole.full_ns(self._full_ns, now_ns)
        if of_key is not None:
            self._known[key] = of_key.full_ns(known_ns, now_ns)
        return None

    @property
    def known(self) -> int:
        """Of how many keys it knows something."""
        return len(self._known) + len(self._before)

    def _full_at(self, limit: Limit, key: bytes, now_ns: int) -> int:
        """When this key is full again. What was last asked for two turns ago is full by now."""
        if now_ns >= self._turns_ns or len(self._known) >= KEYS_MAX:
            self._before, self._known = self._known, {}
            self._turns_ns = now_ns + limit.burst_ns
        full_ns = self._known.get(key)
        return self._before.get(key, 0) if full_ns is None else full_ns
