"""basestore: a tunable-consistency, leaderless replicated key-value store.

    import basestore

    async with basestore.connect(["127.0.0.1:7400"]) as store:      # Trio or asyncio
        receipt = await store.set("greeting", "hello", consistency="quorum")
        result = await store.get("greeting")

`open_node` and `open_cluster` embed nodes in a Trio program; `basestore.sync.connect` blocks.

Names are loaded when they are first used (PEP 562), so that a blocking client imports neither Trio nor
RocksDB. So each stands in three lists: for type checkers, for loading, and for `import *`; mypy holds the
first against the third, and a test the second.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from basestore.release import VERSION

if TYPE_CHECKING:
    from basestore.client.coordination.transaction import SyncTransaction, Transaction
    from basestore.client.network_channel import connect
    from basestore.client.store import Store, StoreSession
    from basestore.config import ClusterConfig, Durability, Member, NodeConfig
    from basestore.consistency import Level, Outcome, ReplicaState
    from basestore.embedded import EmbeddedCluster, EmbeddedNode, open_cluster, open_node
    from basestore.errors import (
        BasestoreError,
        ClockSkew,
        ConfigurationError,
        Conflict,
        ConnectionLost,
        Contended,
        InvalidRequest,
        OutcomeUnknown,
        Overloaded,
        ReadTimeout,
        ReplicaFailure,
        RequestFailed,
        SessionFull,
        StorageError,
        TooStale,
        Unavailable,
        Unreachable,
        WriteTimeout,
    )
    from basestore.repair.rule import Rule
    from basestore.repair.version import Identity, Version
    from basestore.results.cluster_view import Obstacle
    from basestore.results.convergence import Convergence, PartitionProof
    from basestore.results.explanation import AcceptorView, Explanation, HintView, Mend, ReplicaView
    from basestore.results.hints import HintPile, NodeHints
    from basestore.results.loss import AcceptedLoss
    from basestore.results.nodes import NodeState, Upgrade
    from basestore.results.receipts import Change, Gap, Item, Many, Progress, ReadResult, Receipt
    from basestore.results.repair import Repair

__version__ = VERSION

_HOMES = {
    "basestore.client.coordination.transaction": ("SyncTransaction", "Transaction"),
    "basestore.client.network_channel": ("connect",),
    "basestore.client.store": ("Store", "StoreSession"),
    "basestore.config": ("ClusterConfig", "Durability", "Member", "NodeConfig"),
    "basestore.consistency": ("Level", "Outcome", "ReplicaState"),
    "basestore.embedded": ("EmbeddedCluster", "EmbeddedNode", "open_cluster", "open_node"),
    "basestore.errors": (
        "BasestoreError", "ClockSkew", "ConfigurationError", "Conflict", "ConnectionLost", "Contended",
        "InvalidRequest", "OutcomeUnknown", "Overloaded", "ReadTimeout", "ReplicaFailure", "RequestFailed",
        "SessionFull", "StorageError", "TooStale", "Unavailable", "Unreachable", "VersionLost",
        "WriteTimeout",
    ),
    "basestore.results.cluster_view": ("Obstacle",),
    "basestore.results.convergence": ("Convergence", "PartitionProof"),
    "basestore.results.explanation": ("AcceptorView", "Explanation", "HintView", "Mend", "ReplicaView"),
    "basestore.results.hints": ("HintPile", "NodeHints"),
    "basestore.results.loss": ("AcceptedLoss",),
    "basestore.results.nodes": ("NodeState", "Upgrade"),
    "basestore.results.receipts": ("Change", "Gap", "Item", "Many", "Progress", "ReadResult", "Receipt"),
    "basestore.results.repair": ("Repair",),
    "basestore.repair.rule": ("Rule",),
    "basestore.repair.version": ("Identity", "Version"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AcceptedLoss", "AcceptorView", "BasestoreError", "Change", "ClockSkew", "ClusterConfig",
    "ConfigurationError", "Conflict", "ConnectionLost", "Contended", "Convergence", "Durability",
    "EmbeddedCluster", "EmbeddedNode", "Explanation", "Gap", "HintPile", "HintView", "Identity",
    "InvalidRequest", "Item", "Level", "Many", "Member", "Mend", "NodeConfig", "NodeHints", "NodeState",
    "Obstacle", "Outcome", "OutcomeUnknown", "Overloaded", "PartitionProof", "Progress", "ReadResult",
    "ReadTimeout", "Receipt", "Repair", "ReplicaFailure", "ReplicaState", "ReplicaView", "RequestFailed",
    "Rule", "SessionFull", "StorageError", "Store", "StoreSession", "SyncTransaction", "TooStale",
    "Transaction", "Unavailable", "Unreachable", "Upgrade", "Version", "VersionLost", "WriteTimeout",
    "connect", "open_cluster", "open_node",
]  # fmt: skip

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name from where it lives."""
        if name == "sync":
            return import_module("basestore.sync")
        if name not in _HOME_OF:
            raise AttributeError(f"module 'basestore' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
