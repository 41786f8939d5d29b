"""Pace: how much anti-entropy may do in a tick, in a message and in a round.

Requests of clients go first. In a tick before which requests were issued or served, anti-entropy works
*beside* them: fewer rows a tick, short chunks (a chunk is taken in one go, and requests wait meanwhile),
and fewer exchanges a round. An entry that is sent or taken then costs as much as twenty rows of a list,
which is about what it takes. Who works says what it has cost (`spend`); nobody works once nothing is left.
Owns that budget, and does none of the work.
"""

from basestore.protocol.anti_entropy import ROOTS_MAX

ROWS = 8000  # in a tick
ROWS_BESIDE = 2000
CHUNK_ROWS = 2000
CHUNK_ROWS_BESIDE = 50
ENTRY_COST_BESIDE = 20
AT_ONCE = 16  # partitions that a round opens with one peer
AT_ONCE_BESIDE = 4
NAMED = ROOTS_MAX  # that a round names to one peer
NAMED_BESIDE = 16


class Pace:
    """`rows_left` of this tick; `beside`: there are requests."""

    __slots__ = ("_requests", "beside", "rows_left")

    def __init__(self, requests: int) -> None:
        """`requests`: how many there have been, from wherever they are counted."""
        self._requests = requests
        self.beside = False
        self.rows_left = 0

    def tick(self, requests: int) -> None:
        """A tick begins; there have been so many requests by now."""
        self.beside, self._requests = requests != self._requests, requests
        self.rows_left = ROWS_BESIDE if self.beside else ROWS

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
        return entries * ENTRY_COST_BESIDE if self.beside else entries
