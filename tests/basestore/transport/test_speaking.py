"""What a connection of an older version cannot say is refused by name; what it can is said as it is."""

from typing import Any

import pytest

from basestore import InvalidRequest
from basestore.protocol.client import AS_ASKED, Get, Scan, Set
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.transport.speaking import speakable

GET: Any = Get(1, "default", b"k", 1, 1000, b"", True)
SET: Any = Set(2, "default", b"k", b"v", 0, 1000, 0, bytes(8))
SCAN: Any = Scan(3, "default", b"", b"", 1, 1, 1000)


def test_what_is_asked_in_words_that_all_know_is_said_as_it_is() -> None:
    for version in range(WIRE_LOWEST, WIRE_HIGHEST + 1):
        assert speakable([GET, SET, SCAN], version) == [GET, SET, SCAN]


def test_what_an_older_node_does_not_know_is_named() -> None:
    asked = SET._replace(defer=True)
    assert speakable([asked], WIRE_HIGHEST) == [asked]
    told = rf"speaks version {WIRE_LOWEST} of the wire, and `defer` needs 9; nothing was sent. Where `wire_"
    with pytest.raises(InvalidRequest, match=told) as refused:
        speakable([SCAN, asked], WIRE_LOWEST)
    assert "end the upgrade with `basestore upgrade finish`" in str(refused.value)


def test_that_a_read_is_not_to_be_degraded_need_not_be_said_to_who_never_does() -> None:
    assert speakable([GET._replace(degrade_ms=AS_ASKED)], WIRE_LOWEST) == [GET]
