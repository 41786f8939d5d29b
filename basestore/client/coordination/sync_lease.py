"""Sync lease: a lock that is held for the length of a `with` block (`SyncStore.lease`).

A thread renews it. No thread can be stopped from outside: so a block that goes on for long asks `check`,
which raises LeaseLost; and what it writes it had better fence.
"""

from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self

from basestore.client.coordination.lease import (
    Asks,
    Steps,
    Wanted,
    boot_s,
    changing,
    giving,
    not_renewed,
    renewing,
    taking,
)
from basestore.client.coordination.tenure import Tenure
from basestore.client.coordination.transaction import Row, ToPlace, ToWrite
from basestore.errors import BasestoreError, LeaseLost
from basestore.leases import BUCKET
from basestore.protocol.client import DELETE, SET

Ask = Callable[[Any], Any]


class _Over(Exception):
    """Nobody waits for this any more."""


def carried(steps: Steps, ask: Ask, over: Event, until_s: Callable[[], float] | None = None) -> Any:
    """What the steps return; _Over when `over` is set, or the time is."""
    try:
        step = next(steps)
        while True:
            if over.is_set() or (until_s is not None and boot_s() >= until_s()):
                raise _Over
            try:
                told = over.wait(step) if isinstance(step, float) else ask(step)
            except BasestoreError as error:
                step = steps.throw(error)
            else:
                step = steps.send(told)
    except StopIteration as end:
        return end.value


class SyncLease:
    """Between the beginning and the end of a `with` block; `Lease` documents what is the same."""

    def __init__(
        self, wanted: Wanted, holder: bytes, asks: Asks, ask: Ask, place: ToPlace, write: ToWrite
    ) -> None:
        self._wanted, self._holder, self._asks, self._ask = wanted, holder, asks, ask
        self._place, self._write = place, write
        self._tenure: Tenure | None = None
        self._lost: LeaseLost | None = None
        self._over, self.ended, self._one_at_a_time = Event(), Event(), Lock()
        self._keeper = Thread(target=self._keep, name="basestore lease", daemon=True)

    @property
    def name(self) -> bytes:
        return self._wanted.name

    @property
    def token(self) -> int:
        """As of `Lease`."""
        return self._held.row.token

    @property
    def remaining(self) -> float:
        """As of `Lease`."""
        return 0.0 if self._lost else max(0.0, self._held.believed_until_s - boot_s())

    @property
    def _held(self) -> Tenure:
        assert self._tenure is not None, "the block has not begun"
        return self._tenure

    def check(self) -> None:
        """LeaseLost if it is; then the block should end."""
        if self._lost is None and boot_s() >= self._held.believed_until_s:
            self._lost = not_renewed(self.name)
        if self._lost is not None:
            raise self._lost

    def set(self, key: bytes | str, value: bytes | str, *, bucket: str = BUCKET) -> None:
        """Write an ephemeral key, as of `Lease`."""
        place, write = self._place(bucket, key), self._write(value, None)
        assert write.value is not None
        self._change(Row(*place, SET, b"", write.value, 0))

    def delete(self, key: bytes | str, *, bucket: str = BUCKET) -> None:
        """Delete an ephemeral key."""
        place = self._place(bucket, key)
        self._change(Row(*place, DELETE, b"", b"", 0))

    def _change(self, change: Row) -> None:
        self.check()
        with self._one_at_a_time:
            carried(changing(self._asks, self._wanted, self._held, change), self._ask, Event())

    # --- the block -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._tenure = carried(taking(self._asks, self._wanted, self._holder), self._ask, Event())
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(LeaseLost):
            self.check()  # by this moment: the last renewal may take its time
        self._over.set()
        self._keeper.join()
        if self._lost is None:
            try:
                carried(giving(self._asks, self._wanted, self._held), self._ask, Event())
            except LeaseLost as lost:
                self._lost = lost
            except BasestoreError:
                return  # it ends by itself, a little later
        if error is None and self._lost is not None:
            raise self._lost  # else what the block has raised goes on

    def _keep(self) -> None:
        """Renew it in time, until the block ends, or it is lost."""
        tenure = self._held
        try:
            while not self._over.wait(max(0.0, tenure.due_s - boot_s())):
                with self._one_at_a_time:
                    steps = renewing(self._asks, self.name, tenure)
                    carried(steps, self._ask, self._over, lambda: tenure.believed_until_s)
        except LeaseLost as error:
            self._lost = error
        except _Over:
            if not self._over.is_set():
                self._lost = not_renewed(self.name)
        self.ended.set()
