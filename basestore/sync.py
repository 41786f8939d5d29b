"""The blocking client, for programs without an event loop: `basestore.sync.connect(...)`.

Owns nothing: what it offers lives in `client/blocking_store.py`. Loads neither Trio nor RocksDB.
"""

from basestore.client.blocking_store import SyncSession, SyncStore, connect

__all__ = ["SyncSession", "SyncStore", "connect"]
