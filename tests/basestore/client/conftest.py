"""What tests of the clients share."""

import pytest

from basestore.client import network_channel
from basestore.transport import dialling
from tests.worlds.patience import PATIENCE_S


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other endpoint is tried because one is slow: for tests that count who was connected to."""
    for module in (dialling, network_channel):
        monkeypatch.setattr(module, "HEAD_START_S", PATIENCE_S)
