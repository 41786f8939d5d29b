"""Convergence: whether all that was written before a moment is on all replicas, for good.

It rests on two marks of a replica's partition. Its closed stamp (CockroachDB's closed timestamp): the replica
takes no write at or below it any more. Its stable stamp: every write at or below it is on all replicas, or
beaten there; certificates of exchanges prove that. For example:

    n1, n2, n3 close a partition up to stamp 100, each
    n1-n2, n2-n3 and n1-n3 each compare all of it, and are the same: three certificates, each of stamp 100
    n1 hears of all three: its stable stamp is 100, and what was written at 90 is everywhere, for good

The moment is a stamp: the greatest that any member knew when it was first heard, so that no write that
had ended then has a greater one; or the version of a receipt. A member that is heard only later may
have been started again meanwhile and not know what it had seen: the drift bound, at least, is added.

A partition is proven once the stable stamp of a whole replica has reached the moment, and no member that
was heard keeps a hint of a write up to it that no replica may hold. What members that were not heard may
keep as such hints is not covered, and that is said (`unheard`). For a receipt the stable stamp is enough,
if a replica had applied the write. If none had, nothing is proven by the receipt alone; but of a *deferred*
write the receipt names the store that keeps it, and that says whether it still does: once it does not, some
replica has taken it. Where that store is gone, it is not known what became of the write.

Stable stamps speak of what there is. So nothing is proven of a partition while a loss of it is open
(`replica/losses.py`): of none of what was written up to that moment can be told whether it is there. For a
receipt an accepted loss, or one that cost no quorum anything, leaves that open too, where the replicas that
were known to have the write and those that the lost store recovered from need not have met: k of N, and N - k
or fewer. To accept a loss brings nothing back.

`Proving` asks until all partitions are proven, or time is up; then it says who or what stands in the way.
Once it could be proven, it has exchanges run at once rather than in turn. Pure: moments of the client's clock
are arguments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from basestore.config import CLOSED_MARGIN_MS
from basestore.errors import InvalidRequest
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Names
from basestore.protocol.operator import NEVER, Survey
from basestore.repair.version import COUNTER_BITS, Version
from basestore.results.cluster_view import SURVEY_MS, Cause, Following, Obstacle, Scope, gathered, wall_ms_of
from basestore.results.receipts import Receipt

CONVERGED_S = 30.0
OVERDUE_MS = 5000
GONE = (
    "replicas have lost their stores since the write was acknowledged, or are newer than it, and those that "
    "were known to have it may be among them: read its key to see whether it is there"
)
_FOR_EVER = ("memory", "unapplied", "lost")  # what no waiting changes


@dataclass(frozen=True, slots=True)
class PartitionProof:
    """How far one partition is proven to be the same on all its replicas.

    proven        whether that is far enough
    stable        every version at or below this stamp is on all replicas, for good; 0: none is proven
    lag_ms        how far it is behind the clock
    digest        8 bytes of the root of all records, if all replicas that were heard have the same just
                  now; None while they differ, as they do when they are being written to, or none was heard
    count         records, tombstones included
    certificates  by pair of replicas, how many ms ago the last was made; None: there is none
    """

    partition: int
    replicas: tuple[str, ...]
    proven: bool
    stable: int
    lag_ms: int | None
    digest: bytes | None
    count: int
    certificates: dict[tuple[str, str], int | None]

    def as_json(self) -> dict[str, Any]:
        return {
            "partition": self.partition,
            "replicas": list(self.replicas),
            "proven": self.proven,
            "stable": f"{self.stable:016x}",
            "stable_ms": wall_ms_of(self.stable) or None,
            "lag_ms": self.lag_ms,
            "digest": None if self.digest is None else self.digest.hex(),
            "count": self.count,
            "certificates": [{"nodes": list(pair), "age_ms": age} for pair, age in self.certificates.items()],
        }


@dataclass(frozen=True, slots=True)
class Convergence:
    """What is proven.

    proven      whether all that was written up to `stamp` is on all replicas, for good; so the truth of
                it as a bool
    partitions  those that were asked for, as far as any replica of them was heard
    obstacles   what stands in the way, if it is not
    unheard     by name, why a member was not heard; what it may keep as hints of writes at ANY is not
                covered. None are named of a receipt
    """

    proven: bool
    stamp: int
    waited_s: float
    partitions: tuple[PartitionProof, ...]
    obstacles: tuple[Obstacle, ...]
    unheard: dict[str, str]

    def __bool__(self) -> bool:
        return self.proven

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a proof does not cover, in words."""
        return tuple(
            f"{name} does not answer ({why}): hints of writes at any that it may keep are not covered"
            for name, why in self.unheard.items()
            if self.proven
        )

    @property
    def stamp_ms(self) -> int:
        """The moment in milliseconds since 1970."""
        return wall_ms_of(self.stamp)

    def as_json(self) -> dict[str, Any]:
        """As `basestore converged -o json` prints it."""
        return {
            "proven": self.proven,
            "stamp_ms": self.stamp_ms,
            "waited_s": round(self.waited_s, 3),
            "partitions": [each.as_json() for each in self.partitions],
            "obstacles": [each.as_json() for each in self.obstacles],
            "unheard": self.unheard,
            "caveats": list(self.caveats),
        }


