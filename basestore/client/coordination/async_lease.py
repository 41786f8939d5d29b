"""Async lease: a lock that is held for the length of an `async with` block (`Store.lease`).

A task renews it behind the block. When it cannot be believed in any more the block is cancelled, and
LeaseLost is raised behind it: nothing goes on under a lease that is lost, but what does not wait for
anything. Such a block cannot be cancelled; once it has ended LeaseLost is raised all the same.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

import anyio
from anyio.abc import TaskGroup

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

GIVING_S: Final = 2.0  # that a lock may take to be given back
Ask = Callable[[Any], Awaitable[Any]]


async def carried(steps: Steps, ask: Ask) -> Any:
    """What the steps return, carried one after the other."""
    try:
        step = next(steps)
        while True:
            try:
                told = await (anyio.sleep(step) if isinstance(step, float) else ask(step))
            except BasestoreError as error:
                step = steps.throw(error)
            else:
                step = steps.send(told)
    except StopIteration as end:
        return end.value


class Lease:
    """Between the beginning and the end of an `async with` block."""

    def __init__(
        self, wanted: Wanted, holder: bytes, asks: Asks, ask: Ask, place: ToPlace, write: ToWrite
    ) -> None:
        self._wanted, self._holder, self._asks, self._ask = wanted, holder, asks, ask
        self._place, self._write = place, write
        self._tenure: Tenure | None = None
        self._lost: LeaseLost | None = None

    @property
    def name(self) -> bytes:
        return self._wanted.name

    @property
    def token(self) -> int:
        """Greater than that of every lease of this lock before it: for `fence`, and for whatever guards
        something by itself."""
        return self._held.row.token

    @property
    def remaining(self) -> float:
        """For how many seconds it is believed in, if it is not renewed."""
        return max(0.0, self._held.believed_until_s - boot_s())

    @property
    def _held(self) -> Tenure:
        assert self._tenure is not None, "the block has not begun"
        return self._tenure

    async def set(self, key: bytes | str, value: bytes | str, *, bucket: str = BUCKET) -> None:
        """Write an ephemeral key of a bucket of registers: it goes when the lease ends, in whatever way, in
        the same moment."""
        place, write = self._place(bucket, key), self._write(value, None)
        assert write.value is not None
        await self._change(Row(*place, SET, b"", write.value, 0))

    async def delete(self, key: bytes | str, *, bucket: str = BUCKET) -> None:
        """Delete an ephemeral key."""
        place = self._place(bucket, key)
        await self._change(Row(*place, DELETE, b"", b"", 0))

    async def _change(self, change: Row) -> None:
        async with self._one_at_a_time:
            await carried(changing(self._asks, self._wanted, self._held, change), self._ask)

    # --- the block -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._one_at_a_time = anyio.Lock()
        self._tenure = await carried(taking(self._asks, self._wanted, self._holder), self._ask)
        self._tasks: TaskGroup = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._keep)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None and self._lost is None and boot_s() >= self._held.believed_until_s:
            self._lost = not_renewed(self.name)  # it has waited for nothing, so the task was not heard
        self._tasks.cancel_scope.cancel()
        # What the block has raised goes on as it is; that it was cancelled from here ends here.
        cancelled = isinstance(error, anyio.get_cancelled_exc_class())
        told = (kind, error, trace) if cancelled else (None, None, None)
        try:
            ended = bool(await self._tasks.__aexit__(*told))
        finally:  # who was cancelled from further outside has no more use for it
            if self._lost is None:
                with anyio.move_on_after(GIVING_S, shield=True):
                    await self._give(tells=error is None)
        if self._lost is not None:
            raise self._lost
        return cancelled and ended

    async def _give(self, *, tells: bool) -> None:
        """`tells`: if it is not this holder's any more, it was lost."""
        try:
            await carried(giving(self._asks, self._wanted, self._held), self._ask)
        except LeaseLost as error:
            self._lost = error if tells else None
        except BasestoreError:
            return  # it ends by itself, a little later

    async def _keep(self) -> None:
        """Renew it in time; or end the block."""
        tenure = self._held
        while self._lost is None:
            await anyio.sleep(max(0.0, tenure.due_s - boot_s()))
            with anyio.move_on_after(max(0.0, tenure.believed_until_s - boot_s())) as scope:
                try:
                    async with self._one_at_a_time:
                        await carried(renewing(self._asks, self.name, tenure), self._ask)
                except LeaseLost as error:
                    self._lost = error
            if scope.cancelled_caught and boot_s() >= tenure.believed_until_s:
                self._lost = not_renewed(self.name)
        self._tasks.cancel_scope.cancel()
