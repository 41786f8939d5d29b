"""Brownout: how long a node has been asked for more than it can do, and what it leaves out for that.

A word of Klein, Maggio et al. ("Brownout", 2014) for a service that leaves out what is optional rather than
answer nobody. Each second counts in which something was refused because this node does not keep up (not
because one caller sends more bytes than it may, or takes no answers):

    0    all as ever
    1    after 5 such seconds     no speculation, no read repair by lot
    2    after 15                 no background exchanges but those that keep proofs fresh; reads that may be
                                  degraded are

It falls by one after 5 seconds in which nothing was refused.
"""

SECOND_S = 1.0
LEVELS = (5, 15)  # seconds of refusals, until each level is reached
CALM_S = 5
LEFT_OUT = (  # by level, in words, each with what is before it
    (),
    ("speculation", "read repair by lot"),
    ("background exchanges but those that keep proofs fresh", "quorums of reads that may be degraded"),
)


def left_out_at(level: int) -> list[str]:
    """What a node leaves out, in words."""
    return [each for words in LEFT_OUT[: level + 1] for each in words]


class Brownout:
    """Of one node."""

    def __init__(self) -> None:
        self.level = 0
        self._busy = 0
        self._calm = 0
        self._ends_s = 0.0
        self._refused = False

    def refused(self) -> None:
        """Something was, in this second."""
        self._refused = True

    def tick(self, now_s: float) -> None:
        """Close the second, if it is over."""
        if now_s < self._ends_s:
            return
        self._ends_s = now_s + SECOND_S
        if self._refused:
            self._calm = 0
            self._busy += 1
            if self.level < len(LEVELS) and self._busy >= LEVELS[self.level]:
                self.level += 1
        else:
            self._calm += 1
            if self._calm >= CALM_S:
                self._calm = 0
                self.level = max(0, self.level - 1)
                self._busy = LEVELS[self.level - 1] if self.level else 0
        self._refused = False
