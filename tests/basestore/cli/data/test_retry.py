"""`--retry`: a command asks a node again that has refused it as overloaded, and not without it.

Covers `cli/data/requests.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from basestore.errors import Overloaded
from basestore.protocol.client import Delete, Failed, Get, Got, Page, Scan, Set, Written
from basestore.protocol.codec import Message
from basestore.repair.version import IDENTITY_BYTES, PROPOSAL_BYTES
from tests.worlds.fakes import fake
from tests.worlds.shell import invoke

COMMANDS = [("set", "k", "v"), ("delete", "k"), ("get", "k"), ("scan",)]


def overloaded(times: int) -> Callable[[Any], Message | None]:
    """What a node answers that refuses so many requests, and serves the others."""
    refused = 0

    def answer(request: Any) -> Message | None:
        nonlocal refused
        if not isinstance(request, Set | Delete | Get | Scan):
            return None
        if refused < times:
            refused += 1
            error = Overloaded("overloaded: too much", 0.04)
            return Failed(request.id, error.code, str(error), b"", [str(word) for word in error.details()])
        if isinstance(request, Get):
            return Got(request.id, True, b"v", b"", 0, 1, 1, False, 0)
        if isinstance(request, Scan):
            return Page(request.id, [], b"", False)
        stamped = request.identity[:PROPOSAL_BYTES].ljust(IDENTITY_BYTES, b"\0")
        return Written(request.id, 0, 0, stamped, 1, 1, [], b"", 0)

    return answer


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_when_to_try_again_and_with_retry_it_does(command: tuple[str, ...]) -> None:
    with fake(answer=overloaded(2)) as node:
        refused = invoke(*command, "-e", node.endpoint)
        assert refused.code == 3
        assert "Try again in 0.04 s" in refused.stderr
        node.heard.get()
        assert node.heard.empty(), "it has asked once"
        assert invoke(*command, "-e", node.endpoint, "--retry").code == 0
        second, third = node.heard.get(), node.heard.get()
        assert third == second._replace(id=third.id, timeout_ms=third.timeout_ms), "of a write, its identity"
        assert node.heard.empty()


def test_within_a_session_too(tmp_path: Path) -> None:
    with fake(answer=overloaded(1)) as node:
        done = invoke("set", "k", "v", "-e", node.endpoint, "--retry", "--session", str(tmp_path / "session"))
        assert done.code == 0, done.stderr
