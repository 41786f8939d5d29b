"""Altered: a node as it is, but for what a benchmark compares.

`python -m benchmarks.altered ALTERATIONS serve ...` is `python -m basestore serve ...`; ALTERATIONS
is an object in JSON:

    detours      which address this node dials in place of another: a member tells its own address, so
                 a file cannot say this
    speculative  whether a read that is slower than usual asks one more replica; otherwise it waits
                 until it would ask all of them
"""

import json
import sys
from pathlib import Path
from typing import Any

from basestore import cli
from basestore.cluster.peers import Peers
from basestore.coordinator.quorum_read import WIDEN_S
from basestore.server import handshakes
from basestore.server.link import Link, dial
from basestore.storage.rocks import RocksEngine


def main() -> None:
    alterations: dict[str, Any] = json.loads(sys.argv.pop(1))
    detours: dict[str, str] = alterations["detours"]

    async def dial_by_detour(address: str) -> Link:
        return await dial(detours.get(address, address))

    assert vars(handshakes)["dial"] is dial, "who dials calls it by another name now"
    handshakes.dial = dial_by_detour  # type: ignore[attr-defined]
    if "syncs" in alterations:
        _count_syncs(Path(alterations["syncs"]))
    if not alterations["speculative"]:
        Peers.usual_s = property(lambda _: WIDEN_S)  # type: ignore[method-assign, assignment]
    cli.main()


def _count_syncs(path: Path) -> None:
    """The file is as long as there were syncs."""
    counted, sync = path.open("ab", buffering=0), RocksEngine.sync

    def sync_and_count(engine: RocksEngine) -> None:
        sync(engine)
        counted.write(b".")

    RocksEngine.sync = sync_and_count  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main()
