"""Lease: how a lock is taken, kept and given back, step by step, for whoever carries the steps.

Each of these is a generator: it yields a request, and is sent its result, or thrown its error; or a pause in
seconds. So the asynchronous lease and the blocking one (`async_lease.py`, `sync_lease.py`) differ only in how
they wait:

    taking      until the lock is held, or has been by others for longer than one waits (LockHeld)
    renewing    once; as often as needed while errors pass. LeaseLost if another has the lock
    changing    the ephemeral keys, in one transaction with the row of the lock that names them
    giving      back: the lock is free, and its ephemeral keys go. LeaseLost as well

A request whose outcome is not known is not repeated as itself: what the row holds then shows whether it was
done, for it names its holder.
"""

import time
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, Protocol

from basestore.client.coordination.tenure import Claim, Take, Tenure
from basestore.client.coordination.transaction import Row
from basestore.errors import (
    BasestoreError,
    Conflict,
    InvalidRequest,
    LeaseLost,
    LockHeld,
    OutcomeUnknown,
)
from basestore.leases import EPHEMERAL_MAX, LOCKS, OWNER_BYTES_MAX, SECONDS_MAX, SECONDS_MIN, Holding
from basestore.protocol.client import DELETE, SET
from basestore.repair.version import Version
from basestore.results.receipts import ReadResult, Receipt

AGAIN_S: Final = 0.1  # after an error that may pass
GIVING_TRIES: Final = 5
WHATEVER: Final = b""
_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", None)
Steps = Generator[Any, Any, Any]


class Asks(Protocol):
    """The requests of a store, not asked yet (`Calls`)."""

    def read_lock(self, name: bytes) -> Any: ...

    def write_lock(self, name: bytes, row: bytes, version: Version | None) -> Any: ...

    def commit(self, rows: list[Row], timeout: float | None) -> Any: ...


class Wanted(NamedTuple):
    """`name`: of the lock; `wait_s`: for how long, None for ever; `timeout_s`: of each request."""

    name: bytes
    owner: str
    lease_ms: int
    wait_s: float | None
    timeout_s: float | None

    @classmethod
    def of(
        cls, name: bytes, seconds: float, wait: float | None, owner: str, timeout_s: float | None
    ) -> "Wanted":
        """InvalidRequest for what makes no sense."""
        if not isinstance(seconds, int | float) or not SECONDS_MIN <= seconds <= SECONDS_MAX:
            raise InvalidRequest(
                f"a lease of {seconds!r:.40} seconds; it lasts {SECONDS_MIN:g} to {SECONDS_MAX:g}, as 10"
            )
        if wait is not None and (not isinstance(wait, int | float) or not wait >= 0):
            raise InvalidRequest(
                f"wait is a number of seconds, 0 or more, or None: for ever; not {wait!r:.40}"
            )
        if not isinstance(owner, str) or len(owner.encode()) > OWNER_BYTES_MAX:
            raise InvalidRequest(f"the owner of a lease is a str of at most {OWNER_BYTES_MAX} bytes")
        return cls(name, owner, round(seconds * 1e3), wait, timeout_s)


def boot_s() -> float:
    """Seconds that have passed, those in which the machine was asleep included."""
    if _BOOT is None:
        return time.monotonic()
    return time.clock_gettime(_BOOT)


def taking(asks: Asks, wanted: Wanted, holder: bytes, clock: Callable[[], float] = boot_s) -> Steps:
    """Returns the Tenure. What is not reached is asked for again as long as one waits."""
    claim, begun_s = Claim(holder, wanted.owner, wanted.lease_ms), clock()
    while True:
        pause_s = AGAIN_S
        try:
            found: ReadResult = yield asks.read_lock(wanted.name)
            sent_s = clock()
            take = _looked(claim, found, sent_s, wanted.name)
            if isinstance(take, Take):
                version = yield from _take(asks, wanted, take)
                if version is not None:
                    return Tenure(take.row, version, sent_s)
            else:
                pause_s = take
        except (InvalidRequest, LockHeld):
            raise
        except BasestoreError as error:
            if wanted.wait_s is not None and clock() + pause_s > begun_s + wanted.wait_s:
                raise
            del error
        if wanted.wait_s is not None and clock() + pause_s > begun_s + wanted.wait_s:
            raise held_by(wanted.name, claim.held)
        yield pause_s


def _looked(claim: Claim, found: ReadResult, now: float, name: bytes) -> Take | float:
    try:
        return claim.look(found, now, int(time.time() * 1e3))
    except ValueError as error:
        raise InvalidRequest(
            f"what stands in the place of lock {name[:64]!r} is {error}: it was written by something else"
        ) from None


def _take(asks: Asks, wanted: Wanted, take: Take) -> Steps:
    """Returns the version of the row; None if another was faster."""
    row = take.row.encode()
    if take.ends is not None and take.ends.keys and take.version is not None:
        rows = [Row(LOCKS, wanted.name, SET, take.version.encode(), row, 0), *_ended(take.ends.keys)]
        try:
            versions: list[Version] = yield asks.commit(rows, wanted.timeout_s)
        except Conflict:
            return None
        return versions[0]
    receipt: Receipt = yield asks.write_lock(wanted.name, row, take.version)
    return receipt.version if receipt else None


