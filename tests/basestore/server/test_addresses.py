"""Why an address cannot be listened on is said by what is wrong with it."""

import errno
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from basestore.config import ClusterConfig, Member, NodeConfig
from basestore.errors import ConfigurationError
from basestore.server.listening import why_not
from basestore.server.local_cluster import refuse_taken_ports
from basestore.server.service import Service


def test_each_reason_has_its_advice_and_only_a_taken_port_is_to_be_freed() -> None:
    told = {number: why_not(OSError(number, os.strerror(number))) for number in errno.errorcode}
    assert [number for number, text in told.items() if "stop what uses the port" in text] == [
        errno.EADDRINUSE
    ]
    assert "1024" in told[errno.EACCES]
    assert "correct it" in told[errno.EADDRNOTAVAIL]
    assert all(told.values())


@pytest.mark.parametrize("taken", [True, False])
def test_a_node_that_cannot_listen_says_what_to_do(tmp_path: Path, taken: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}" if taken else "no-such-host.invalid:7400"
        cluster = ClusterConfig(bytes(16), bytes(32), (Member(0, "n1", address),), 1)
        config = NodeConfig(cluster, "n1", tmp_path, "memory")
        advice = "stop what uses the port" if taken else "does not resolve"
        with pytest.raises(ConfigurationError, match=advice) as refused:
            trio.run(Service(config).run)
        assert ("stop what uses" in str(refused.value)) == taken
        with pytest.raises(ConfigurationError, match=rf"{advice}.* with other ports \(--port\)"):
            refuse_taken_ports([replace(config)])
