"""Textbook: two-phase and three-phase commit as textbooks have them, for the drills to hold ours against.

One site coordinates; of the others each holds a key, and locks it once it has voted to change it:

    n1            n2, n3            two-phase (Gray, "Notes on Data Base Operating Systems", 1978)
    VOTE      ->  VOTED, locked     three-phase (Skeen, "Nonblocking Commit Protocols", 1981): the same, and
              <-  YES               between the votes and the end
    COMMIT    ->  COMMITTED             PREPARE  ->  PREPARED
                                                 <-  READY

Who hears nothing for a while asks all others what they know (*cooperative termination*; Bernstein, Hadzilacos
and Goodman, 1987), and goes by what those say that answer:

    two-phase     the end that one of them knows; or that it is aborted, if one has not voted. Else nobody
                  knows: the coordinator may have decided either. It waits, and asks again
    three-phase   the same; else committed, if one is PREPARED, or aborted. That is right as long as whoever
                  does not answer has stopped, and wrong where it only cannot be heard

Has no store and no log: what a site has said it stands by. Of the product nothing is used here but the time
and the chance of a drill.
"""

import enum
from collections.abc import Collection
from typing import Final

from basestore.drill.clockwork import Chance, Clockwork
from basestore.drill.network import DELAY_S_MAX, DELAY_S_MIN

LATE_S: Final = 1.0  # without a word of the coordinator
REPLY_S: Final = 0.1  # that is waited for what others say
BEFORE, AFTER = "before", "after"  # what a key holds


class State(enum.Enum):
    """What a site knows of the transaction."""

    WORKING = "working"
    VOTED = "voted"
    PREPARED = "prepared"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Word(enum.Enum):
    """What is said, besides states."""

    VOTE = "vote?"
    YES = "yes"
    PREPARE = "prepare"
    READY = "ready"
    HOW = "how did it end?"


ENDS: Final = (State.COMMITTED, State.ABORTED)


class Protocol:
    """One transaction of these sites: `coordinator`, and `sites`, which hold keys. `phases`: 2 or 3."""

    def __init__(self, phases: int, clockwork: Clockwork, chance: Chance) -> None:
        self.phases, self.clockwork, self._chance = phases, clockwork, chance
        self._parted: frozenset[str] = frozenset()
        self._held: list[tuple[Site | Coordinator, Site | Coordinator, Word | State]] = []
        self.sites = [Site(self, "n2"), Site(self, "n3")]
        self.coordinator = Coordinator(self, "n1")

    def say(self, source: "Site | Coordinator", target: "Site | Coordinator", word: Word | State) -> None:
        if (source.name in self._parted) != (target.name in self._parted):
            self._held.append((source, target, word))
        else:
            delay_s = self._chance.uniform(DELAY_S_MIN, DELAY_S_MAX)
            self.clockwork.after(delay_s, target.hear, source, word)

    def part(self, *names: str) -> None:
        """Nothing passes between these and the others; it is kept."""
        self._parted = frozenset(names)

    def heal(self) -> None:
        self._parted = frozenset()
        held, self._held = self._held, []
        for each in held:
            self.say(*each)

    def rest(self, seconds: float) -> None:
        self.clockwork.run(lambda: False, seconds)

    def end_of(self, states: Collection[State]) -> State | None:
        """How it is to end for who knows this of all that have answered, itself included; None: it waits."""
        for end in ENDS:
            if end in states:
                return end
        if State.WORKING in states:
            return State.ABORTED
        if self.phases == 2:
            return None
        return State.COMMITTED if State.PREPARED in states else State.ABORTED


class Coordinator:
    """It holds no key. `stopped`: it hears nothing, and says nothing."""

    def __init__(self, protocol: Protocol, name: str) -> None:
        self.name, self._protocol, self.stopped = name, protocol, False
        self.decided: State | None = None
        self._heard = dict[Word, set[str]]()

    def begin(self) -> None:
        self._tell(Word.VOTE)

    def hear(self, source: "Site | Coordinator", word: Word | State) -> None:
        if self.stopped:
            return
        if isinstance(word, Word) and word is not Word.HOW:
            heard = self._heard.setdefault(word, set())
            heard.add(source.name)
            if len(heard) == len(self._protocol.sites):
                self._go_on(word)
        elif word is Word.HOW and self.decided is not None:
            self._protocol.say(self, source, self.decided)

    def _go_on(self, word: Word) -> None:
        if word is Word.YES and self._protocol.phases == 3:
            self._tell(Word.PREPARE)
            self._protocol.clockwork.after(LATE_S, self._late)
        elif self.decided is None:
            self._decide(State.COMMITTED)

    def _late(self) -> None:
        """All have voted, and who does not say that it is ready has stopped: it is told when it is back."""
        if not self.stopped and self.decided is None:
            self._decide(State.COMMITTED)

    def _decide(self, state: State) -> None:
        self.decided = state
        self._tell(state)

    def recover(self) -> None:
        """It goes on. What it has not decided it aborts."""
        self.stopped = False
        self._decide(self.decided or State.ABORTED)

    def _tell(self, word: Word | State) -> None:
        for site in self._protocol.sites:
            self._protocol.say(self, site, word)


class Site:
    """It holds one key. `answered`: who has read it: when they had asked, when they were answered, and what;
    `waiting`: when those asked who were not; `asked`: how often it has asked the others how it ended."""

    def __init__(self, protocol: Protocol, name: str) -> None:
        self.name, self._protocol = name, protocol
        self.state, self.value, self.asked = State.WORKING, BEFORE, 0
        self.waiting: list[float] = []
        self.answered: list[tuple[float, float, str]] = []
        self._known: set[State] = set()

    @property
    def over(self) -> bool:
        return self.state in ENDS

    def read(self) -> None:
        """Somebody asks for its key."""
        self.waiting.append(self._protocol.clockwork.now_s)
        self._answer()

    def _answer(self) -> None:
        if self.state is State.WORKING or self.over:  # else it is locked
            now_s = self._protocol.clockwork.now_s
            self.answered += [(asked_s, now_s, self.value) for asked_s in self.waiting]
            self.waiting.clear()

    def hear(self, source: "Site | Coordinator", word: Word | State) -> None:
        protocol = self._protocol
        if word is Word.HOW:
            protocol.say(self, source, self.state)
        elif word is Word.VOTE and self.state is State.WORKING:
            self._turn(State.VOTED)
            protocol.say(self, source, Word.YES)
        elif word is Word.PREPARE and self.state is State.VOTED:
            self._turn(State.PREPARED)
            protocol.say(self, source, Word.READY)
        elif isinstance(word, State):
            self._known.add(word)
            if word in ENDS:
                self._end(word)

    def _turn(self, state: State) -> None:
        self.state = state
        self._protocol.clockwork.after(LATE_S, self._late, state)

    def _late(self, state: State) -> None:
        """It is as it was, and heard of no end."""
        if self.state is state:
            self.asked += 1
            self._known = {state}
            protocol = self._protocol
            others: list[Site | Coordinator] = [each for each in protocol.sites if each is not self]
            for other in (*others, protocol.coordinator):
                protocol.say(self, other, Word.HOW)
            protocol.clockwork.after(REPLY_S, self._conclude, state)

    def _conclude(self, state: State) -> None:
        if self.state is state:
            end = self._protocol.end_of(self._known)
            if end is None:
                self._protocol.clockwork.after(LATE_S, self._late, state)
            else:
                self._end(end)

    def _end(self, state: State) -> None:
        """Once, for good."""
        if not self.over:
            self.state = state
            self.value = AFTER if state is State.COMMITTED else BEFORE
            self._answer()
