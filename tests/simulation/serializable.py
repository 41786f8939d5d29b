"""Serializable: is there an order of all transactions, true to time, in which each finds what it has read?

Nothing is guessed of the order in which versions of a row came: it is known (`chains.py`). So what each
transaction has read and written says of many pairs which of them is first, and there is such an order exactly
if these *dependencies* have no cycle (Adya, "Weak Consistency", 1999; Kingsbury and Alvaro, "Elle", 2020):

    ww    one wrote a version, the other a later one of that row
    wr    one wrote the version that the other has read, or an earlier one
    rw    one has read a version, the other wrote a later one
    rt    one had ended when the other began (*real time*)

A cycle is named by what is in it, the least first: G0 has none but ww, G1c wr as well, G-single one rw, G2
several; `-realtime` where it takes rt to close it. That is not all that can be wrong:

    G1a       what was rolled back was read
    G1b       what was read is not what the version holds in the end
    phantom   what was read nobody wrote
    lost      what was committed is not there
    absent    nothing was found, where something was all the time
    doubled   two wrote one version

Single writes and reads are transactions of one row. Of one that was not answered `end` is infinite; one of
which it is not known that it was committed does not belong here. In time that is linear, but for sorting:
what ends is a chain, to which each transaction is tied twice.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any, NamedTuple

WW, WR, RW, RT = "ww", "wr", "rw", "rt"
KINDS = (
    ("G0", {WW}, 0), ("G1c", {WW, WR}, 0), ("G-single", {WW, WR}, 1), ("G2", {WW, WR, RW}, 0),
    ("G0-realtime", {WW, RT}, 0), ("G1c-realtime", {WW, WR, RT}, 0),
    ("G-single-realtime", {WW, WR, RT}, 1), ("G2-realtime", {WW, WR, RW, RT}, 0),
)  # fmt: skip
SEARCHED_MAX = 200  # edges of a knot from which a way back is looked for
SHOWN_MAX = 8


class Read(NamedTuple):
    """`version`: None where nothing was found, of whatever version. `value`: as it was shown, if that is to
    be compared."""

    row: Hashable
    version: Hashable
    value: bytes | None = None


class Transaction(NamedTuple):
    """`writes`: rows and versions."""

    name: str
    start: float
    end: float
    reads: Sequence[Read] = ()
    writes: Sequence[tuple[Hashable, Hashable]] = ()


class Version(NamedTuple):
    """What a row has held. `goes`: nothing may be found where it stands: it is deleted, or expires."""

    version: Hashable
    value: bytes = b""
    goes: bool = False


class Anomaly(NamedTuple):
    """Something that must not be."""

    kind: str
    text: str


Orders = Mapping[Any, Sequence[Version]]  # by row
Edge = tuple[int, str, Hashable]  # whereto, its kind, the row


def judge(
    transactions: Sequence[Transaction], orders: Orders, rolled_back: AbstractSet[Hashable] = frozenset()
) -> list[Anomaly]:
    """All that is wrong. `orders`: of each row what it has held, in turn; before that it held nothing.
    `rolled_back`: versions."""
    graph = _Graph(transactions, orders, rolled_back)
    return [*graph.anomalies, *graph.cycles()]


class _Seen(NamedTuple):
    """Who has a certain place in the order of a row."""

    start: float
    end: float
    place: int
    writes: bool


class _Row:
    """Places of its versions count from 1; at 0 there is nothing."""

    def __init__(self, order: Sequence[Version]) -> None:
        self.order = order
        self.place = {each.version: at for at, each in enumerate(order, 1)}
        self.gone = [0, *(at for at, each in enumerate(order, 1) if each.goes)]
        self.writers = [-1] * (len(order) + 2)
        self.before: list[int] = []  # by place: who wrote it, or the last before it of whom that is known
        self.after: list[int] = []  # likewise the next
        self.seen: list[_Seen] = []
        self._windows: tuple[list[float], list[int], list[float], list[int]] | None = None

    def link(self) -> None:
        """All writers are known."""
        self.before, self.after = list(self.writers), list(self.writers)
        for at in range(1, len(self.before)):
            if self.before[at] < 0:
                self.before[at] = self.before[at - 1]
        for at in range(len(self.after) - 2, -1, -1):
            if self.after[at] < 0:
                self.after[at] = self.after[at + 1]

    def absent(self, start: float, end: float) -> tuple[int, int] | None:
        """The first and the last place at which one may have found nothing, by what was seen before and
        behind; None: there is none."""
        if self._windows is None:
            ended = sorted((each.end, each.place) for each in self.seen)
            begun = sorted((each.start, each.place - each.writes) for each in self.seen)
            lows, highs, low, high = list[int](), list[int](), 0, len(self.order)
            for _, place in ended:
                low = max(low, place)
                lows.append(low)
            for _, place in reversed(begun):
                high = min(high, place)
                highs.append(high)
            self._windows = [at for at, _ in ended], lows, [at for at, _ in begun], highs[::-1]
        ends, lows, starts, highs = self._windows
        before, behind = bisect_left(ends, start), bisect_right(starts, end)
        low = lows[before - 1] if before else 0
        high = highs[behind] if behind < len(starts) else len(self.order)
        first, last = bisect_left(self.gone, low), bisect_left(self.gone, high + 1) - 1
        return (self.gone[first], self.gone[last]) if first <= last else None


class _Graph:
    """Of all transactions, by their numbers; behind them stand the ends, in time."""

    def __init__(
        self, transactions: Sequence[Transaction], orders: Orders, rolled_back: AbstractSet[Hashable]
    ) -> None:
        self._all, self._rolled_back = transactions, rolled_back
        self._rows: defaultdict[Hashable, _Row] = defaultdict(lambda: _Row(()))
        self._rows.update({row: _Row(order) for row, order in orders.items()})
        self.anomalies: list[Anomaly] = []
        self._edges: list[list[Edge]] = [[] for _ in transactions]
        self._absent: list[tuple[int, Read]] = []
        for at, each in enumerate(transactions):
            self._place_writes(at, each)
        for row, held in self._rows.items():
            held.link()
            known = [writer for writer in held.writers if writer >= 0]
            for one, other in pairwise(known):
                self._tie(one, other, WW, row)
        for at, each in enumerate(transactions):
            self._place_reads(at, each)
        for at, read in self._absent:
            self._place_absent(at, read)
        self._tie_times()

    def _blame(self, kind: str, at: int, text: str) -> None:
        self.anomalies.append(Anomaly(kind, f"{self._all[at].name}: {text}"))

    def _tie(self, one: int, other: int, kind: str, row: Hashable) -> None:
        if one != other and one >= 0 and other >= 0:
            self._edges[one].append((other, kind, row))

    # --- dependencies ----------------------------------------------------------------------------

    def _place_writes(self, at: int, of: Transaction) -> None:
        for row, version in of.writes:
            held = self._rows[row]
            place = held.place.get(version)
            if place is None:
                self._blame("lost", at, f"{version!r} of {row!r} is not there")
            elif held.writers[place] >= 0:
                self._blame("doubled", at, f"{version!r} of {row!r} is of {self._name(held.writers[place])}")
            else:
                held.writers[place] = at
                held.seen.append(_Seen(of.start, of.end, place, True))

    def _place_reads(self, at: int, of: Transaction) -> None:
        for read in of.reads:
            held = self._rows[read.row]
            place = None if read.version is None else held.place.get(read.version)
            if read.version is None:
                self._absent.append((at, read))
            elif read.version in self._rolled_back:
                self._blame("G1a", at, f"has read {read.version!r} of {read.row!r}, which was rolled back")
            elif place is None:
                self._blame("phantom", at, f"has read {read.version!r} of {read.row!r}: nobody wrote it")
            else:
                if read.value is not None and read.value != held.order[place - 1].value:
                    text = f"has read {read.value!r} as {read.version!r} of {read.row!r}"
                    self._blame("G1b", at, f"{text}, which is {held.order[place - 1].value!r}")
                held.seen.append(_Seen(of.start, of.end, place, False))
                self._tie_read(at, read.row, place, place)

    def _tie_read(self, at: int, row: Hashable, first: int, last: int) -> None:
        """It has read a place between these two."""
        held = self._rows[row]
        self._tie(held.before[first], at, WR, row)
        self._tie(at, held.after[last + 1], RW, row)

    def _place_absent(self, at: int, read: Read) -> None:
        """It has found nothing: at one of a few places, of which those that are certain say which."""
        of, held = self._all[at], self._rows[read.row]
        own = next((held.place.get(version) for row, version in of.writes if row == read.row), None)
        places: tuple[int, int] | None
        if own is not None:
            places = (own - 1, own - 1) if own - 1 in held.gone else None
        else:
            places = held.absent(of.start, of.end)
        if places is None:
            self._blame("absent", at, f"found nothing of {read.row!r}, and there was something all the time")
        else:
            self._tie_read(at, read.row, *places)

    def _tie_times(self) -> None:
        """Who had ended when another began: by a chain of all ends."""
        count = len(self._all)
        ends = sorted({each.end for each in self._all if each.end != float("inf")})
        self._edges += [[] for _ in ends]
        for at in range(1, len(ends)):
            self._edges[count + at - 1].append((count + at, RT, None))
        for at, each in enumerate(self._all):
            if each.end != float("inf"):
                self._edges[at].append((count + bisect_left(ends, each.end), RT, None))
            before = bisect_left(ends, each.start) - 1
            if before >= 0:
                self._edges[count + before].append((at, RT, None))

    # --- cycles ----------------------------------------------------------------------------------

    def cycles(self) -> Iterator[Anomaly]:
        """One of each knot, of the least kind that there is."""
        for knot in knots(self._edges, range(len(self._edges))):
            yield self._named(knot)

    def _named(self, knot: list[int]) -> Anomaly:
        within = set(knot)
        for kind, kinds, more in KINDS:
            found = self._with_one(within, kinds) if more else self._cycle(within, kinds)
            if found:
                return Anomaly(kind, self._told(found))
        raise AssertionError("a knot without a cycle")

    def _cycle(self, within: set[int], kinds: AbstractSet[str]) -> list[tuple[int, Edge]]:
        """A cycle of such edges."""
        edges = {
            at: [edge for edge in self._edges[at] if edge[0] in within and edge[1] in kinds] for at in within
        }
        for knot in knots(edges, within):
            inner = set(knot)
            for edge in edges[knot[0]]:
                way = self._way(edge[0], knot[0], inner, kinds) if edge[0] in inner else None
                if way is not None:
                    return [(knot[0], edge), *way]
        return []

    def _with_one(self, within: set[int], kinds: AbstractSet[str]) -> list[tuple[int, Edge]]:
        """A cycle of such edges, and one rw."""
        searched = 0
        for at in sorted(within):
            for edge in self._edges[at]:
                if edge[1] != RW or edge[0] not in within:
                    continue
                searched += 1
                if searched > SEARCHED_MAX:
                    return []
                if (way := self._way(edge[0], at, within, kinds)) is not None:
                    return [(at, edge), *way]
        return []

    def _way(
        self, start: int, goal: int, within: set[int], kinds: AbstractSet[str]
    ) -> list[tuple[int, Edge]] | None:
        """The shortest way of such edges."""
        came: dict[int, tuple[int, Edge] | None] = {start: None}
        ahead = deque([start])
        while ahead and goal not in came:
            at = ahead.popleft()
            for edge in self._edges[at]:
                if edge[1] in kinds and edge[0] in within and edge[0] not in came:
                    came[edge[0]] = at, edge
                    ahead.append(edge[0])
        if goal not in came:
            return None
        way = list[tuple[int, Edge]]()
        step = came[goal]
        while step is not None:
            way.append(step)
            step = came[step[0]]
        return way[::-1]

    def _told(self, cycle: list[tuple[int, Edge]]) -> str:
        words = list[str]()
        for at, (_, kind, row) in cycle:
            if at < len(self._all):
                words.append(self._name(at))
                words.append(f"-{kind} {row!r}->" if kind != RT else "-rt->")
        cut = words[: 2 * SHOWN_MAX]
        return " ".join([*cut, *(["..."] if len(cut) < len(words) else []), words[0] if words else ""])

    def _name(self, at: int) -> str:
        return self._all[at].name


def knots(edges: Mapping[int, list[Edge]] | list[list[Edge]], nodes: Iterable[int]) -> Iterator[list[int]]:
    """Strongly connected components of more than one node (Tarjan, 1972), without recursion."""
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    stack, on_stack = list[int](), set[int]()
    for root in nodes:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        under_way = [(root, iter(edges[root]))]
        while under_way:
            at, left = under_way[-1]
            for edge in left:
                to = edge[0]
                if to not in number:
                    number[to] = low[to] = len(number)
                    stack.append(to)
                    on_stack.add(to)
                    under_way.append((to, iter(edges[to])))
                    break
                if to in on_stack:
                    low[at] = min(low[at], number[to])
            else:
                under_way.pop()
                if under_way:
                    low[under_way[-1][0]] = min(low[under_way[-1][0]], low[at])
                if low[at] == number[at]:
                    knot = _popped(stack, on_stack, at)
                    if len(knot) > 1:
                        yield knot


def _popped(stack: list[int], on_stack: set[int], root: int) -> list[int]:
    knot = list[int]()
    while not knot or knot[-1] != root:
        knot.append(stack.pop())
        on_stack.discard(knot[-1])
    return knot
