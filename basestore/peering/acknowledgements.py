"""Acknowledgements: what members say they have applied, or hold, many requests at a time.

With each goes how far the member's store is durable, which this node remembers (`replica/identity.py`).
Judges nothing: the operations that have asked do.
"""

from collections.abc import Callable, Mapping
from typing import Any

from basestore.cluster.operations import Operations
from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.groups import AppliedGroups, HeldGroup
from basestore.protocol.replication import Applied
from basestore.replica.identity import StoreIdentity


class Acknowledgements:
    """To one node."""

    def __init__(self, operations: Operations, identity: StoreIdentity, peers: Peers) -> None:
        self._operations, self._identity, self._peers = operations, identity, peers
        self.handlers: Mapping[type, Callable[[int, Outbox, Any, Instant], None]] = {
            Applied: self._applied,
            AppliedGroups: self._applied_groups,
            HeldGroup: lambda member, outbox, message, now: operations.held_group(member, message, now),
        }

    def _applied(self, member: int, outbox: Outbox, message: Applied, now: Instant) -> None:
        self._hear_sequence(member, message)
        self._operations.applied(member, message.ids, now)

    def _applied_groups(self, member: int, outbox: Outbox, message: AppliedGroups, now: Instant) -> None:
        self._hear_sequence(member, message)
        self._operations.applied_groups(member, message, now)

    def _hear_sequence(self, member: int, message: Applied | AppliedGroups) -> None:
        if member != self._peers.me:
            name = self._peers.all[member].name
            self._identity.hear_sequence(name, message.generation, message.sequence)
