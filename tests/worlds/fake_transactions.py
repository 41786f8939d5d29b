"""Registers of a fake node (`fake_registers.py`) of which several can be written at once, and locks."""

from collections.abc import Callable
from typing import Any

from basestore.errors import Conflict, FencedOff, RequestFailed
from basestore.leases import LOCKS, Holding
from basestore.protocol.client import (
    DELETE,
    HELD,
    HOLDS_NOTHING,
    SET,
    Commit,
    Committed,
    Failed,
    Set,
)
from basestore.protocol.codec import Message
from basestore.protocol.handshake import rows_of_buckets
from basestore.repair.rule import Rule
from basestore.repair.version import Version
from tests.worlds.fake_registers import BETWEEN, STEP, Held, Registers
from tests.worlds.fakes import WELCOME

SERVING = WELCOME._replace(
    buckets=rows_of_buckets([("cas", Rule.REGISTER, 3), ("default", Rule.LAST_WRITE_WINS, 0)])
)
ANOTHER = b"another holder, "


class TransactionRegisters(Registers):
    """`instead`: what is done in place of what the next requests of these classes ask for, in their order:
    an error that is told, or None: nothing is. `done`: it is done nevertheless. `deaf`: whether a request
    gets no answer, from now on."""

    def __init__(self) -> None:
        super().__init__()
        self.instead: dict[type, list[RequestFailed | None]] = {}
        self.done = False
        self.deaf: Callable[[Any], bool] = lambda request: False

    def __call__(self, request: Message) -> Message | None:
        if self.deaf(request):
            return None
        told = self.instead.get(type(request), [])
        if told and not self.done:
            self.asked.append(request)
            return self._fails(request, told.pop(0))
        if isinstance(request, Commit):
            self.asked.append(request)
            answer: Message | None = self._commit(request)
        else:
            answer = super().__call__(request)
        return self._fails(request, told.pop(0)) if told else answer

    def _fails(self, request: Any, error: RequestFailed | None) -> Message | None:
        return None if error is None else Failed(request.id, error.code, str(error), b"", [])

    def _commit(self, request: Commit) -> Message:
        for bucket, key, kind, expected in zip(
            request.buckets, request.keys, request.kinds, request.expected, strict=True
        ):
            held = self.held.get((bucket, key))
            there = held.known.encode() if held is not None and held.value is not None else HOLDS_NOTHING
            if kind == HELD:
                if self._token_of(key) != int.from_bytes(expected):
                    return Failed(request.id, FencedOff.code, "fenced off: nothing was done", b"", [])
            elif expected not in (b"", there):
                return Failed(request.id, Conflict.code, f"conflict: {key!r}; nothing was done", b"", [])
        versions = [
            self.put(bucket, key, value if kind == SET else None).encode()
            for bucket, key, kind, value in zip(
                request.buckets, request.keys, request.kinds, request.values, strict=True
            )
            if kind in (SET, DELETE)
        ]
        return Committed(request.id, versions, [0] * len(versions), [2] * len(versions))

    def put(self, bucket: str, key: bytes, value: bytes | None) -> Version:
        """Whoever does it."""
        self._stamp += STEP
        known = Version(self._stamp, 1, 7)
        self.held[bucket, key] = Held(known, Version(self._stamp + BETWEEN, 2, 9), value)
        return known

    # --- locks -----------------------------------------------------------------------------------

    def lock(self, name: bytes = b"jobs") -> Holding | None:
        """What its register holds."""
        held = self.held.get((LOCKS, name))
        return Holding.decode(held.value) if held is not None and held.value is not None else None

    def take(self, owner: str = "another", seconds: float = 600.0, name: bytes = b"jobs") -> None:
        """Another takes it, whoever has it."""
        before = self.lock(name)
        row = Holding((before.token if before else 0) + 1, ANOTHER, owner, round(seconds * 1e3), 0)
        self.put(LOCKS, name, row.encode())

    def _token_of(self, name: bytes) -> int:
        lock = self.lock(name)
        return lock.token if lock is not None and lock.holder else 0


def renews(request: Any) -> bool:
    """Whether this writes the register of a lock that is held, after it was taken."""
    return isinstance(request, Set) and request.bucket == LOCKS and bool(request.expected)
