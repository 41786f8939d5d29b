"""Detour: a node as it is, but it dials its peers by way of a relay.

`python -m tests.cluster.detour DETOURS serve ...` is `python -m basestore serve ...`; DETOURS, in
JSON, says which address it dials in place of another. A member tells the others its own address, so
a file cannot say this.
"""

import json
import sys

from basestore import cli
from basestore.server import handshakes
from basestore.server.link import Link, dial


def main() -> None:
    detours: dict[str, str] = json.loads(sys.argv.pop(1))

    async def dial_by_detour(address: str) -> Link:
        return await dial(detours.get(address, address))

    handshakes.dial = dial_by_detour  # type: ignore[attr-defined]  # the name by which they call it
    cli.main()


if __name__ == "__main__":
    main()
