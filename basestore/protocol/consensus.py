"""Messages between the voters of the metadata group, as they travel: those of `consensus/messages.py`."""

from typing import Any, Final

from basestore.consensus.messages import Append, Appended, Granted, Install, Stand
from basestore.protocol.registry import message

OF_RAFT: Final[tuple[type[Any], ...]] = (Stand, Granted, Append, Appended, Install)

for _number, _make in enumerate(OF_RAFT, 82):
    message(_number, since=10)(_make)
