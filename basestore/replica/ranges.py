"""Ranges: a replica's answer to a share of a range scan: rows of many partitions, merged by key.

An answer ends where enough rows live, and no later than its bounds: rows that were looked at, bytes that
were read from the disk for them, bytes that travel. Rows that do not live are shown without their values,
for whoever asks must know that they are there. The first damaged row ends it too: what stands before that
can be shown. Weighs nothing against other replicas: that is the coordinator's affair.
"""

import heapq
from collections.abc import Iterator

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.placement import row_key
from basestore.errors import DamagedRecord
from basestore.protocol.limits import PAGE_BYTES_MAX, PAGE_ROWS_MAX
from basestore.protocol.replication import Range, ReadRange, Rejected
from basestore.repair.version import RECORD_BYTES_MIN
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import LOOK_BYTES_MAX, Replica
from basestore.storage import keyspace


def read_range(replica: Replica, group_commit: GroupCommit, outbox: Outbox, message: ReadRange) -> None:
    """Range; or Rejected, when it begins with a damaged record or too much waits to be sent. It waits until
    all it shows is durable."""
    summaries = replica.summaries.of
    if not set(message.partitions) <= summaries.keys():
        outbox.put(Rejected(message.id, "this replica does not hold these partitions", False))
        return
    if not outbox.roomy:
        outbox.put(Rejected(message.id, "too much waits to be sent", True))
        return
    rows: list[bytes] = []
    living = looked = size = 0
    more = False
    try:
        for row, stored in _walk(group_commit, message):
            # Asked before a row is added: so a page holds at least one, however large it is.
            full = len(rows) >= 2 * PAGE_ROWS_MAX or size > PAGE_BYTES_MAX or looked > LOOK_BYTES_MAX
            if more := full or living >= message.limit:
                break
            record = replica.sound(row, stored)
            lives = record.live(message.now_ms)
            blob = record.blob if lives else record.blob[:RECORD_BYTES_MIN]
            rows += (row, blob)
            living += lives
            looked += len(stored)
            size += len(row) + len(blob) + 16
    except DamagedRecord as damage:
        if not rows:
            outbox.put(Rejected(message.id, str(damage), False))
            return
        more = True
    stables = [summaries[partition].shown for partition in message.partitions]
    size += SMALL_BYTES + 9 * len(stables)
    group_commit.reply(outbox, Range(message.id, rows, more, stables), None, size)


def _walk(group_commit: GroupCommit, message: ReadRange) -> Iterator[tuple[bytes, bytes]]:
    """Rows and what is stored of them, in the order that `ReadRange` describes."""
    name = bytes((len(message.bucket),)) + message.bucket
    scans = []
    for partition in message.partitions:
        base = keyspace.partition_prefix(partition) + name
        start = base + max(message.prefix, message.after + b"\0" if message.after else b"")
        _, end = keyspace.whole(base + message.prefix)
        stored = group_commit.scan(*keyspace.records_between(start, end))
        scans.append((keyspace.row_of(key), value) for key, value in stored)
    yield from heapq.merge(*scans, key=lambda pair: row_key(pair[0]))
