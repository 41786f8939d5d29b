"""Token: how far a watch has come, as text: letters, digits, - and _. Whoever has it can go on, at any node.

    form 1 | cluster 16 | digest of the prefix 8 | label, behind its length | how many stores, and these, 16
    each | how many partitions | of each: place of its store, sequence, stable stamp less the least of all |
    digest 8

Numbers are of as many bytes as they need, seven bits each, the least first (LEB128). It names the cluster,
the bucket and the prefix that it is of, for of any other it says nothing: what does not fit is refused by
name."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from basestore.config import CLUSTER_ID_BYTES
from basestore.errors import InvalidRequest
from basestore.feeds.position import Position
from basestore.repair.write_repair import STORE_BYTES

_FORM: Final = 1
_DIGEST_BYTES: Final = 8
_NUMBER_MAX: Final = (1 << 64) - 1
TEXT_MAX: Final = 4 << 20
DAMAGED: Final = "the token is damaged: copy it whole, or watch without one"


class Subject(NamedTuple):
    """What is watched: keys that start with `prefix` of the bucket with this label."""

    cluster: bytes
    label: bytes
    prefix: bytes

    @property
    def _head(self) -> bytes:
        return bytes((_FORM,)) + self.cluster + _digest(self.prefix) + _number(len(self.label)) + self.label

    def token(self, positions: Sequence[Position]) -> str:
        """Of these, by partition."""
        stores = sorted({each.store for each in positions} - {b""})
        places = {store: place for place, store in enumerate(stores, 1)} | {b"": 0}
        least = min(each.stable for each in positions)
        numbers = [len(positions), least]
        for each in positions:
            numbers += (places[each.store], each.sequence, each.stable - least)
        data = self._head + _number(len(stores)) + b"".join([*stores, *map(_number, numbers)])
        return urlsafe_b64encode(data + _digest(data)).decode().rstrip("=")

    def positions(self, token: str, partitions: int) -> list[Position]:
        """Inverse of `token`; InvalidRequest when it is none, or of something else."""
        try:
            said = _sound(token)
            parts = _parts(said) if said[0] == _FORM else None
        except (ValueError, IndexError) as error:
            raise InvalidRequest(DAMAGED) from error
        if parts is None:
            raise InvalidRequest("the token was made by a later release: ask a node that runs it")
        cluster, prefix, label, positions = parts
        if cluster != self.cluster:
            raise InvalidRequest("the token is of another cluster; watch without one, or there")
        if label != self.label:
            raise InvalidRequest(
                "the token is of another bucket, or of one of that name that was dropped since; watch that "
                "one, or without a token"
            )
        if prefix != _digest(self.prefix):
            raise InvalidRequest("the token is of another prefix; watch that one, or without a token")
        if len(positions) != partitions:
            raise InvalidRequest(DAMAGED)
        return positions


def _sound(token: str) -> bytes:
    """What stands in front of its digest; ValueError when that does not fit."""
    if len(token) > TEXT_MAX:
        raise ValueError("it is too long")
    data = urlsafe_b64decode(token.strip().encode("ascii") + b"==")
    said, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if _digest(said) != digest:
        raise ValueError("its digest does not fit")
    return said


def _parts(data: bytes) -> tuple[bytes, bytes, bytes, list[Position]]:
    """The cluster, the digest of the prefix, the label, and the positions; ValueError, IndexError."""
    behind_cluster = 1 + CLUSTER_ID_BYTES
    behind_prefix = behind_cluster + _DIGEST_BYTES
    length, rest = _read(memoryview(data)[behind_prefix:])
    return (
        data[1:behind_cluster], data[behind_cluster:behind_prefix], bytes(rest[:length]),
        _positions(rest[length:]),
    )  # fmt: skip


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES, person=b"watch").digest()


def _number(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _read(data: memoryview) -> tuple[int, memoryview]:
    """A number, and what is behind it; IndexError, ValueError."""
    number = at = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << (7 * at)
        at += 1
        if number > _NUMBER_MAX:
            raise ValueError("a number is too large")
        if byte <= 0x7F:
            return number, data[at:]


def _positions(data: memoryview) -> list[Position]:
    count, rest = _read(data)
    if count * STORE_BYTES > len(rest):
        raise ValueError("it names fewer stores than it says")
    stores = [b"", *(bytes(rest[at : at + STORE_BYTES]) for at in range(0, count * STORE_BYTES, STORE_BYTES))]
    rest = rest[count * STORE_BYTES :]
    partitions, rest = _read(rest)
    least, rest = _read(rest)
    positions = []
    for _ in range(partitions):
        place, rest = _read(rest)
        sequence, rest = _read(rest)
        beyond, rest = _read(rest)
        positions.append(Position(stores[place], sequence, least + beyond))
    if len(rest) or any(each.stable > _NUMBER_MAX for each in positions):
        raise ValueError("it does not end where it should")
    return positions
