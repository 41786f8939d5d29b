"""Promises: what the acts of a demo expect to come true, and how they wait for it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from basestore.errors import BasestoreError
    from basestore.results.nodes import NodeState
    from basestore.results.receipts import Receipt

POLL_S = 0.05


class BrokenPromise(Exception):
    """Something did not come out as basestore promises."""


def expect(promise: bool, what: str) -> None:
    if not promise:
        raise BrokenPromise(what)


def line(words: str) -> None:
    click.echo(f"   {words}")


def all_stored(results: "Sequence[Receipt | BasestoreError]") -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result
        expect(result.outcome.value == "stored", f"a write was {result.outcome.value}")


async def wait_for(endpoint: str, condition: "Callable[[NodeState], bool]") -> None:
    """Until what a node says of itself meets a condition."""
    import trio

    from basestore.cli.running.children import state_of

    while True:
        state = await state_of(endpoint)
        if state is not None and condition(state):
            return
        await trio.sleep(POLL_S)
