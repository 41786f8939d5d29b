"""Stores: how every command but those that run nodes reaches a cluster, through the blocking client.

Owns no connection for longer than a command's block; what is asked over it is the command's.
"""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from basestore.cli.options import Target

if TYPE_CHECKING:
    from basestore.results.nodes import NodeState
    from basestore.sync import SyncStore


@contextmanager
def open_store(target: Target, *, bulk: bool = False) -> Iterator["SyncStore"]:
    """A store on the target's cluster; `bulk`: nothing that is asked over it is urgent."""
    from basestore import sync
    from basestore.client.arguments import level_of

    level = level_of(target.consistency)
    timeout_s = target.patience_s
    with sync.connect(target.endpoints or None, consistency=level, timeout=timeout_s, bulk=bulk) as store:
        yield store


def with_file(reason: str, name: str, states: "Sequence[NodeState]") -> str:
    """Why a node does not answer; where it says to start it, with its own file, if that lies on this machine,
    beside those of nodes that answer."""
    from basestore.transport.endpoints import FILE

    for state in states:
        file = Path(state.facts.get("config", "")).parent / f"{name}.toml"
        if file.is_absolute() and file.is_file():
            return reason.replace(FILE, f"--config {shlex.quote(str(file))}")
    return reason
