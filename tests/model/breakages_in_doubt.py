"""Breakages of what two stores in doubt do with each other."""

from typing import Any

from tests.model.patches import Breakage, Patch, constant
from tests.model.replica import Replica, Store


def always(owner: Any, name: str, value: Any) -> Patch:
    """A property that is always this of its owner."""
    return Patch(owner, name, lambda _: property(value))


IN_DOUBT = [
    Breakage("stores in doubt are never complete", [always(Store, "complete", lambda self: 0)]),
    Breakage("stores in doubt are complete", [constant(Replica, "freeze", None)]),
    Breakage(
        "stores in doubt purge what is stable",
        [always(Store, "purgeable", lambda self: self.stable)],
    ),
]
