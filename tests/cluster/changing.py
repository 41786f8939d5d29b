"""Changes of what a cluster is, one after the other at each node, and the ledger of what became of them.

Whoever asks for a change draws an identity for it, and asks again under the same one until it is known what
became of it, for an answer may be lost with a leader, or with the node that was asked. So the log must hold
each change that was acknowledged at the epoch that was told, and do it once.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from basestore import sync
from basestore.errors import NoLeader, RequestFailed, Unreachable
from basestore.repair.version import PROPOSAL_BYTES, Identity
from basestore.results.topology import HISTORY_MAX, Decided
from tests.cluster.processes import NodeProcess
from tests.cluster.working import Working
from tests.worlds.patience import eventually

TIMEOUT_S = 1.0
REST_S = 0.05  # between two of a node: the log is not to be cut while it is compared
NOTHING_DONE = ": refused", ": said again"

Ask = Callable[[sync.SyncStore, Identity], Decided]


@dataclass
class Ledger:
    """What was acknowledged, by the words in which the history says it, and under which identity; how many
    attempts ended with which error."""

    decided: dict[str, Decided] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    def repeat(self, node: NodeProcess) -> None:
        """Ask again for the last setting and the last bucket that were decided: both are, and not anew."""
        for kind in ("set setting", "create bucket"):
            words = next(each for each in reversed(self.decided) if each.startswith(kind))
            said = re.findall("'(.*?)'", words)
            with node.store() as store:
                ask = store.set_setting if kind == "set setting" else store.create_bucket
                assert ask(*said, repeat=self.identities[words]) == self.decided[words]

    def complaints(self, node: NodeProcess) -> list[str]:
        """What is wrong with the log that a node keeps."""
        with node.store() as store:
            history, topology = store.topology_history(limit=HISTORY_MAX), store.topology("stale")
        assert history.first == 1, "the log was cut: too much was changed for this to be judged"
        done = [each for each in history.entries if not any(sign in each.text for sign in NOTHING_DONE)]
        found = []
        for words, decided in self.decided.items():
            epochs = [each.epoch for each in done if each.text.startswith(f"{words}, ")]
            if epochs != [decided.epoch]:
                found.append(
                    f"{node.name}: {words} was decided at epoch {decided.epoch}, and stands at {epochs}"
                )
        dropped = {words.removeprefix("drop ") for words in self.decided if words.startswith("drop ")}
        created = {words.removeprefix("create ") for words in self.decided if words.startswith("create ")}
        there = {f"bucket {each.name!r}" for each in topology.buckets}
        found += [f"{node.name}: there is {each}" for each in sorted(there & dropped)]
        return found + [f"{node.name}: there is no {each}" for each in sorted(created - dropped - there)]


class Changing(Working):
    """A thread for each of these nodes, for the length of a `with` block. Each creates buckets that nobody
    else names, drops every other one, and says in a setting how many there were."""

    def __init__(self, nodes: Sequence[NodeProcess], name: str = "b") -> None:
        super().__init__()
        self.ledger = Ledger()
        self._name = name
        endpoints = [node.endpoint for node in nodes]
        self._begin([
            partial(self._change_on, place, [*endpoints[place:], *endpoints[:place]])
            for place in range(len(endpoints))
        ])  # fmt: skip

    def wait_for(self, changes: int) -> None:
        """Until so many more have been decided."""
        goal = len(self.ledger.decided) + changes
        eventually(lambda: len(self.ledger.decided) >= goal or self._failures, f"{changes} more changes")

    def _change_on(self, place: int, endpoints: list[str]) -> None:
        number = 0
        while not self._stop.wait(REST_S):
            number += 1
            self._round(endpoints, f"{self._name}{place}-{number}", drops=number % 2 == 0)

    def _round(self, endpoints: list[str], name: str, *, drops: bool) -> None:
        counts, number = name.rsplit("-")
        self._change(
            endpoints, f"create bucket {name!r}", lambda store, each: store.create_bucket(name, repeat=each)
        )
        self._change(
            endpoints, f"set setting {counts!r} to {number!r}",
            lambda store, each: store.set_setting(counts, number, repeat=each),
        )  # fmt: skip
        if drops:
            self._change(
                endpoints, f"drop bucket {name!r}", lambda store, each: store.drop_bucket(name, repeat=each)
            )

    def _change(self, endpoints: list[str], words: str, ask: Ask) -> None:
        """Ask until it is known; the next node whenever one does not answer."""
        identity = Identity(os.urandom(PROPOSAL_BYTES))
        while True:
            try:
                with sync.connect(endpoints, timeout=TIMEOUT_S) as store:
                    decided = ask(store, identity)
            except (RequestFailed, Unreachable) as error:
                self._note(error)
                endpoints.append(endpoints.pop(0))
                if self._stop.wait(REST_S) and isinstance(error, NoLeader | Unreachable):
                    return  # whether an attempt before has done it is not asked any more
                continue
            self.ledger.identities[words], self.ledger.decided[words] = identity, decided
            return

    def _note(self, error: RequestFailed | Unreachable) -> None:
        with self._lock:
            self.ledger.errors[re.sub(r"[:,;].*", "", f"{type(error).__name__}: {error}")] += 1
