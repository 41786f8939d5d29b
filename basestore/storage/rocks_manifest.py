"""Manifest: a RocksDB store made of some tables of another, to be read and nothing else.

RocksDB reads tables together: where one has a bad block, nothing can be read of any other that spans the same
keys; and what its own repair finds a bad block in, it leaves out whole. So the tables that are sound where
another is not are given a store of their own: links to them, and a manifest that names these and no more.

    comparator, log, next file, last sequence     above all that there are: nothing is hidden
    level 0, number, size, all keys               of each table: a reader goes by the sequences inside

The form is that of RocksDB's version edits, in its log's frames (`rocks_damage.py`).
"""

import os
from collections.abc import Iterable
from pathlib import Path

from basestore.storage.rocks_damage import BLOCK_BYTES, HEADER

_COMPARATOR, _LOG, _NEXT_FILE, _LAST_SEQUENCE, _NEW_FILE = 1, 2, 3, 4, 100  # tags
_NEXT = 1 << 40
_SEQUENCE = 1 << 55
_FIRST_KEY = ((1 << 64) - 255).to_bytes(8, "little")  # an empty key, with the greatest sequence
_LAST_KEY = b"\xff" * 9 + bytes(8)
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def gather_tables(directory: Path, tables: Iterable[Path]) -> None:
    """Make a store of links to these tables in a new directory."""
    directory.mkdir(mode=0o700, parents=True)
    edit = [_number(_COMPARATOR), _text(b"leveldb.BytewiseComparator")]
    edit += map(_number, (_LOG, 0, _NEXT_FILE, _NEXT, _LAST_SEQUENCE, _SEQUENCE))
    for at, table in enumerate(tables):
        os.link(table, directory / table.name)
        edit += map(_number, (_NEW_FILE, 0, int(table.stem), table.stat().st_size))
        # Numbers that say which is newer: they must differ, and nobody goes by them.
        edit += [_text(_FIRST_KEY), _text(_LAST_KEY), _number(2 * at + 1), _number(2 * at + 2)]
    (directory / "MANIFEST-000001").write_bytes(_framed(b"".join(edit)))
    (directory / "CURRENT").write_text("MANIFEST-000001\n")


def _number(value: int) -> bytes:
    low = bytearray()
    while value >= 128:
        low.append(value & 127 | 128)
        value >>= 7
    return bytes((*low, value))


def _text(text: bytes) -> bytes:
    return _number(len(text)) + text


def _framed(edit: bytes) -> bytes:
    """As one record, in fragments if it is longer than a block."""
    frames, first = bytearray(), True
    while edit or first:
        room = BLOCK_BYTES - len(frames) % BLOCK_BYTES - HEADER.size  # never below 0: a frame fills its block
        part, edit = edit[:room], edit[room:]
        kind = (_FIRST if edit else _WHOLE) if first else (_MIDDLE if edit else _LAST)
        frames += HEADER.pack(_checksum(bytes((kind,)) + part), len(part), kind) + part
        first = False
    return bytes(frames)


def _checksum(data: bytes) -> int:
    """CRC-32C, masked as RocksDB does."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _entry(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


_TABLE = [_entry(byte) for byte in range(256)]
