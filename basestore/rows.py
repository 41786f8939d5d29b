"""Rows: what stands under which part of the key of a record, as placement makes them.

    partition 2 bytes | length of label 1 byte | label | key

The label is that of the key's bucket (`topology/buckets.py`). Takes rows apart, and makes none of a key:
`cluster/placement.py` does.
"""


def rows_begin(partition: int, label: bytes) -> bytes:
    """What the rows of a bucket in a partition begin with."""
    return partition.to_bytes(2) + bytes((len(label),)) + label


def is_beginning(start: bytes) -> bool:
    """Whether this has the form of what `rows_begin` makes."""
    return len(start) > 3 and len(start) == 3 + start[2]


def row_partition(row: bytes) -> int:
    return int.from_bytes(row[:2])


def row_bucket(row: bytes) -> bytes:
    """The label of its bucket."""
    return row[3 : 3 + row[2]]


def row_key(row: bytes) -> bytes:
    return row[3 + row[2] :]
