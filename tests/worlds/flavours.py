"""The three clients, behind one interface: one test serves Trio, asyncio and the blocking client."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

import basestore
import basestore.sync
from basestore.client.coordination.transaction import SyncTransaction
from basestore.sync import SyncSession, SyncStore

ASYNC = ["trio", "asyncio"]

FLAVOURS = [*ASYNC, "sync"]

Body = Callable[[Any], Awaitable[None]]


class Blocking:
    """A blocking store with the calls of an asynchronous one, so that one test serves for both."""

    def __init__(self, store: SyncStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._store, name)

        async def wrapped(*args: Any, **options: Any) -> Any:
            return call(*args, **options)

        return wrapped

    def retrying(self, budget: float = 0.1) -> "Blocking":
        return Blocking(self._store.retrying(budget))

    @property
    def retries(self) -> int:
        return self._store.retries

    async def scan(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        for item in self._store.scan(*args, **options):
            yield item

    async def watch(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        for event in self._store.watch(*args, **options):
            yield event

    @asynccontextmanager
    async def session(self, *tokens: str, **options: Any) -> AsyncIterator[Any]:
        with self._store.session(*tokens, **options) as session:
            yield BlockingSession(session)

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Any]:
        with self._store.transaction(**options) as transaction:
            yield BlockingTransaction(transaction)

    @asynccontextmanager
    async def batch(self, **options: Any) -> AsyncIterator[Any]:
        with self._store.batch(**options) as batch:
            yield batch

    @asynccontextmanager
    async def lease(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        with self._store.lease(*args, **options) as lease:
            yield lease


class BlockingTransaction:
    """The same of a transaction, whose reads alone are waited for."""

    def __init__(self, transaction: SyncTransaction) -> None:
        self._transaction = transaction
        self.set, self.delete = transaction.set, transaction.delete

    async def get(self, *args: Any, **options: Any) -> Any:
        return self._transaction.get(*args, **options)


class BlockingSession(Blocking):
    """The same of a session."""

    def __init__(self, session: SyncSession) -> None:
        super().__init__(session)
        self._session = session

    def retrying(self, budget: float = 0.1) -> "BlockingSession":
        return BlockingSession(self._session.retrying(budget))

    @property
    def token(self) -> str:
        return self._session.token

    def merge(self, token: str) -> None:
        self._session.merge(token)


def run(flavour: str, endpoints: Any, body: Body, **options: Any) -> None:
    """Run `body` with a store of this flavour."""

    async def main() -> None:
        if flavour == "sync":
            with basestore.sync.connect(endpoints, **options) as blocking:
                await body(Blocking(blocking))
        else:
            async with basestore.connect(endpoints, **options) as store:
                await body(store)

    anyio.run(main, backend="trio" if flavour == "sync" else flavour)
