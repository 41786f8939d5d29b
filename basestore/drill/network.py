"""Network: what machines say to each other, on its way.

There is one connection between any two machines. Each way keeps the order of what is said on it, and each
frame is encoded where it leaves and decoded where it arrives: so what cannot be said on the wire cannot be
said here. While two machines are parted nothing passes between them, and nothing is lost: as with TCP, what
was sent arrives once the way is open again. Breaks no connection, for a drill does not last as long as TCP
waits.
"""

from basestore.drill.clockwork import Chance, Clockwork
from basestore.drill.machine import Machine
from basestore.protocol.codec import Message, decode, encode

DELAY_S_MIN, DELAY_S_MAX = 0.0003, 0.004
_APART_S = 1e-6  # between two frames that would arrive at once


class Network:
    """Of all machines."""

    def __init__(self, clockwork: Clockwork, chance: Chance) -> None:
        self._clockwork, self._chance = clockwork, chance
        self._parted: set[frozenset[Machine]] = set()
        self._held: dict[tuple[Machine, Machine], list[bytes]] = {}
        self._last_s: dict[tuple[Machine, Machine], float] = {}

    def connect(self, a: Machine, b: Machine) -> None:
        """From now on each has a link to the other."""
        for source, target in ((a, b), (b, a)):
            self._last_s[source, target] = 0.0
            source.open_link(target, self._carry)

    def part(self, a: Machine, b: Machine) -> None:
        """Nothing passes between the two."""
        self._parted.add(frozenset((a, b)))

    def heal(self) -> None:
        """All ways are open again."""
        self._parted.clear()
        held, self._held = self._held, {}
        for (source, target), frames in held.items():
            for frame in frames:
                self._send(source, target, frame)

    def _carry(self, source: Machine, target: Machine, messages: list[Message]) -> None:
        frame = encode(messages)
        if frozenset((source, target)) in self._parted:
            self._held.setdefault((source, target), []).append(frame)
        else:
            self._send(source, target, frame)

    def _send(self, source: Machine, target: Machine, frame: bytes) -> None:
        arrival_s = self._clockwork.now_s + self._chance.uniform(DELAY_S_MIN, DELAY_S_MAX)
        arrival_s = max(arrival_s, self._last_s[source, target] + _APART_S)
        self._last_s[source, target] = arrival_s
        self._clockwork.at(arrival_s, self._arrive, source, target, frame)

    @staticmethod
    def _arrive(source: Machine, target: Machine, frame: bytes) -> None:
        target.enter(target.hear, source, decode(frame))
