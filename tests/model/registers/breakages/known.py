"""Known: all breakages, and who notices which.

`SEEDS` says which seed does; those of `stage` have a script of their own. A few cost no soundness, or nothing
that a model of this size can see: `HARMLESS` says why.
"""

from collections import Counter
from collections.abc import Iterable

from tests.model.patches import Breakage, broken
from tests.model.registers.breakages.acceptors import ACCEPTORS
from tests.model.registers.breakages.coordinators import COORDINATORS
from tests.model.registers.breakages.places import PLACES
from tests.model.registers.breakages.stamps import STAMPS
from tests.model.registers.judge import Violation
from tests.model.registers.stage import STAGED
from tests.model.registers.world import play

BREAKAGES = [*ACCEPTORS, *COORDINATORS, *STAMPS, *PLACES]

HARMLESS = {
    "each ballot has its own identity": "the proposal, which all of them carry, is looked at as well",
    "prepare is skipped though the acceptors changed": "the floor keeps the promise with those who come",
    "claims of any entry count": "certificates do not; who has met all others has what they claimed of",
    "who leaves is not asked": "what a quorum took is with the others; this is for writes at ONE",
    "what is stable is taken": "it is what was there, a tombstone that goes again",
    "learned at or below closed": "the hold keeps closed below all that may be learned",
}
SEEDS = {
    "answers leave before they are durable": 75,
    "acceptors tell what they have learned only": 0,
    "accepted records are dropped when they are old": 7,
    "promises above closed are dropped": 28,
    "ballots at or below closed are taken": 0,
    "answers of any entry count": 18,
    "to accept promises nothing": 1,
    "an acceptor accepts below its promise": 0,
    "the data is ordered by identities": 5,
    "what is learned by exchange leaves what was accepted": 0,
    "accepted is chosen": 0,
    "a read takes what is learned for the greatest": 0,
    "prepare is skipped with a ballot that nobody promised": 0,
    "prepare is skipped twice with one ballot": 0,
    "in joint a quorum of the old is enough": 8,
    "a write that may be applied is proposed again": 0,
    "a compare is reported lost without proof": 0,
    "one less than a quorum is enough": 1,
    "a quorum of those that are not barred is enough": 25,
    "acceptances of another entry count for a read": 94,
    "a minority counts for a read": 0,
    "a proposal is repeated blindly": 2,
    "what is absent was never there": 166,
    "the proposal is not looked at": 4,
    "a failing compare is not proven": 0,
    "a repetition that sends nothing is definite": 2,
    "a blind repetition is repeated by identity": 28,
    "closed is not held": 0,
    "the hold is forgotten by a crash": 19,
    "tombstones go before they are stable": 0,
    "purge drops what is accepted": 13,
    "stable by one's own claim only": 0,
    "stable does not wait for who is barred": 39,
    "exchanges between different entries": 237,
    "certificates of any entry count": 94,
    "a wiped store counts at once": 1,
    "who returns is as it was": 26,
    "a barred store counts": 37,
    "taken in without having met anybody": 8,
    "sources need not have finished": 94,
    "finished is told before it is so": 16,
    "finishing needs a quorum though too many are barred": 8,
    "no joint": 3,
    "another store is bound as the first is": 3,
}


def catch(breakage: Breakage, seeds: Iterable[int]) -> tuple[int | None, str]:
    """The first of these seeds that notices, and what."""
    with broken(breakage):
        for seed in seeds:
            if violation := play(seed, Counter()):
                return seed, str(violation)
    return None, ""


def catch_staged(breakage: Breakage) -> str:
    """What the script that was made for it notices."""
    with broken(breakage):
        try:
            STAGED[breakage.name]()
        except Violation as violation:
            return str(violation)
    return ""
