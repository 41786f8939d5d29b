"""Converged: the command that waits for the proof that all replicas hold the same, and shows it.

Owns the words and the table: which partitions are shown, and who or what stands in the way. The proof itself
is `results.convergence`, which the blocking client asks for; nothing is concluded here. `obstacle_line` is
shared with `basestore repair`.
"""

import json
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, data, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.results.cluster_view import Obstacle
    from basestore.results.convergence import Convergence, PartitionProof

_HEADER = ("PARTITION", "REPLICAS", "STABLE", "LAG", "DIGEST", "RECORDS", "CERTIFICATES", "")
_PARTITIONS_SHOWN = 8
_FURTHEST_SHOWN = 3


@command("converged")
@share("endpoint", "bucket", "output", timeout="How long to wait for the proof. [default: 30s]")
@click.option("--key", metavar="KEY", type=data, help="Only the partition that this key of the bucket is in.")
@click.option("-v", "--all", "everything", is_flag=True, help="Show all partitions.")
def converged_command(target: Target, key: bytes | None, everything: bool) -> int:
    """Wait until it is proven that all that was written by now is on all replicas, for good.

    Each partition is proven once every replica has compared what it holds with every other, and none
    takes a write as old as that any more; that follows a write by some 15 s, more if timeout_ms_max or
    drift_ms_max are raised. Buckets share all partitions, so a --bucket without a --key is all of them.

    Shown are the partitions that are not proven, or else those whose proofs are the furthest behind; -v
    shows all, and so does -o json.

    \b
    STABLE        every write up to here is on all replicas, or beaten by one that is
    LAG           how far that is behind the clock
    DIGEST        of all that the replicas hold, where they hold the same just now; different: where they
                  do not, as while they are being written to
    RECORDS       tombstones included
    CERTIFICATES  of each pair of replicas, how long ago they proved to hold the same

    Ends with 0 once it is proven, and with 4, and who or what stands in the way, when it is not.

    \b
    Example:
        basestore converged --key order/17 --bucket orders
        basestore converged --timeout 2m -o json | jq .obstacles
    """
    from basestore.results.convergence import CONVERGED_S

    with open_store(target) as store:
        found = store.converged(timeout=target.patience(CONVERGED_S), key=key, bucket=target.bucket)
    if target.json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        shown = found.partitions if everything else notable(found)
        click.echo(text.table(_HEADER, [_row(proof) for proof in shown]))
    target.remark(_verdict(found))
    for caveat in found.caveats:
        target.remark(f"  {caveat}")
    for obstacle in found.obstacles:
        target.remark(f"  {obstacle_line(obstacle)}")
    if any(obstacle.kind == "lost" and obstacle.since_ms is not None for obstacle in found.obstacles):
        target.remark(
            "Nothing of this can be proven until the loss is accepted: `basestore repair --accept-loss`"
        )
    return exits.DONE if found.proven else exits.UNKNOWN


def notable(found: "Convergence") -> "list[PartitionProof]":
    """Partitions that are not proven, if not too many; otherwise those that are the furthest behind."""
    open_ = [proof for proof in found.partitions if not proof.proven]
    if 0 < len(open_) <= _PARTITIONS_SHOWN:
        return open_
    worst = sorted(open_ or found.partitions, key=lambda proof: proof.stable)[:_FURTHEST_SHOWN]
    return sorted(worst, key=lambda proof: proof.partition)


def _row(proof: "PartitionProof") -> tuple[object, ...]:
    from basestore.results.cluster_view import wall_ms_of

    stable = text.moment(wall_ms_of(proof.stable)) if proof.stable else "-"
    lag = "-" if proof.lag_ms is None else f"{proof.lag_ms / 1e3:.0f}s"
    digest = "different" if proof.digest is None else proof.digest.hex() if any(proof.digest) else "empty"
    certificates = " ".join(
        f"{a}-{b} {'none' if age is None else text.age(age)}" for (a, b), age in proof.certificates.items()
    )
    replicas = " ".join(proof.replicas)
    note = "" if proof.proven else "not proven"
    return (proof.partition, replicas, stable, lag, digest, proof.count, certificates, note)


def _verdict(found: "Convergence") -> str:
    moment = text.moment(found.stamp_ms)
    if found.proven and not found.stamp:
        return "converged: nothing has been written yet"
    if found.proven:
        which = f"{len(found.partitions)} partitions" if len(found.partitions) > 1 else "this partition"
        return f"converged: all that was written up to {moment} is on all replicas of {which}, for good"
    open_ = sum(not proof.proven for proof in found.partitions)
    partitions = text.counted(len(found.partitions), "partition")
    return f"not proven after {found.waited_s:.1f} s, for {open_} of {partitions}:"


def obstacle_line(obstacle: "Obstacle") -> str:
    """What stands in the way, on one line."""
    line = obstacle.text
    if obstacle.kind == "no certificate":
        since = obstacle.since_ms
        line += " yet" if since is None else f" since {text.moment(since)}"
    elif obstacle.kind == "lost" and obstacle.since_ms is not None:
        line += f", of those up to {text.moment(obstacle.since_ms)}"
    elif obstacle.since_ms is not None:
        line += f" since {text.moment(obstacle.since_ms)}"
    count = len(obstacle.partitions)
    if count > _PARTITIONS_SHOWN:
        return f"{line} ({count} partitions)"
    return (
        f"{line} (partition{'s' * (count > 1)} {', '.join(map(str, obstacle.partitions))})" if count else line
    )
