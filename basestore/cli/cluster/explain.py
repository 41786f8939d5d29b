"""Explain: the command that shows why a key has the value it has, replica by replica.

Owns the words and the table. What the answers of the members mean (which record wins, what readers are shown,
what will mend the rest) is worked out in `results.weighing`. It changes nothing, and repairs nothing.
"""

import json
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, data, share
from basestore.cli.stores import open_store
from basestore.consistency import Level
from basestore.intake.brownout import left_out_at

if TYPE_CHECKING:
    from basestore.repair.version import Version
    from basestore.results.explanation import AcceptorView, Explanation, HintView, Mend, ReplicaView

_HEADER = ("REPLICA", "STATE", "VERSION", "WRITTEN", "AGE", "BY", "DIGEST", "")
_ACCEPTORS = ("ACCEPTOR", "STORE", "PART", "PROMISED", "ACCEPTED", "FOR", "ITS WRITE", "LEARNED")
_ROLES = {
    "acceptor": "counts",
    "barred": "not taken in yet",
    "unbound": "not bound yet",
    "memory": "keeps nothing",
}
_STORE_DIGITS = 8
_LATE = (
    "`basestore hints replay --late` has what came too late decided: written anew, or dropped if it is beaten"
)
_DIGEST_DIGITS = 8  # enough to tell two apart; -o json has all


@command("explain")
@share("endpoint", "bucket", "timeout", "output")
@click.argument("key", type=data)
def explain_command(target: Target, key: bytes) -> int:
    """Show why KEY has the value it has.

    What each replica holds, which version wins and by which line of the rule, what a reader is shown
    at each level, which hints are on their way, and what will mend the replicas that are behind; and how
    this very request fared at the node that was asked: its class, how long it waited to be begun, how many
    its connection may have under way, and what a busy node leaves out. Nothing is repaired, nothing changes.

    \b
    value, tombstone, expired, absent  what a replica holds whose word counts
    intent      likewise: of a transaction, which is settled in a moment, or by whoever reads the key
    damaged     its record fails its digest; it is healed from the others
    forgetful   its store may have lost data and recovers; what it holds is shown, and does not count
    starting    its store is not yet known to be whole
    down        it did not answer

    Of a register it shows, too, what each replica is as an acceptor, on which store: the ballot below which
    it takes none, what it has accepted and not learned, for how long, and under which ballot it has
    learned what it holds. The winner is what is known to be chosen. Versions are those by which users know
    a write; the ballot under which it was agreed on may be a later one. A ballot may be drawn some time
    before it is written under, with the write before.

    \b
    counts            it is an acceptor: a quorum of them agrees on each write
    not taken in yet  its store was lost; it counts again once it has what the others had accepted
    not bound yet     the metadata group has not noted its store yet
    keeps nothing     its durability is memory

    \b
    Example:
        basestore explain greeting
        basestore explain order/17 -o json | jq '.winner, .reason'

    Ends with 1 when no replica holds the key, and with 3 when too few could say what they hold.
    """
    with open_store(target) as store:
        explanation = store.explain(key, bucket=target.bucket)
    click.echo(json.dumps(explanation.as_json(), indent=2) if target.json else in_words(explanation))
    if explanation.winner is not None:
        return exits.DONE
    if explanation.reads.get(Level.QUORUM) is not None:
        if explanation.pending is None:
            target.remark("No replica that answers holds this key. Check the key and --bucket.")
        return exits.NOT_FOUND
    few = "No replica answers" if not explanation.known else "Too few replicas answer, of which none holds it"
    target.remark(f"{few}: others may hold this key. Start the missing nodes (see `basestore status`).")
    return exits.REFUSED


_DEFERRED = (
    "{} kept the write for later, for it had too much to do, or a limit was in the way (basestore status); "
    "it is delivered as soon as there is time for it (basestore hints)"
)
_LOST = (
    "writes of its partition up to {} may be lost, this key's among them: too few sources were left to "
    "recover from (basestore repair --accept-loss)"
)


