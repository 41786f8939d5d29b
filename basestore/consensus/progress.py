"""Progress: what a leader knows of one follower's log, and how much it sends (as in etcd's raft library).

    probing       where the follower's log agrees is not known: one Append at a time, until one is answered
    replicating   it is: what is new is sent at once, ahead of the answers, up to a bound

A follower that has answered nothing since the heartbeat before is sent an empty Append with each, and no
more: entries again once it says where it stands. Learners have a Progress too: that they count for nothing is
for who counts.
"""

from typing import Final

AHEAD_MAX: Final = 1024  # entries that are sent ahead of the answers


class Progress:
    """Of one follower. `match`: up to there its log is the leader's, durably; `next`: what it is sent next;
    `round`: the newest that it has answered; `contact_s`: when it answered last."""

    __slots__ = ("answers", "contact_s", "match", "next", "probing", "round", "waiting")

    def __init__(self, last: int, now_s: float) -> None:
        self.match, self.next = 0, last + 1
        self.round = 0
        self.contact_s = now_s
        self.answers = True  # since the heartbeat before, or it was never asked
        self.probing = True
        self.waiting = False  # for the answer to a probe

    def may_send(self, last: int) -> bool:
        """Whether there is something that it should be sent now, without a heartbeat."""
        if self.next > last or self.waiting:
            return False
        return self.probing or self.next - self.match <= AHEAD_MAX

    def sent(self, count: int) -> None:
        """So many entries were sent."""
        if self.probing:
            self.waiting = True
        else:
            self.next += count

    def sent_snapshot(self) -> None:
        """What it lacks is not in the log any more: nothing else before it has answered to that."""
        self.probing = self.waiting = True

    def beat(self) -> None:
        """A heartbeat is about to leave. Where answers are missing what was sent is sent again, to one that
        answers at all."""
        if self.waiting or (not self.probing and self.next > self.match + 1):
            self.probing, self.waiting = True, not self.answers
            self.next = self.match + 1 if self.match else self.next
        self.answers = False

    def answered(self, number: int, now_s: float) -> None:
        """It follows, as of this round at least."""
        self.contact_s, self.answers = now_s, True
        self.round = max(self.round, number)

    def held(self, held: int, last: int) -> None:
        """Its log is the leader's up to there."""
        self.match = max(self.match, min(held, last))
        self.next = max(self.next, self.match + 1)
        self.probing = self.waiting = False

    def missed(self, hint: int) -> bool:
        """It did not have what the entries were to follow: go back, to where it says. False where that is
        known already: an answer to what was sent before, or overtaken by another."""
        if not self.match < hint < self.next:
            return False
        self.next, self.probing, self.waiting = hint, True, False
        return True