def settled_by(receipt: Receipt | None) -> Version | None:
    """The version that must be stable for a write to be everywhere for good: its own, or, if that is
    greater, that of the write that beat it; of a register that by which replicas compare."""
    if receipt is None:
        return None
    if not isinstance(receipt, Receipt):
        raise InvalidRequest(f"the receipt must be what a write returned, not {type(receipt).__name__}")
    if receipt.order:
        return Version.decode(receipt.order)
    versions = [version for version in (receipt.version, receipt.superseded_by) if version is not None]
    if not versions:
        raise InvalidRequest(
            "the receipt is of a write that was not done, for the key holds nothing: there is nothing to "
            "wait for"
        )
    return max(versions)


class Proving(Following[Convergence]):
    """Asks until it is proven."""

    def __init__(self, scope: Scope, receipt: Receipt | None, timeout_s: float, now_s: float) -> None:
        """`receipt`: of the write that it is about; otherwise it is about all that was written by now.
        InvalidRequest when that is no receipt."""
        version = settled_by(receipt)
        self._receipt = receipt
        if receipt is not None and not scope.key:
            scope = scope._replace(partition=receipt.partition)
        super().__init__(scope, timeout_s, now_s)
        self._version = version
        self._pass_s: float | None = None  # since when exchanges are asked for
        self._stamp = version.stamp if version else 0
        self._seen: set[str] = set()

    def request(self, request: int) -> Survey:
        """The next request."""
        bucket, key, partition = self._scope
        within_ms = NEVER if self._pass_s is None else int((self._now_s - self._pass_s) * 1e3)
        first = self.cluster_view.first
        return Survey(request, bucket, key, partition, first, within_ms, False, [], SURVEY_MS)

    def _hasten(self, open_: Sequence[PartitionProof]) -> None:
        """Once these could be proven, have an exchange of each pair run, and when all have, one more: the
        first makes the certificates, the second tells them to the third replica."""
        views = self.cluster_view.nodes.values()
        due_ms = wall_ms_of(self._stamp)
        if not any(view.said.wall_ms - view.said.lag_ms > due_ms for view in views):
            return
        # A new pass only when the last is over, or it would ask for the same exchanges again and again.
        if self._pass_s is None or all(map(self._passed, open_)):
            self._pass_s = self._now_s

    def _passed(self, proof: PartitionProof) -> bool:
        """Whether each pair has had its exchange in this pass, or cannot have one."""
        cluster_view, partition = self.cluster_view, proof.partition
        sides = (
            cluster_view.side(partition, *pair)
            for a, b in cluster_view.pairs(partition)
            for pair in ((a, b), (b, a))
        )
        begun_s = min((side.begun_s for side in sides if side is not None), default=0.0)
        return begun_s >= (self._pass_s or 0.0) or bool(self._causes(partition))

    def hear(self, answer: Message, members: Names, sent_s: float) -> None:
        """The answer to it. Raises the error that it stands for; InvalidRequest where the receipt is of
        another cluster."""
        receipt = self._receipt
        if receipt is not None and receipt.cluster != members.cluster:
            raise InvalidRequest(
                f"the receipt is of a write to cluster {receipt.cluster.hex()}, and this is cluster "
                f"{members.cluster.hex()}. Ask there"
            )
        super().hear(answer, members, sent_s)
        self._check_key()
        late = bool(self._seen)
        for name, view in self.cluster_view.nodes.items():
            if name not in self._seen:
                self._seen.add(name)
                if self._version is None:
                    # The lag has the drift bound in it twice, and the longest timeout: half covers it.
                    slack_ms = (view.said.lag_ms - CLOSED_MARGIN_MS) // 2 if late else 0
                    self._stamp = max(self._stamp, view.first_stamp + (slack_ms << COUNTER_BITS))

    def _check_key(self) -> None:
        """The key and the receipt must be of one partition, or they are not of one write."""
        heard, receipt = self.cluster_view.partitions, self._receipt
        if receipt is not None and heard and receipt.partition not in heard:
            raise InvalidRequest(
                f"the key is in partition {heard[0]}, and the receipt is of a write in partition "
                f"{receipt.partition}, so of another key. Leave the key out"
            )

    @property
    def progress(self) -> tuple[int, int]:
        """Partitions that are proven, and all of them."""
        proofs = [self._proof(partition) for partition in self.cluster_view.partitions]
        return sum(proof.proven for proof in proofs), self.cluster_view.total

    def result(self, now_s: float) -> Convergence | None:
        """What became of it, once it is proven, can never be, or time is up."""
        self._now_s = now_s
        if self.cluster_view.first and now_s < self._deadline:
            return None
        cluster_view = self.cluster_view
        proofs = tuple(self._proof(partition) for partition in cluster_view.partitions)
        waited_s = now_s - self._begun_s
        if cluster_view.heard and len(proofs) == cluster_view.total and all(proof.proven for proof in proofs):
            unheard = {} if self._receipt is not None else dict(cluster_view.unheard)
            return Convergence(True, self._stamp, waited_s, proofs, (), unheard)
        self._hasten([proof for proof in proofs if not proof.proven])
        obstacles = gathered(self._obstacles(proofs))
        never = cluster_view.heard and any(obstacle.kind in _FOR_EVER for obstacle in obstacles)
        if now_s < self._deadline and not never:
            return None
        return Convergence(False, self._stamp, waited_s, proofs, obstacles, dict(cluster_view.unheard))

    def _proof(self, partition: int) -> PartitionProof:
        cluster_view = self.cluster_view
        held = {
            name: view.holdings[partition]
            for name, view in cluster_view.nodes.items()
            if partition in view.holdings and view.said.state == "up"
        }
        best = max(held, key=lambda name: held[name].stable, default=None)
        stable = held[best].stable if best is not None else 0
        lag_ms = None
        if best is not None and stable:
            lag_ms = cluster_view.nodes[best].said.wall_ms - wall_ms_of(stable)
        digests = {holding.digest for holding in held.values()}
        certificates = {pair: self._age_ms(partition, *pair) for pair in cluster_view.pairs(partition)}
        # A stamp of 0 means that nothing was written, if anybody was heard: the lone member of a new cluster.
        proven = bool(held) and self._stamp <= stable and not self._uncovered(partition)
        return PartitionProof(
            partition, tuple(cluster_view.replicas(partition)), proven, stable, lag_ms,
            digests.pop() if len(digests) == 1 else None, held[best].records if best is not None else 0,
            certificates,
        )  # fmt: skip

    def _age_ms(self, partition: int, a: str, b: str) -> int | None:
        ages = [
            self.cluster_view.nodes[name].said.wall_ms - side.made_ms
            for name, other in ((a, b), (b, a))
            if (side := self.cluster_view.side(partition, name, other)) is not None and side.made_ms
        ]
        return max(0, min(ages)) if ages else None

    # --- what stands in the way --------------------------------------------------------------

    def _causes(self, partition: int) -> list[Cause]:
        """What keeps this partition from being proven, if it is not just time."""
        return self.cluster_view.absences(partition) + self._uncovered(partition)

    def _uncovered(self, partition: int) -> list[Cause]:
        """Writes that a stable stamp does not cover: no replica may hold them."""
        cluster_view, receipt = self.cluster_view, self._receipt
        if receipt is None:
            return cluster_view.lost(partition) + cluster_view.kept(partition, self._stamp)
        if cluster_view.may_lack(partition, receipt.rests_on(self._stamp)):
            return cluster_view.lost(partition) or [Cause("lost", (), GONE)]
        if receipt.applied:
            return []
        if receipt.keeper:
            return cluster_view.kept_by(receipt.keeper, partition, self._stamp)
        text = (
            "only hints of the write were kept when it was acknowledged, and a receipt does not show what "
            "became of them: `basestore explain` its key, or ask for all that was written"
        )
        return [Cause("unapplied", (), text)]

    def _obstacles(self, proofs: Sequence[PartitionProof]) -> Iterator[tuple[int | None, Cause]]:
        cluster_view = self.cluster_view
        for proof in proofs:
            if not proof.proven:
                causes = self._causes(proof.partition)
                yield from ((proof.partition, cause) for cause in causes or self._delays(proof))
        if len(proofs) < cluster_view.total:  # of the others no replica was heard
            known = {proof.partition for proof in proofs}
            partitions = range(cluster_view.total)
            # Of one that was asked for by a key, nobody has said which it is.
            lacking = [at for at in partitions if at not in known] if len(partitions) > 1 else [None]
            for cause in cluster_view.silent:
                yield from ((partition, cause) for partition in lacking)

    def _delays(self, proof: PartitionProof) -> list[Cause]:
        """Pairs whose certificate is overdue; otherwise it is only a matter of time."""
        delays: list[Cause] = []
        lag_ms = 0
        for a, b in self.cluster_view.pairs(proof.partition):
            for name, other in ((a, b), (b, a)):
                side = self.cluster_view.side(proof.partition, name, other)
                said = self.cluster_view.nodes[name].said
                lag_ms = max(lag_ms, said.lag_ms)
                overdue = said.wall_ms > wall_ms_of(self._stamp) + said.lag_ms + OVERDUE_MS
                if side is not None and side.closed < self._stamp and overdue:
                    text = f"no certificate between {a} and {b}"
                    delays.append(Cause("no certificate", (a, b), text, side.made_ms or None))
                    break
        text = f"a proof follows the writes by {lag_ms / 1e3:g} s and a few seconds more: wait longer"
        return delays or [Cause("waiting", (), text)]
