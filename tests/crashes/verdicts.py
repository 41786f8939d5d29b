"""Verdicts: what an opening may come to, held against what had been promised.

After an honest power cut a store must open, and be exactly the first so many batches: all that were
acknowledged, perhaps some that were handed over since, each whole, none without those before it; and its
summaries are those of its records. It may say that it is forgetful, for its log was torn where nothing was
promised yet; only then may one of those batches be missing before another (two logs do not wait for each
other).

One honest state is refused: a manifest that misses a sector in the middle of a change that was not
synced. RocksDB knows a manifest that ends early, but takes this for damage. It is counted apart.

A disk that lied about its tables or its manifest while newer logs were kept can leave batches missing
in the middle, and nothing in the files shows it: not caught, and counted apart, as whole with a gap.

A store whose disk lied, or whose bits were flipped, may be refused by name instead, or hold fewer
batches if it says so. What it serves must be true all the same.
"""

import re
from typing import NamedTuple

from tests.crashes.history import History, Promises
from tests.crashes.opener import Found

WHOLE = "whole"
FORGETFUL = "forgetful"
REFUSED = "refused"
ENDED = "crashed or hung"
GAP = "whole, with a gap"
UNREADABLE = "refused: torn manifest"
_NAMELESS = "properties unsorted"  # RocksDB's word for a table's damaged list of properties: not which table
_TORN_MANIFEST = re.compile(r"checksum mismatch.*/MANIFEST-\d+ may be corrupted", re.DOTALL)


class Verdict(NamedTuple):
    """What the opening came to, and what is wrong with that, a line each. `behind`: how many promised
    batches it lacks."""

    outcome: str
    behind: int
    complaints: list[str]


def outcome(found: Found) -> str:
    """In a word."""
    if found.ended:
        return ENDED
    if found.refused:
        return REFUSED
    return FORGETFUL if found.loss or found.state == "forgetful" else WHOLE


def judge_honest(found: Found, history: History, promises: Promises, *, torn: bool = False) -> Verdict:
    """A disk that kept its promises. `torn`: it may have lost single sectors of what was not synced."""
    word = outcome(found)
    if torn and word == REFUSED and _TORN_MANIFEST.search(found.refused):
        return Verdict(UNREADABLE, 0, [])
    if word in (ENDED, REFUSED):
        return Verdict(word, 0, [f"it does not open: {found.refused or found.ended}"])
    complaints = _order(found, history, promises)
    if found.sequence < promises.acknowledged:
        complaints.append(f"batch {promises.acknowledged} was acknowledged, it holds {found.sequence}")
    elif complaints and word == FORGETFUL:
        known = history.with_gap(promises.acknowledged, found.sequence)
        complaints = [] if found.number in map(str, known) else complaints
    complaints += untrue(found, history, promises.told)
    complaints += found.unfit if word == WHOLE else []
    return Verdict(word, max(0, promises.acknowledged - found.sequence), complaints)


def judge_lying(found: Found, history: History, promises: Promises) -> Verdict:
    """A disk that did not keep them: what is held must be true, but may be old, and may have gaps."""
    word = outcome(found)
    if word == ENDED:
        return Verdict(word, 0, [found.ended])
    if word == REFUSED:
        return Verdict(word, 0, unnamed(found))
    complaints = untrue(found, history, frozenset())
    if found.sequence > promises.handed:
        complaints += _order(found, history, promises)
    elif word == WHOLE and _order(found, history, promises):
        word = GAP
    return Verdict(word, max(0, promises.acknowledged - found.sequence), complaints)


def _order(found: Found, history: History, promises: Promises) -> list[str]:
    """Whether it is the first so many batches, and no more than there were."""
    if found.sequence > promises.handed:
        return [f"it holds batch {found.sequence}, and only {promises.handed} were ever handed over"]
    if str(history.after[found.sequence]) != found.number:
        return [f"it says that it holds batch {found.sequence}, and is not the store after that batch"]
    return []


def judge_flipped(found: Found, history: History, sequence: int, name: str) -> Verdict:
    """One bit was flipped in this file of a store that held every batch up to `sequence`, all synced.
    A damaged CURRENT names another file, so the error can only name that one."""
    word = outcome(found)
    if word == ENDED:
        return Verdict(word, 0, [found.ended])
    if word == REFUSED:
        complaints = unnamed(found, "" if name == "CURRENT" else name)
    elif word == WHOLE and not found.damaged:
        same = found.sequence == sequence and str(history.after[sequence]) == found.number
        complaints = [] if same else [f"it holds batch {found.sequence} of {sequence} and says nothing"]
    else:
        complaints = []
    complaints += untrue(found, history, history.told if word == WHOLE else frozenset())
    return Verdict(word, max(0, sequence - found.sequence), complaints)


def untrue(found: Found, history: History, told: frozenset[int]) -> list[str]:
    """What the door shows and must not."""
    complaints = []
    for key, shown in found.served.items():
        if shown not in history.may_show(key.encode(), told):
            complaints.append(f"{key} is served as {shown}")
        broken = found.refused or found.damaged  # ranges then end at what is broken
        listed = found.listed.get(key, shown if broken else "absent")
        if listed != shown:
            complaints.append(f"{key} is {shown} by itself and {listed} in a range")
    complaints += [
        f"{key} was never asked for" for key in found.listed if key.encode() not in history.requests
    ]
    return complaints


def unnamed(found: Found, name: str = "") -> list[str]:
    """Whether a refusal tells which store, and, where it is known, which file of it."""
    store = "the store /" in found.refused or "the store in /" in found.refused
    known = name.endswith(".sst") and _NAMELESS in found.refused
    return [] if store and (known or name in found.refused) else [f"a refusal names nothing: {found.refused}"]
