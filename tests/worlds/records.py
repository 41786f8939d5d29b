"""Hypothesis strategies for versions and records of one row."""

from hypothesis import strategies as st

from basestore.repair.version import COUNTER_BITS, Digester, Record, Version

WORD_MAX = (1 << 64) - 1
KEY = bytes(range(32))
DIGESTER = Digester(KEY)
ROW = b"\x00\x01\x07defaultkey"

words = st.integers(0, WORD_MAX)
versions = st.builds(Version, words, words, words)
walls = st.integers(0, (1 << (64 - COUNTER_BITS)) - 200_000)

# Few versions, so that records of equal versions with different digests come up often.
_few = st.builds(Version, st.integers(0, 3), st.integers(0, 1), st.integers(0, 1))


@st.composite
def records(draw: st.DrawFn, versions: st.SearchStrategy[Version] = _few) -> Record:
    tombstone = draw(st.booleans())
    return Record.seal(
        DIGESTER,
        ROW,
        draw(versions),
        b"" if tombstone else draw(st.binary(max_size=3)),
        tombstone=tombstone,
        expires_ms=draw(st.sampled_from([0, 0, 1, 1 << 47])),
    )
