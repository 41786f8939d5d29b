"""Speaking: what a connection of an older version of the wire can say of what is asked, and what it cannot.

Nothing is left out of a request because the node would not understand it: it is refused here, and what is
missing is named. Pure.
"""

from typing import Any, Final

from basestore.errors import InvalidRequest
from basestore.protocol.client import ADD, AS_ASKED, IF_ABSENT, IF_VALUE, IF_VERSION, Get
from basestore.protocol.codec import Message
from basestore.protocol.registry import DATES, unspeakable

_CONDITIONS: Final = {
    IF_ABSENT: "if_absent", IF_VERSION: "if_version", IF_VALUE: "if_value", ADD: "increment"
}  # fmt: skip


def speakable(requests: list[Message], version: int) -> list[Message]:
    """The requests as a connection of this version carries them; InvalidRequest where it cannot say what is
    asked."""
    said = []
    for request in requests:
        if isinstance(request, Get) and request.degrade_ms == AS_ASKED:
            request = request._replace(degrade_ms=0)  # whoever does not know the word does not degrade
        needed = unspeakable(request, version)
        if needed:
            raise InvalidRequest(
                f"the node speaks version {version} of the wire, and {_asked_of(request, version)} needs "
                f"{needed}; nothing was sent. Where `wire_highest` in the node's file keeps it from that, "
                f"take the line out and restart the node; otherwise upgrade it (`basestore status` shows "
                f"which). Then end the upgrade with `basestore upgrade finish`. Or ask without it"
            )
        said.append(request)
    return said


def _asked_of(request: Any, version: int) -> str:
    """What of a request an older version has no words for."""
    since, fields = DATES[type(request)]
    if since > version:
        return f"a {type(request).__name__} request"
    named = {
        _named(request, name): None
        for name, date in zip(request._fields, fields, strict=True)
        if date > version and getattr(request, name) != request._field_defaults[name]
    }
    return " and ".join(named)


def _named(request: Any, field: str) -> str:
    """As callers have it."""
    if field in ("condition", "expected"):
        return f"`{_CONDITIONS.get(request.condition, field)}`"
    return f"`{field.removesuffix('_ms')}`"
