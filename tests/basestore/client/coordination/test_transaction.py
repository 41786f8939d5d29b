"""What a transaction has read and is to write, before it is sent. Covers
`client/coordination/transaction.py` and `client/coordination/fence.py`."""

import pytest

from basestore.client.coordination.fence import Token, fence_row, fenced_rows
from basestore.client.coordination.transaction import Draft, SyncTransaction, Write
from basestore.consistency import Level
from basestore.errors import InvalidRequest
from basestore.leases import LOCKS, encode_token
from basestore.protocol.client import DELETE, HELD, HOLDS_NOTHING, IF_ABSENT, IF_VALUE, READ, SET
from basestore.protocol.limits import TRANSACTION_BYTES_MAX, TRANSACTION_KEYS_MAX
from basestore.repair.version import Version
from basestore.results.receipts import ReadResult

VERSION = Version(9, 1, 1)
K = "cas", b"k"


def found(value: bytes | None) -> ReadResult:
    version = None if value is None else VERSION
    return ReadResult(value is not None, value, version, None, Level.SERIAL, 2, 2, False, 0)


class TestDraft:
    def test_what_was_read_is_expected_and_what_was_not_is_not(self) -> None:
        draft = Draft()
        draft.read(K, found(b"1"))
        draft.read(("cas", b"none"), found(None))
        draft.write(K, Write(b"2"))
        draft.write(("cas", b"blind"), Write(None))
        assert [tuple(row) for row in draft.rows()] == [
            ("cas", b"k", SET, VERSION.encode(), b"2", 0),
            ("cas", b"blind", DELETE, b"", b"", 0),
            ("cas", b"none", READ, HOLDS_NOTHING, b"", 0),
        ]

    def test_what_needs_nobody_to_say_that_it_holds_is_not_sent(self) -> None:
        draft = Draft()
        assert draft.rows() == []
        draft.read(K, found(b"1"))
        assert draft.rows() == []
        draft.read(("cas", b"l"), found(b"1"))
        assert [row.kind for row in draft.rows()] == [READ, READ]

    def test_it_has_a_bound_of_keys_and_of_bytes(self) -> None:
        draft = Draft()
        for number in range(TRANSACTION_KEYS_MAX):
            draft.write(("cas", b"%d" % number), Write(b""))
        draft.write(("cas", b"0"), Write(b"again"))
        with pytest.raises(InvalidRequest, match="at most 100 keys"):
            draft.write(K, Write(b""))
        draft = Draft()
        draft.write(K, Write(bytes(TRANSACTION_BYTES_MAX - 1)))
        draft.write(K, Write(bytes(TRANSACTION_BYTES_MAX - 2)))
        with pytest.raises(InvalidRequest, match="nothing of it was done"):
            draft.write(("cas", b"l"), Write(b"v"))


class TestTransaction:
    def transaction(self, *values: bytes) -> tuple[SyncTransaction, Draft, list[bytes]]:
        asked: list[bytes] = []
        draft, told = Draft(), iter(values)

        def get(place: tuple[str, bytes]) -> ReadResult:
            asked.append(place[1])
            return found(next(told))

        def place_of(bucket: str, key: bytes | str) -> tuple[str, bytes]:
            return bucket, key.encode() if isinstance(key, str) else key

        def write(value: bytes | str, ttl: float | None) -> Write:
            return Write(value.encode() if isinstance(value, str) else value)

        return SyncTransaction(draft, place_of, write, get), draft, asked

    def test_a_key_is_read_once_and_what_was_written_is_seen(self) -> None:
        transaction, _, asked = self.transaction(b"1", b"2")
        assert [transaction.get("k").value, transaction.get("k").value] == [b"1", b"1"]
        transaction.set("k", "3")
        assert transaction.get("k").value == b"3"
        transaction.delete("k")
        assert not transaction.get("k").found
        assert asked == [b"k"]

    def test_it_tells_versions_once_it_is_committed_and_takes_nothing_once_it_has_ended(self) -> None:
        transaction, draft, _ = self.transaction()
        transaction.set("k", "1")
        assert (transaction.committed, transaction.version("k")) == (False, None)
        draft.ended = True
        draft.end([VERSION])
        assert (transaction.committed, transaction.version("k")) == (True, VERSION)
        for use in (lambda: transaction.get("l"), lambda: transaction.set("l", "1")):
            with pytest.raises(InvalidRequest, match="has ended"):
                use()


class TestFence:
    def test_it_is_a_row_that_is_held_under_a_token(self) -> None:
        row = fence_row("a:b:7")
        assert tuple(row) == (LOCKS, b"a:b", HELD, encode_token(7), b"", 0)
        assert fence_row(Token(b"a:b", 7)) == row

    @pytest.mark.parametrize("text", ["", "7", ":7", "a:", "a:0", "a:-1", "a:x", f"a:{1 << 63}"])
    def test_what_is_none_is_named(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="LOCK:TOKEN"):
            fence_row(text)

    def test_a_write_has_its_condition_with_it(self) -> None:
        write = fenced_rows(K, Write(b"v"), (IF_ABSENT, b""), "a:7", plain=True)
        assert [(row.kind, row.expected) for row in write] == [
            (SET, HOLDS_NOTHING),
            (HELD, encode_token(7)),
        ]
        with pytest.raises(InvalidRequest, match="depends on no value"):
            fenced_rows(K, Write(b"v"), (IF_VALUE, b"x"), "a:7", plain=True)
        with pytest.raises(InvalidRequest, match="neither be repeated"):
            fenced_rows(K, Write(b"v"), (0, b""), "a:7", plain=False)
