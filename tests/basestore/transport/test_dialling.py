"""What a client is told need be no address: to dial it fails as to dial any other does.

Covers `transport/dialling.py`, and `dial` of `server/link.py` and of `client/connection.py`, its twins.
"""

import socket
from time import monotonic
from typing import Any

import anyio
import pytest
import trio

from basestore.client.connection import open_connection
from basestore.server import link
from basestore.transport.dialling import dial
from tests.worlds.patience import PATIENCE_S

WRONG = ["no address", "n3..example.org:7400", "x" * 64 + ".example.org:7400", "n\x003:7400"]


@pytest.fixture(params=["as it is told", "as the system finds"])
def unchecked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second case the address looks like one, and only a look-up finds that it is none."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise UnicodeError("label empty or too long")

    if request.param == "as the system finds":
        for module in ("transport.dialling", "server.link", "client.connection"):
            monkeypatch.setattr(f"basestore.{module}.parse_address", lambda _: ("n3", 7400))
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr(trio, "open_tcp_stream", refuse)
        monkeypatch.setattr(anyio, "connect_tcp", refuse)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("address", WRONG)
def test_what_is_no_address_cannot_be_reached(address: str) -> None:
    with pytest.raises(OSError, match=r"address|label"):
        dial(address, monotonic() + PATIENCE_S)
    with pytest.raises(OSError, match=r"address|label"):
        trio.run(link.dial, address)
    with pytest.raises(OSError, match=r"address|label"):
        anyio.run(open_connection, address, {})
