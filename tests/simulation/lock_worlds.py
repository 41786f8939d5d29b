"""Lock worlds: transaction worlds in which some hold locks, write under them, and stand still or crash.

When all is well again no lock stays held by who is gone, and no ephemeral key is left of any.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import cbor2

from tests.simulation import stored as s
from tests.simulation.chains import LAID, LOCKED, Link
from tests.simulation.clients import Client
from tests.simulation.clockwork import Stream
from tests.simulation.lock_holders import LockHolder, Written
from tests.simulation.plan import Plan
from tests.simulation.transaction_worlds import TransactionWorld, draw_transactions

if TYPE_CHECKING:
    from basestore.client.coordination.tenure import Tenure

FIRST = 400  # of holders
COUNTS = (2, 3, 5)
LOCKS = (("l0",), ("l0",), ("l0", "l1"))
QUIET_S_MAX = 60.0
LAW = "locks"


def draw_locks(seed: int) -> Plan:
    """The plan of a seed: of transactions, with few who do anything else."""
    plan, stream = draw_transactions(seed), Stream(seed, "locks")
    registers = plan.registers[: stream.pick((0, 1, 2))]
    return replace(plan, registers=registers, clients=plan.clients[:1], seconds=max(plan.seconds, 6.0))


class LockWorld(TransactionWorld):
    """One of them. `locks`: their names."""

    def __init__(self, plan: Plan, *, recording: bool = False) -> None:
        stream = Stream(plan.seed, "locks held")
        self.locks = stream.pick(LOCKS)
        self._count = stream.pick(COUNTS)
        self.holders: list[LockHolder] = []
        self._taken: dict[tuple[str, int], tuple[int, bytes]] = {}  # by lock and token: who
        self._until_s: dict[tuple[str, int], float] = {}  # by lock and holder: believed in
        self._written: list[Written] = []
        self.broken: set[int] = set()  # partitions that may have lost something
        super().__init__(plan, recording=recording)

    def guarded(self, lock: str) -> bytes:
        """The key that is written under it."""
        return b"g" + lock.encode()

    # --- what holders say ------------------------------------------------------------------------

    def took(self, holder: LockHolder, lock: str, tenure: "Tenure") -> None:
        row = tenure.row
        self.counts["locks: taken"] += 1
        before = self._taken.setdefault((lock, row.token), (holder.index, row.holder))
        if before != (holder.index, row.holder) and not self._is_broken(lock):
            self.blame(LAW, f"token {row.token} of {lock} is of {before} and h{holder.index}")
        for (other_lock, other), until_s in self._until_s.items():
            apart = other_lock != lock or other == holder.index or until_s <= self.clockwork.now
            if not (apart or self._is_broken(lock)):
                text = f"h{holder.index} takes {lock} at {self.clockwork.now:.4f}"
                self.blame(LAW, f"{text}, and h{other} believes in it until {until_s:.4f}")
        self.believes(holder, lock, tenure)

    def believes(self, holder: LockHolder, lock: str, tenure: "Tenure") -> None:
        self._until_s[lock, holder.index] = holder.real_s(tenure.believed_until_s)

    def let_go(self, holder: LockHolder, lock: str) -> None:
        self._until_s.pop((lock, holder.index), None)

    def writes(self, lock: str, token: int, value: bytes) -> Written:
        self._written.append(Written(lock, token, value))
        return self._written[-1]

    def _is_broken(self, lock: str) -> bool:
        """Whether what the lock was may have been lost with more stores than can be spared."""
        return s.partition_of(self.placement.row(LOCKED, lock.encode())) in self.broken

    # --- the acts ------------------------------------------------------------------------------

    def begin_clients(self) -> list[Client]:
        self.holders = [LockHolder(self, FIRST + at) for at in range(self._count)]
        for holder in self.holders:
            holder.begin()
        return super().begin_clients()

    def ruined(self, partitions: Collection[int]) -> None:
        super().ruined(partitions)
        self.broken |= set(partitions)

    def bereft(self, partitions: Collection[int]) -> None:
        super().bereft(partitions)
        self.broken |= set(partitions)

    def heal(self) -> None:
        super().heal()
        for holder in self.holders:  # all are gone at once
            holder.ended = True

    def examine(self, clients: list[Client]) -> None:
        end = self.clockwork.now + QUIET_S_MAX
        while (left := self._held()) and self.clockwork.now < end:
            self.clockwork.run(self.clockwork.now + 0.5)
        if left and not self.clocks_misled:
            self.blame(LAW, f"{left[0]}, {QUIET_S_MAX} s after all holders are gone")
        super().examine(clients)

    def _held(self) -> list[str]:
        """What is left of who is gone."""
        found = list[str]()
        lost = any(map(self._is_broken, self.locks))  # with a lock goes what says which keys are ephemeral
        for machine in self.roster.members:
            for key, stored in machine.disk.scan(s.DATA, bytes((s.DATA[0] + 1,))):
                row, name = key[1:], f"n{machine.index + 1}"
                if s.is_tombstone(stored):
                    continue
                if s.bucket_of(row) == LOCKED:
                    if stored[s.FLAGS_AT] & LAID or cbor2.loads(Link.of(stored).value)[1]:
                        found.append(f"{name} holds a lock {s.key_of_bytes(row)!r} that somebody has")
                elif not lost and s.bucket_of(row) == b"cas" and s.key_of_bytes(row).startswith(b"e4"):
                    found.append(f"{name} holds an ephemeral key {s.key_of_bytes(row)!r}")
        return found

    # --- judgement -----------------------------------------------------------------------------

    def judge_registers(self) -> None:
        super().judge_registers()
        assert self.chains is not None
        for lock in self.locks:
            if not self._is_broken(lock):
                self._judge_tokens(lock)
            self._judge_guarded(lock)

    def _judge_tokens(self, lock: str) -> None:
        """They never go back."""
        assert self.chains is not None
        last = 0
        for link in self.chains.rows[self.placement.row(LOCKED, lock.encode())].links:
            token = 0 if link.tombstone else cbor2.loads(link.value)[0]
            if token < last:
                self.blame(LAW, f"token {token} of {lock} comes behind {last}")
            last = max(last, token)
        self.counts["locks: tokens"] += last

    def _judge_guarded(self, lock: str) -> None:
        """What is written under a lock never goes back to an earlier token; and what was told is so."""
        assert self.chains is not None
        row = self.placement.row(b"cas", self.guarded(lock))
        if self._is_broken(lock) or s.partition_of(row) in self.broken:
            self.counts["locks: spared, for stores are lost"] += 1
            return
        values, last = list[bytes](), 0
        for link in self.chains.rows[row].links:
            token = int(link.value.split()[0]) if not link.tombstone else last
            if token < last:
                self.blame(LAW, f"{link.value!r} is written under {lock}, behind token {last}")
            last = max(last, token)
            values.append(link.value)
        for written in self._written:
            if written.lock == lock and written.told is not None:
                if (written.value in values) is not written.told:
                    self.blame(LAW, f"{written.value!r} was told {written.told} under {lock}")
                self.counts["locks: writes judged"] += 1
