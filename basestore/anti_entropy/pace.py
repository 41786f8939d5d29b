"""Pace: how much anti-entropy may do in a step, in a tick, in a message and in a round.

Requests of clients go first. For a second after requests were issued or served, anti-entropy works *beside*
them: fewer rows a tick, short chunks, and fewer exchanges a round. At any time it works off its rows in
shares, one a step: between two of them requests that have come meanwhile are heard. So it is never longer in
a step than a share and a chunk take, for a chunk is taken in one go.

    a row of a list             1
    an entry, sent or taken     ENTRY_COST, which is about what it takes

Who works says what it has cost (`spend`); nobody works once nothing is left. Owns that budget, and does none
of the work.
"""

from basestore.protocol.anti_entropy import ROOTS_MAX

ROWS = 16_000  # in a tick
ROWS_BESIDE = 2000
SHARE_ROWS = 2000  # of these, in a step
CHUNK_ROWS = 200
CHUNK_ROWS_BESIDE = 50
ENTRY_COST = 20
AT_ONCE = 16  # partitions that a round opens with one peer
AT_ONCE_BESIDE = 4
NAMED = ROOTS_MAX  # that a round names to one peer
NAMED_BESIDE = 16
BESIDE_S = 1.0


class Pace:
    """`rows_left` of this step; `beside`: there are requests."""

    __slots__ = ("_requests", "_tick_rows", "_until_s", "beside", "rows_left")

    def __init__(self, requests: int) -> None:
        """`requests`: how many there have been, from wherever they are counted."""
        self._requests = requests
        self._until_s = 0.0
        self._tick_rows = 0
        self.beside = False
        self.rows_left = 0

    def tick(self, requests: int, now_s: float) -> None:
        """A tick begins; there have been so many requests by now."""
        if requests != self._requests:
            self._requests, self._until_s = requests, now_s + BESIDE_S
        self.beside = now_s < self._until_s
        self._tick_rows, self.rows_left = (ROWS_BESIDE if self.beside else ROWS), 0
        self.end_step()

    def end_step(self) -> bool:
        """A step ends, and the next one has a share of what the tick has left. Whether that should come at
        once, for this one has used up its own."""
        used_up = self.rows_left <= 0
        self._tick_rows += self.rows_left
        self.rows_left = min(self._tick_rows, SHARE_ROWS)
        self._tick_rows -= self.rows_left
        return used_up and self.rows_left > 0

    def spend(self, rows: int) -> None:
        """Work has been done that costs as much as so many rows of a list."""
        self.rows_left -= rows

    @property
    def chunk_rows(self) -> int:
        """How many entries a message holds at most."""
        return CHUNK_ROWS_BESIDE if self.beside else CHUNK_ROWS

    @property
    def at_once(self) -> int:
        """How many exchanges a round opens with one peer."""
        return AT_ONCE_BESIDE if self.beside else AT_ONCE

    @property
    def named(self) -> int:
        """How many partitions a round names to one peer, to be told which are the same."""
        return NAMED_BESIDE if self.beside else NAMED

    def cost(self, entries: int) -> int:
        """What it costs to send or take so many entries."""
        return entries * ENTRY_COST
