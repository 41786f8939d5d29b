"""Judge: sees all acceptances, all stores and all that clients were told, and says what must never be.

What was chosen is one chain: each record was decided from the one before. So it needs no search to say
whether what clients were told is linearizable. Where so many stores are lost at once that nobody can be
blamed, a new *era* begins: what was before is judged by itself, and what overlaps is not judged.
"""

from bisect import bisect_left
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.model.registers.clients import Told
from tests.model.registers.decision import Kind, Verdict, Wish
from tests.model.registers.records import KEYS, Ballot, Record, at, is_absent, name
from tests.model.registers.topology import Entry, Stage

if TYPE_CHECKING:
    from tests.model.registers.node import Node
    from tests.model.registers.world import World


class Violation(Exception):
    """The protocol, or its model, is wrong."""


def demand(truth: object, law: str, *details: object) -> None:
    if not truth:
        raise Violation(f"{law}: {', '.join(map(str, details))}"[:300])


class Chosen(NamedTuple):
    record: Record
    when: int


def is_enough(entry: Entry, members: set[int]) -> bool:
    """Counted here, whatever the protocol counts: a quorum of each set, or all that are not barred."""
    sets = {entry.old, entry.new} if entry.stage is Stage.JOINT else {entry.old}
    return all(len(members & each) >= min(len(each) // 2 + 1, len(each - entry.barred)) for each in sets)


class Judge:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.proposals = 0
        self.identities: defaultdict[int, set[Ballot]] = defaultdict(set)  # by proposal
        self.proposed: dict[tuple[int, Ballot], Record] = {}
        self.accepted: defaultdict[tuple[int, Ballot, int], set[int]] = defaultdict(set)
        self.chosen: dict[int, dict[Ballot, Chosen]] = {key: {} for key in KEYS}
        self.purged: dict[int, Ballot] = dict.fromkeys(KEYS, Ballot(0, 0))
        self.told: list[Told] = []
        self.contended: list[Wish] = []  # nothing came of these
        self.losses: list[int] = []  # when an era began

    def new_proposal(self) -> int:
        self.proposals += 1
        return self.proposals

    def propose(self, key: int, record: Record) -> None:
        """A ballot is of one record only."""
        known = self.proposed.setdefault((key, record.ballot), record)
        demand(known == record, "a ballot was used twice", record.ballot)

    def accept(self, key: int, record: Record, member: int, entry: Entry) -> None:
        """An acceptor has accepted it, durably, at this entry."""
        members = self.accepted[key, record.ballot, entry.since]
        members.add(member)
        if is_enough(entry, members) and record.ballot not in self.chosen[key]:
            self.chosen[key][record.ballot] = Chosen(record, self.world.now)

    def tell(self, told: Told) -> None:
        self.told.append(told)

    def contend(self, wish: Wish) -> None:
        self.contended.append(wish)

    def purge(self, key: int, record: Record) -> None:
        self.world.counts["purged"] += 1
        self.purged[key] = max(self.purged[key], record.ballot)

    def look_at_loss(self, entry: Entry) -> None:
        """This entry is about to go, and so many stores are barred that something may be on none."""
        if entry.loses:
            self.world.counts["lost by so many wiped"] += 1
            self.losses.append(self.world.now)

    def look_at_stable(self, node: "Node") -> None:
        """What is stable at one is on all, or beaten there; and nothing there may be learned yet."""
        stable, entry = node.store.stable, node.entry
        if stable == 0 or self.losses or entry.loses or entry.since != self.world.log[-1].since:
            return
        stores = [self.world.nodes[each].store for each in entry.members]
        stores = [each for each in stores if each.fit and each.seated and each.since == entry.since]
        for key in KEYS:
            held = [store.data.get(key) for store in stores]
            best = max((each for each in held if 0 < at(each).stamp <= stable), key=at, default=None)
            for store in stores:
                there = at(store.data.get(key)) >= at(best) or self.purged[key] >= at(best)
                demand(there, "what is stable is not on all", key, best, node.number, store.id)
                late = at(store.row(key).accepted).stamp
                demand(not 0 < late <= stable, "what is stable may be learned yet", key, store.id)

    # After calm.

    def end(self) -> None:
        self.look_at_calm()
        bounds = [0, *self.losses, self.world.now + 1]
        for key in KEYS:
            for began, ended in pairwise(bounds):
                Era(self, key, began, ended).judge()

    def is_calm(self) -> bool:
        try:
            self.look_at_calm()
        except Violation:
            return False
        return True

    def look_at_calm(self) -> None:
        world, entry = self.world, self.world.log[-1]
        demand(entry.stage is Stage.STILL, "a move has not ended", entry.stage.value)
        demand(not entry.barred, "a member was not taken in", set(entry.barred), len(entry.old))
        stores = [world.nodes[each].store for each in entry.old]
        for store in stores:
            demand(not store.unlearned(), "something accepted is not learned", store.id)
        for key in KEYS:
            held = [store.data.get(key) for store in stores]
            live = {None if is_absent(record) else record for record in held}
            demand(len(live) == 1, "replicas hold different things", key, live)


class Point(NamedTuple):
    """What a client was told, as a place in the chain; None: wherever nothing is."""

    began: int
    ended: int
    place: int | None
    wrote: bool


class Era:
    """One row between two losses. Places in the chain begin with 1; 0 is what was before."""

    def __init__(self, judge: Judge, key: int, began: int, ended: int) -> None:
        self.whole = judge
        self.key = key
        self.chosen = {
            ballot: each.record for ballot, each in judge.chosen[key].items() if began <= each.when < ended
        }
        self.told = [
            each for each in judge.told if each.key == key and began <= each.began and each.ended < ended
        ]
        self.first = began == 0
        self.last = ended > judge.world.now
        self.chain: list[Record] = []

    def judge(self) -> None:
        self.chain = self.link()
        names = [record.identity for record in self.chain]
        demand(len(set(names)) == len(names), "a write was applied twice", self.key)
        proposals = [record.proposal for record in self.chain]
        demand(len(set(proposals)) == len(proposals), "a proposal was applied twice", self.key)
        places = {identity: place for place, identity in enumerate(names, 1)}
        for wish in self.whole.contended:
            applied = self.whole.identities[wish.proposal] & places.keys()
            demand(wish.key != self.key or not applied, "a write given up was applied", wish)
        if self.first and self.last and not self.whole.world.lively:
            self.look_at_the_end()
        self.look_at_real_time([self.point(each, places) for each in self.told])

    def look_at_the_end(self) -> None:
        """The replicas hold the end of the chain."""
        entry = self.whole.world.log[-1]
        end = self.chain[-1] if self.chain else None
        for member in entry.old:
            held = self.whole.world.nodes[member].store.data.get(self.key)
            same = is_absent(held) if is_absent(end) else name(held) == name(end)
            demand(same, "a replica does not hold what was chosen last", self.key, held, end)

    def link(self) -> list[Record]:
        """The chain, each write once, backwards from what was chosen last."""
        ballots = sorted(self.chosen)
        unmet = set(ballots)
        chain: list[Record] = []
        ballot = ballots[-1] if ballots else self.survivor()
        while ballot is not None:
            record = self.whole.proposed[self.key, ballot]
            unmet.discard(ballot)
            if not chain or chain[-1].identity != record.identity:
                chain.append(record)
            else:
                chain[-1] = record
            ballot = record.parent if record.parent is not None else self.before(ballot, ballots)
        demand(not unmet, "two chains were chosen", self.key, len(unmet), min(unmet, default=None))
        return chain[::-1]

    def before(self, ballot: Ballot, ballots: list[Ballot]) -> Ballot | None:
        """What was decided where nothing was follows what was deleted, and purged."""
        place = bisect_left(ballots, ballot)
        if place == 0:
            return None
        record = self.chosen[ballots[place - 1]]
        purged = record.value is None and self.whole.purged[self.key] >= record.ballot
        demand(purged, "decided as if nothing were there", self.key, ballot, record.ballot)
        return record.ballot

    def survivor(self) -> Ballot | None:
        """What was left of the era before, where nothing was chosen in this one."""
        if self.first or not self.last:
            return None
        entry = self.whole.world.log[-1]
        held = [self.whole.world.nodes[each].store.data.get(self.key) for each in entry.old]
        return max(map(at, held)) if any(held) else None

    def point(self, told: Told, places: dict[Ballot, int]) -> Point:
        wish = told.wish
        mine = self.whole.identities[wish.proposal] if wish is not None else set()
        applied = [places[identity] for identity in mine if identity in places]
        if wish is not None and told.verdict is Verdict.STORED:
            demand(applied, "an acknowledged write is not in the chain", wish, mine)
            place = applied[0]
            self.look_at_condition(told, place)
            return Point(told.began, told.ended, place, True)
        demand(not applied, "a write reported lost was applied", wish, applied)
        if wish is not None and wish.kind is Kind.IF_VERSION:
            demand(told.seen != wish.expected or told.absent, "lost to what it named", wish)
        if wish is not None and wish.kind is Kind.IF_ABSENT:
            demand(not told.absent, "lost to nothing", wish)
        if told.seen is None:
            return Point(told.began, told.ended, None, False)
        demand(told.seen in places or not self.first, "what was seen is not in the chain", told.seen)
        return Point(told.began, told.ended, places.get(told.seen, 0), False)

    def look_at_condition(self, told: Told, place: int) -> None:
        before = self.chain[place - 2] if place > 1 else None
        if told.wish is None or (before is None and not self.first):
            return
        if told.wish.kind is Kind.IF_VERSION:
            named = before is not None and before.identity == told.wish.expected
            demand(named, "a compare succeeded on something else", told.wish, before)
        if told.wish.kind is Kind.IF_ABSENT:
            demand(is_absent(before), "an if-absent succeeded on something", told.wish, before)

    def look_at_real_time(self, points: list[Point]) -> None:
        """Each is at or behind all that ended before it began. One that saw nothing is at the first place
        from there on where nothing is."""
        empty = [0, *(place for place, record in enumerate(self.chain, 1) if is_absent(record))]
        points.sort(key=lambda each: each.began)
        waiting: list[tuple[int, int]] = []
        high = 0
        for each in points:
            due = sorted(found for found in waiting if found[0] < each.began)
            waiting = [found for found in waiting if found[0] >= each.began]
            high = max([high, *(place for _, place in due)])
            place = each.place
            if place is None:
                found = bisect_left(empty, high)
                demand(found < len(empty), "nothing was seen where something was", self.key, each)
                place = empty[found]
            demand(
                place > high or (place == high and not each.wrote),
                "real time is violated",
                self.key,
                each,
                high,
            )
            waiting.append((each.ended, place))