def in_words(told: "Explanation") -> str:
    """All of it, for people."""
    rows = [_row(told, name, view) for name, view in told.replicas.items()]
    lines = [
        f"{text.printable(told.key)} in bucket {text.printable(told.bucket.encode())}, {told.rule}, "
        f"at {text.moment(told.asked_ms)}",
        "",
        text.table(_HEADER, rows),
        "",
        *_acceptors(told),
        f"winner     {told.known_as or told.winner or 'none'}: {told.reason}",
    ]
    if told.pending is not None:
        lines.append(f"{'pending':<10} {told.pending}")
    lines += [f"{'at ' + level:<10} {_reading(told, found)}" for level, found in _reads(told).items()]
    lines += _settled(told)
    if told.lost:
        lines.append(f"{'lost':<10} {_LOST.format(_moment(told.lost))}")
    lines += [f"{'hint':<10} {_hint(told, hint)}" for hint in told.hints]
    if any(hint.deferred for hint in told.hints):
        at = text.listed(sorted({hint.at for hint in told.hints if hint.deferred}))
        lines.append(f"{'deferred':<10} {_DEFERRED.format(at)}")
    lines += [f"{'mending':<10} {_mend(mend, told)}" for mend in told.mends]
    if any(hint.late for hint in told.hints):
        lines.append(f"{'late':<10} {_LATE}")
    lines += [
        f"{'unheard':<10} {name}: {why}; hints that it may keep are not shown"
        for name, why in told.unheard.items()
    ]
    lines.append(f"{'request':<10} {_fared(told)}")
    return "\n".join(lines)


def _acceptors(told: "Explanation") -> list[str]:
    """Of a register, a line for each replica that has said what it is to the row."""
    rows = [
        _acceptor_row(name, view.acceptor)
        for name, view in told.replicas.items()
        if view.acceptor is not None
    ]
    return [text.table(_ACCEPTORS, rows), ""] if rows else []


def _acceptor_row(name: str, view: "AcceptorView") -> tuple[object, ...]:
    waits = "-"
    if view.accepted is not None:
        waits = "this start" if view.accepted_ms is None else text.age(view.accepted_ms)
    return (
        name, view.store.hex()[:_STORE_DIGITS], _ROLES[view.role], view.promised or "-", view.accepted or "-",
        waits, view.accepted_as or "-", view.learned or "-",
    )  # fmt: skip


def _settled(told: "Explanation") -> list[str]:
    """Whether the winner is settled; and why a tombstone is still there."""
    winner = told.winner
    if winner is None:
        return []
    stable = f"proven up to {_moment(told.stable)}" if told.stable else "nothing is proven yet"
    held = [
        f"{name} (no proof yet)"
        if not min(told.reach[name])
        else f"{name} (proven up to {_moment(min(told.reach[name]))})"
        for name in told.held_back_by
    ]
    waits = f"held back by {', '.join(held)}" if held else "a proof follows a write by some seconds"
    if told.settled:
        lines = [f"{'settled':<10} all replicas hold this version or a better one, for good ({stable})"]
    else:
        lines = [f"{'settled':<10} not yet: {stable}; {waits}"]
    if any(view.tombstone and view.version == winner for view in told.replicas.values()):
        why = "every replica has it, and purges it soon" if told.settled else "it is kept until all have it"
        lines.append(f"{'tombstone':<10} {why}")
    return lines


def _moment(stamp: int) -> str:
    from basestore.results.cluster_view import wall_ms_of

    return text.moment(wall_ms_of(stamp))


def _row(told: "Explanation", name: str, view: "ReplicaView") -> tuple[object, ...]:
    version, digest = view.version, view.digest
    if view.acceptor is not None:
        version = view.acceptor.learned_as
    if version is None or digest is None:
        return (name, view.state, "-", "-", "-", "-", "-", view.reason)
    notes = []
    if view.state in ("forgetful", "starting"):
        notes.append("does not count")
    elif view.version == told.winner:
        notes.append("wins")
    if view.expires_ms is not None:
        when = "expired" if view.expires_ms <= told.asked_ms else "expires"
        notes.append(f"{when} {text.moment(view.expires_ms)}")
    written_ms = version.wall_ms
    return (
        name, view.state, version, text.moment(written_ms), text.age(told.asked_ms - written_ms),
        _author(told, version), digest.hex()[:_DIGEST_DIGITS], ", ".join(notes),
    )  # fmt: skip


