"""Reads: at which entry a leader may answer (Ongaro, "Consensus: bridging theory and practice", 2014, 6.4).

    consistent   ReadIndex: the commit index of when the read came, once a majority has answered a round of
                 heartbeats that began after that: nobody else can have led when it came
    default      at once, as long as the lease holds: LEASE_S from when the newest round that a majority has
                 answered was *sent*. For voters grant nobody a vote for longer than that, by their own clocks

A lease is wrong only where two clocks' rates differ by more than a third (LEASE_S to STILL_S of `raft.py`).
Owns rounds and who waits for them. Knows no entries.
"""

from collections.abc import Iterable
from typing import Final

LEASE_S: Final = 1.5
ROUNDS_MAX: Final = 64  # of which it is known when they were sent
WAITING_MAX: Final = 1024


class Reads:
    """Of one leader, in one term. `round`: the last that was sent, or is about to be."""

    def __init__(self) -> None:
        self.round = 0
        self._sent_s: dict[int, float] = {}
        self._answered = 0  # by a majority
        self._waiting: list[tuple[int, int, int]] = []  # ticket, round, index
        self.lease_until_s = -1.0

    def begin_round(self, now_s: float) -> int:
        self.round += 1
        self._sent_s[self.round] = now_s
        self._sent_s.pop(self.round - ROUNDS_MAX, None)
        return self.round

    def wait(self, ticket: int, index: int) -> bool:
        """Answer at this index once the next round is answered; False where too many wait."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append((ticket, self.round + 1, index))
        return True

    @property
    def wants_round(self) -> bool:
        """Whether somebody waits for a round that has not begun, and none is on its way: all that ask
        meanwhile share the next."""
        return bool(self._waiting) and self._waiting[-1][1] > self.round == self._answered

    def answered(self, round: int) -> Iterable[tuple[int, int]]:
        """A majority has answered this round: the tickets that may be answered now, and where."""
        self._answered = max(self._answered, round)
        sent_s = self._sent_s.get(round)
        if sent_s is not None:
            self.lease_until_s = max(self.lease_until_s, sent_s + LEASE_S)
        ready = [(ticket, index) for ticket, needed, index in self._waiting if needed <= round]
        if ready:
            self._waiting = [each for each in self._waiting if each[1] > round]
        return ready

    def end(self) -> list[int]:
        """It leads no more: the tickets that will not be answered here."""
        waiting, self._waiting = self._waiting, []
        self.lease_until_s = -1.0
        return [ticket for ticket, _, _ in waiting]
