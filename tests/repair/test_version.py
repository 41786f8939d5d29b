"""Laws of versions and records."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from basestore.repair.version import (
    COUNTER_BITS,
    HEAD_BYTES,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
    Digester,
    Record,
    Version,
    is_tombstone,
)
from tests.worlds.records import DIGESTER, KEY, ROW, records, versions, words


class TestVersions:
    @given(versions)
    def test_encode_and_decode_are_inverse(self, version: Version) -> None:
        assert len(version.encode()) == VERSION_BYTES
        assert Version.decode(version.encode()) == version

    @given(versions)
    def test_str_and_parse_are_inverse(self, version: Version) -> None:
        assert Version.parse(str(version)) == version

    @given(versions, versions)
    def test_bytes_sort_as_versions_do(self, a: Version, b: Version) -> None:
        assert (a < b) == (a.encode() < b.encode())
        assert (a == b) == (a.encode() == b.encode())

    @given(versions, versions)
    def test_the_stamp_decides_then_the_origin(self, a: Version, b: Version) -> None:
        if (a.stamp, a.origin) != (b.stamp, b.origin):
            assert (a < b) == ((a.stamp, a.origin) < (b.stamp, b.origin))

    @given(words)
    def test_the_wall_part_is_the_stamp_without_its_counter(self, stamp: int) -> None:
        assert Version(stamp, 0, 0).wall_ms == stamp >> COUNTER_BITS

    @given(st.binary(max_size=60).filter(lambda data: len(data) != VERSION_BYTES))
    def test_no_other_length_decodes(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="a version is 24 bytes"):
            Version.decode(data)

    @pytest.mark.parametrize(
        "text",
        ["", "1", "1-2", "1-2-3-4", "x-y-z", "1--2", "-1-2-3", "1-2-" + "f" * 17, "f" * 17 + "-1-1"],
    )
    def test_what_is_no_version_does_not_parse(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a version"):
            Version.parse(text)

    @given(st.text(max_size=40))
    def test_parse_gives_a_version_or_a_value_error(self, text: str) -> None:
        try:
            version = Version.parse(text)
        except ValueError:
            return
        assert Version.decode(version.encode()) == version


class TestRecords:
    @given(
        row=st.binary(min_size=4, max_size=40),
        version=versions,
        value=st.binary(max_size=40),
        tombstone=st.booleans(),
        expires_ms=words,
    )
    @example(row=b"r" * 65_604, version=Version(1, 1, 1), value=b"", tombstone=False, expires_ms=0)
    def test_a_sealed_record_says_what_went_in_and_is_intact(
        self, row: bytes, version: Version, value: bytes, tombstone: bool, expires_ms: int
    ) -> None:
        record = Record.seal(DIGESTER, row, version, value, tombstone=tombstone, expires_ms=expires_ms)
        assert (record.version, record.stamp, record.value) == (version, version.stamp, value)
        assert (record.tombstone, record.expires_ms) == (tombstone, expires_ms)
        assert is_tombstone(record.head) == tombstone
        assert len(record.head) == HEAD_BYTES
        assert record.blob.startswith(record.head)
        assert record.intact(DIGESTER, row)
        again = Record(record.blob)
        assert again == record
        assert hash(again) == hash(record)

    @given(record=records(versions), place=st.integers(0), bit=st.integers(0, 7))
    def test_any_flipped_bit_is_detected(self, record: Record, place: int, bit: int) -> None:
        blob = bytearray(record.blob)
        blob[place % len(blob)] ^= 1 << bit
        assert not Record(bytes(blob)).intact(DIGESTER, ROW)

    @given(records(versions))
    def test_every_single_bit_counts(self, record: Record) -> None:
        for place in range(0, len(record.blob) * 8, 7):
            blob = bytearray(record.blob)
            blob[place // 8] ^= 1 << place % 8
            assert not Record(bytes(blob)).intact(DIGESTER, ROW)

    @given(records(versions), st.integers(1, 10), st.binary(min_size=1, max_size=9))
    def test_a_shortened_or_lengthened_record_is_detected(
        self, record: Record, short: int, more: bytes
    ) -> None:
        assert not Record(record.blob + more).intact(DIGESTER, ROW)
        if len(record.blob) - short >= RECORD_BYTES_MIN:
            assert not Record(record.blob[:-short]).intact(DIGESTER, ROW)

    @given(records(versions), st.binary(min_size=4, max_size=20))
    def test_a_record_under_another_row_or_another_key_does_not_pass(
        self, record: Record, row: bytes
    ) -> None:
        assert record.intact(DIGESTER, row) == (row == ROW)
        assert not record.intact(Digester(KEY[::-1]), ROW)

    @given(records(), records())
    def test_heads_order_records_by_version_and_then_digest(self, a: Record, b: Record) -> None:
        assert (a.head < b.head) == ((a.version, a.digest) < (b.version, b.digest))
        assert (a.head == b.head) == (a == b)

    @given(st.binary(max_size=RECORD_BYTES_MIN - 1))
    def test_what_is_too_short_is_no_record(self, blob: bytes) -> None:
        with pytest.raises(ValueError, match="at least 49 bytes"):
            Record(blob)

    @given(records(versions), words)
    def test_a_record_lives_until_the_instant_of_its_expiry(self, record: Record, wall_ms: int) -> None:
        expired = record.expires_ms != 0 and wall_ms >= record.expires_ms
        assert record.live(wall_ms) == (not record.tombstone and not expired)

    def test_the_middle_of_a_row_cannot_pass_for_the_start_of_a_record(self) -> None:
        version = Version(1, 2, 3).encode()
        assert DIGESTER.digest(b"ab", version, b"c") != DIGESTER.digest(b"a", b"b" + version[:-1], b"c")
        assert DIGESTER.digest(b"ab", version, b"") != DIGESTER.digest(b"a", b"b" + version, b"")

    @pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
    def test_a_cluster_key_has_32_bytes(self, length: int) -> None:
        with pytest.raises(ValueError, match="a cluster key is 32 bytes"):
            Digester(bytes(length))