def _ended(keys: tuple[tuple[str, bytes], ...]) -> list[Row]:
    """Ephemeral keys go."""
    return [Row(bucket, key, DELETE, WHATEVER, b"", 0) for bucket, key in keys]


def renewing(asks: Asks, name: bytes, tenure: Tenure, clock: Callable[[], float] = boot_s) -> Steps:
    """Once; LeaseLost. Whoever carries it stops when it is not believed in any more."""
    while True:
        sent_s, row = clock(), tenure.next_row()
        try:
            receipt: Receipt = yield asks.write_lock(name, row.encode(), tenure.version)
        except BasestoreError:
            yield AGAIN_S
            continue
        if receipt and receipt.version is not None:
            tenure.renewed(row, receipt.version, sent_s)
            return
        _found_anew(name, tenure, receipt.value, receipt.superseded_by)


def _found_anew(name: bytes, tenure: Tenure, value: bytes | None, version: Version | None) -> None:
    """The row is not what it was: it may be this holder's, by a request whose outcome was not known."""
    try:
        row = Holding.decode(value or b"")
    except ValueError:
        row = None
    if row is None or version is None or (row.holder, row.token) != (tenure.row.holder, tenure.row.token):
        raise lost_to(name, row)
    tenure.row, tenure.version = row, version


def changing(
    asks: Asks, wanted: Wanted, tenure: Tenure, change: Row, clock: Callable[[], float] = boot_s
) -> Steps:
    """`change`: what is done to one ephemeral key. Which there are besides the row says that is there when it
    is sent: one of which nobody knew whether it was done may be among them."""
    place = change.bucket, change.key
    for _ in range(2):
        others = tuple(each for each in tenure.row.keys if each != place)
        keys = (*others, place) if change.kind == SET else others
        if len(keys) > EPHEMERAL_MAX:
            raise InvalidRequest(f"a lease has at most {EPHEMERAL_MAX} ephemeral keys; nothing was done")
        row, sent_s = tenure.next_row(keys), clock()
        rows = [Row(LOCKS, wanted.name, SET, tenure.version.encode(), row.encode(), 0), change]
        try:
            versions: list[Version] = yield asks.commit(rows, wanted.timeout_s)
        except (Conflict, OutcomeUnknown) as error:
            found: ReadResult = yield asks.read_lock(wanted.name)
            before = tenure.version
            _found_anew(wanted.name, tenure, found.value, found.version)
            if tenure.row.keys == keys and tenure.version != before and isinstance(error, OutcomeUnknown):
                return  # it was done
            if isinstance(error, Conflict) and tenure.version == before:
                raise  # of the key itself
            continue
        tenure.renewed(row, versions[0], sent_s)
        return
    raise Conflict(
        f"conflict: lock {wanted.name[:64]!r} is being changed by another task of this lease; nothing was "
        f"done. Try again"
    )


def giving(asks: Asks, wanted: Wanted, tenure: Tenure) -> Steps:
    """LeaseLost if another has it, or somebody has ended it. The row may be another one by a renewal of which
    nobody has heard. If others are at it again and again it ends by itself, a little later."""
    for _ in range(GIVING_TRIES):
        free, before = tenure.row.free.encode(), tenure.version
        if tenure.row.keys:
            rows = [Row(LOCKS, wanted.name, SET, before.encode(), free, 0), *_ended(tenure.row.keys)]
            try:
                yield asks.commit(rows, wanted.timeout_s)
            except Conflict:
                found: ReadResult = yield asks.read_lock(wanted.name)
                value, version = found.value, found.version
            else:
                return
        else:
            receipt: Receipt = yield asks.write_lock(wanted.name, free, before)
            if receipt:
                return
            value, version = receipt.value, receipt.superseded_by
        _found_anew(wanted.name, tenure, value, version)
        if tenure.version == before:
            yield AGAIN_S


# --- errors ------------------------------------------------------------------------------------------


def held_by(name: bytes, row: Holding | None) -> LockHeld:
    who = f", by {row.owner}" if row is not None and row.owner else ""
    return LockHeld(
        f"lock {name[:64]!r} is held{who}, for as long as was waited; nothing was done. Wait for longer, or "
        f"try again later"
    )


def lost_to(name: bytes, row: Holding | None) -> LeaseLost:
    who = "by nobody" if row is None or not row.holder else f"by {row.owner or 'another'}"
    return LeaseLost(
        f"the lease of lock {name[:64]!r} is lost: it is held {who} now. What was done under it may have "
        f"been done beside another holder, unless it was fenced: look at it, and take the lock again"
    )


def not_renewed(name: bytes) -> LeaseLost:
    return LeaseLost(
        f"the lease of lock {name[:64]!r} is lost: it could not be renewed in time, so another may hold it "
        f"by now. What was done under it may have been done beside another holder, unless it was fenced: "
        f"look at it, and take the lock again"
    )
