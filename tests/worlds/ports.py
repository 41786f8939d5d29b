"""Ports for the nodes of tests.

They lie below those that `basestore` itself picks for a new cluster (20,000 and up) and those that the
system gives to outgoing connections, so the port of a node that is down for a while stays free. Tests that
run beside each other have ranges of their own: one for each process of pytest-xdist.
"""

import os
import socket
from contextlib import ExitStack

FIRST = 10_000
RANGE = 1_200
RANGES = 8
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % RANGES
_next = os.getpid() * 37 % RANGE  # two runs of the tests at once begin at different places


def free_ports(number: int) -> int:
    """The first of so many ports in a row that nobody listens on, and that were not given out lately."""
    global _next
    while True:
        begin = _next if _next + number <= RANGE else 0
        _next = begin + number
        first = FIRST + _worker * RANGE + begin
        with ExitStack() as stack:
            try:
                for port in range(first, first + number):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
        return first
