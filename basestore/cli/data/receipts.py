"""Receipts: how what became of a write is told, in words or as JSON, and what can be done next.

A write that does not stand ends with a code of its own: nothing failed, and what it says is what a script
goes on from.
"""

import json
import shlex
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target

if TYPE_CHECKING:
    from basestore.results.receipts import Receipt

VALUE_SHOWN = 60  # characters


def show_receipt(target: Target, key: bytes, receipt: "Receipt", done: str) -> int:
    """Print it; returns the exit code."""
    click.echo(json.dumps(receipt.as_json()) if target.json else receipt_line(receipt, done))
    if receipt:
        return exits.DONE
    if _of_register(receipt):
        target.remark(_next_step(key, target.bucket, receipt))
    else:
        target.remark("This write does not stand: get the key to see what it holds now.")
    return exits.BEATEN


def receipt_line(receipt: "Receipt", done: str) -> str:
    from basestore.consistency import Outcome

    if receipt.outcome is Outcome.SUPERSEDED:
        return f"superseded  a newer write won: version {receipt.superseded_by}"
    if receipt.outcome is Outcome.LOST and _of_register(receipt):
        return _lost_line(receipt)
    if receipt.outcome is Outcome.LOST:
        how = " for good" if receipt.final else ""
        return f"lost  an earlier write holds the key{how}: version {receipt.superseded_by}"
    how = {None: "", True: " for good", False: " provisionally"}[receipt.final]
    known = ", ".join(f"{name} {state.name.lower()}" for name, state in receipt.replicas.items())
    which = f"version {receipt.version}  ({known})" if known else f"version {receipt.version}"
    if receipt.outcome is Outcome.DEFERRED:
        why = text.printable(receipt.because.encode()) or "is overloaded"
        what = f"deferred  the node {why}, and keeps it to deliver later"
        return f"{what}  {which}"
    if not receipt.applied:  # at any
        return f"kept as a hint{how}  no replica has it yet  {which}"
    required = text.counted(receipt.required, "replica")
    return (
        f"{done}{how}  {receipt.acknowledged} of {required} required by {receipt.level.name.lower()}  {which}"
    )


def _of_register(receipt: "Receipt") -> bool:
    """Whether it is of one."""
    from basestore.consistency import Level

    return receipt.level is Level.SERIAL


def _lost_line(receipt: "Receipt") -> str:
    """What the key holds instead."""
    if receipt.value is None:
        return "lost  the key holds nothing"
    value = text.printable(receipt.value)
    if len(value) > VALUE_SHOWN:
        value = f"{value[:VALUE_SHOWN]}..."
    whose = "another write" if receipt.final is None else "an earlier write"
    how = " for good" if receipt.final else ""
    return f"lost  {whose} holds the key{how}: version {receipt.superseded_by}, value {value}"


def how_to_get(key: bytes, bucket: str) -> str:
    """What shows the key."""
    return f"basestore get {shlex.quote(text.printable(key))} --bucket {shlex.quote(bucket)}"


def _next_step(key: bytes, bucket: str, receipt: "Receipt") -> str:
    """What can be done then."""
    if receipt.final:
        return "Nothing was written: what was written first stays. Write under another key."
    get = f"{how_to_get(key, bucket)} -o json"
    if receipt.value is None:
        return f"Nothing was done. To write there nevertheless: --if-absent, if `{get}` still finds nothing."
    return f"Nothing was done. `{get}` shows what the key holds now: compare with that (--if-version)."
