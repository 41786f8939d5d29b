"""Library: a session of the real client library, as a client of the simulation uses it.

The session itself is the product's, and pure; here is what the store around it does: a request is begun
by the session before it is sent, and ended by its answer, or by none. Of a page of a scan the session
reads those keys for itself of which it has seen more than the page shows.
"""

from collections.abc import Sequence

from basestore.client.session import Session
from basestore.config import BUILT_IN
from basestore.protocol.client import Get, Scan
from basestore.protocol.codec import Message
from basestore.results.receipts import Item
from tests.simulation import history as h


class Library:
    """What one client has of the library."""

    def __init__(self, cluster: bytes) -> None:
        self.session = Session(cluster, BUILT_IN)
        self._begun: dict[int, Message] = {}
        self._revising: dict[int, h.Operation] = {}  # by the number of a read: the scan that it is for
        self._lacking: dict[int, int] = {}  # by the number of a scan: reads that it waits for

    def begin(self, request: int, message: Message, operation: h.Operation) -> Message:
        """As the session sends it."""
        begun = self._begun[request] = self.session.begin(message)
        if isinstance(begun, Get):
            operation.floor = begun.floor
        return begun

    def end(self, request: int, answer: Message | None) -> None:
        """An answer has come, or none will."""
        begun = self._begun.pop(request, None)
        if begun is not None and not isinstance(begun, Scan):
            self.session.end(begun, answer)

    # --- scans -------------------------------------------------------------------------------

    def doubtful(self, scan: h.Operation, items: Sequence[Item]) -> list[str]:
        """The keys of its page that the session must read for itself."""
        prefix = scan.key.encode()
        keys = self.session.doubtful(scan.bucket, prefix, scan.after, scan.cursor, items)
        return [key.decode() for key in keys]

    def revise(self, scan: h.Operation, reads: list[h.Operation]) -> None:
        """These reads belong to a page."""
        self._lacking[scan.number] = len(reads)
        self._revising.update((read.number, scan) for read in reads)

    def revised(self, read: h.Operation) -> tuple[h.Operation | None, bool]:
        """A read has ended: the scan that it was for, and whether that lacks nothing more."""
        scan = self._revising.pop(read.number, None)
        if scan is None:
            return None, False
        shown = {key: (value, version) for key, value, version in scan.page if key != read.key}
        if read.outcome != h.FOUND:
            scan.outcome = h.FAILED
        elif read.found:
            shown[read.key] = read.value, read.version
        scan.page = [(key, *shown[key]) for key in sorted(shown)]
        self._lacking[scan.number] -= 1
        return scan, not self._lacking[scan.number]

    def show(self, scan: h.Operation) -> None:
        """A page is shown to the caller."""
        for key, _, version in scan.page:
            self.session.show(scan.bucket, key.encode(), version)