def _author(told: "Explanation", version: "Version") -> str:
    """The node that stamped it."""
    from basestore.repair.version import member_of

    return told.members.get(member_of(version.origin), "?")


def _reads(told: "Explanation") -> "dict[str, tuple[Version | None, ...] | None]":
    """What is shown, by level: of a register all reads but those at one are serial."""
    reads = {level.name.lower(): found for level, found in told.reads.items()}
    if any(view.acceptor is not None for view in told.replicas.values()):
        return {"one": reads["one"], "serial": reads["quorum"]}
    return reads


def _reading(told: "Explanation", found: "tuple[Version | None, ...] | None") -> str:
    if found is None:
        return "unavailable: too few replicas answer"
    shown = " or ".join(_shown(told, version) for version in found)
    return shown if len(found) == 1 else f"{shown}, depending on which replicas answer first"


def _shown(told: "Explanation", version: "Version | None") -> str:
    holders = [
        name
        for name, view in told.replicas.items()
        if view.version == version and view.state in ("value", "tombstone", "expired", "absent", "intent")
    ]
    if not holders:
        return f"what is accepted on {text.listed(_accepted(told, version))}"
    state = told.replicas[holders[0]].state
    what = {"value": "the value", "tombstone": "nothing, by the tombstone", "expired": "nothing, expired"}
    what["intent"] = "what a transaction makes of it, or what was there before"
    return f"{what.get(state, 'nothing, as')} on {text.listed(holders)}"


def _accepted(told: "Explanation", version: "Version | None") -> list[str]:
    """Those that have accepted it, under the ballot with which it begins."""
    views = {name: view.acceptor for name, view in told.replicas.items()}
    return [
        name
        for name, view in views.items()
        if view and view.accepted and str(version).startswith(view.accepted)
    ]


def _hint(told: "Explanation", hint: "HintView") -> str:
    what = "a tombstone, " if hint.tombstone else ""
    only = ", the only copy" if hint.only_copy else ""
    late = ", too late to be delivered" if hint.late else ""
    wins = ", which beats what the replicas hold" if hint.wins else ""
    age = text.age(told.asked_ms - hint.version.wall_ms)
    return f"at {hint.at} for {hint.target}: {what}{hint.version}, {age} old{only}{late}{wins}"


def _fared(told: "Explanation") -> str:
    """How this very request fared where it was asked, and what was left out because of a brownout."""
    kind, waited_ms, window, brownout = ("?" if each is None else each for each in told.fared)
    fared = f"class {kind}, waited {waited_ms} ms; window {window}; brownout {brownout}"
    left_out = text.listed(left_out_at(told.fared.brownout or 0))
    return f"{fared}: the node leaves out {left_out}" if left_out else fared


def _mend(mend: "Mend", told: "Explanation") -> str:
    """What is going to happen to one replica."""
    if mend.by == "hint":
        once = " once it is up" if told.replicas[mend.node].state == "down" else ""
        return f"{mend.node}: gets the hint kept at {text.listed(mend.at)}{once}"
    if mend.by in ("quorum read", "exchange") and told.replicas[mend.node].state == "down":
        return f"{mend.node}: what it lacks once it is up the next exchange of anti-entropy brings"
    return {
        "quorum read": f"{mend.node}: the next exchange of anti-entropy brings it, or a read at quorum",
        "exchange": f"{mend.node}: the next exchange of anti-entropy brings it",
        "finishing": f"{mend.node}: finishes what it has accepted by itself, or the next serial read does",
        "taking in": f"{mend.node}: is taken in as an acceptor once it has what the others had accepted",
        "binding": f"{mend.node}: is no acceptor before the metadata group has noted its store",
        "healing": f"{mend.node}: its damaged record is healed from the other replicas",
        "recovery": f"{mend.node}: recovers from the other replicas what it may have lost",
        "introduction": f"{mend.node}: counts once the other nodes have said what they know of its store",
    }[mend.by]
