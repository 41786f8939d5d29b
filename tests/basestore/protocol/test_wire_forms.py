"""The bytes of the messages on the path of a request, held against frames.txt: the wire changes on purpose
only, and then the version does too. `pytest --update` writes the file anew.

Covers `protocol/codec.py`, `replication.py` and `client.py`.
"""

from pathlib import Path

import pytest

from basestore.protocol.anti_entropy import Entries
from basestore.protocol.client import Delete, Get, Got, Set, Written
from basestore.protocol.codec import decode, encode
from basestore.protocol.heartbeats import Ping, Pong
from basestore.protocol.limits import WIRE_HIGHEST
from basestore.protocol.registry import NUMBERS
from basestore.protocol.replication import Applied, Apply, Held, HeldDigest, Hinted, Range, Read, Superseded
from tests.worlds.messages import EXAMPLES
from tests.worlds.transcripts import hold

FILE = Path(__file__).parent / "frames.txt"
HOT = (
    Set, Delete, Get, Written, Got, Apply, Applied, Superseded, Read, Held, HeldDigest, Range, Hinted,
    Entries, Ping, Pong,
)  # fmt: skip


def test_the_bytes_of_messages_on_the_path_of_a_request_stay_what_they_are(
    request: pytest.FixtureRequest,
) -> None:
    lines = [f"WIRE_HIGHEST {WIRE_HIGHEST}"]
    for kind in HOT:
        payload = encode([EXAMPLES[kind], EXAMPLES[kind]])
        assert decode(payload) == [EXAMPLES[kind]] * 2
        lines.append(f"{NUMBERS[kind]} {kind.__name__} twice: {payload.hex()}")
    hold(FILE, lines, update=request.config.getoption("--update"))
