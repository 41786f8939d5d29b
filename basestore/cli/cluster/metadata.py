"""Metadata: how the metadata group is shown under `basestore status` and `top`: one line of the cluster, and
what is to be noted of single nodes. Pure.

Of what nodes say, the leader's word counts most, then that of a node that hears one. Who says nothing of the
group is named as unknown.
"""

from collections.abc import Sequence
from typing import Final

from basestore.cli import text
from basestore.results.metadata import Metadata
from basestore.results.nodes import NodeState

_REFUSED: Final = "data are served, changes of what the cluster is are refused"
_PARTS: Final = {"learner": "learning to vote", "follower": "following only", "none": "in no group yet"}


def _best(states: Sequence[NodeState]) -> Metadata | None:
    """The view that counts most."""
    told = [each for state in states if (each := state.metadata) is not None]

    def weight(each: Metadata) -> tuple[bool, bool, int, int]:
        decided = -1 if each.decided is None else each.decided
        return each.leader is not None, each.role == "leader", each.term, decided

    return max(told, key=weight, default=None)


def _decided(states: Sequence[NodeState]) -> int | None:
    """The latest epoch that any of them knows to be decided."""
    told = [each.decided for state in states if (each := state.metadata) and each.decided is not None]
    return max(told, default=None)


def summary(states: Sequence[NodeState]) -> str:
    """One line of the cluster; empty where no node answers."""
    up = [state for state in states if state.state != "down"]
    if not up:
        return ""
    unknown = [state.node for state in up if state.metadata is None]
    view = _best(up)
    if view is None:
        return "metadata group: unknown, for no node that answers says anything of it"
    parts = []
    if view.role == "none":
        parts.append(view.waits)
    elif view.leader is None:
        since = "" if view.no_leader_since_ms is None else f" since {text.moment(view.no_leader_since_ms)}"
        parts += [f"no leader is known{since}: {_REFUSED}", f"term {view.term}"]
    else:
        parts.append(f"{view.leader} leads term {view.term}")
    if (decided := _decided(up)) is not None:
        using = [state.node for state in up if (told := state.metadata) and told.epoch == decided]
        parts.append(f"epoch {decided}, in use on {text.listed(using) or 'none that answers'}")
    if view.voters:
        parts.append(f"voters {text.listed(view.voters)}")
    for role, words in _PARTS.items():
        names = [state.node for state in up if (told := state.metadata) and told.role == role]
        if names and view.role != "none":
            parts.append(f"{words}: {text.listed(names)}")
    if unknown:
        parts.append(f"unknown of {text.listed(unknown)}, where nothing is said of it")
    return f"metadata group: {'; '.join(parts)}"


def stranded(states: Sequence[NodeState]) -> list[str]:
    """A line for each member that is to leave, and holds what nobody else is to hold."""
    view = _best(states)
    return [text.stranded(name, *of) for name, of in (view.stranded if view is not None else {}).items()]


def notes(state: NodeState, states: Sequence[NodeState]) -> list[str]:
    """What is to be said of one node."""
    told, view, said = state.metadata, _best(states), []
    if view is None:
        return []
    decided = _decided(states)
    if told is not None and decided is not None and (told.epoch is None or told.epoch < decided):
        seen = view.behind.get(state.node) or told.behind.get(state.node)
        since = f" since {text.moment(seen.since_ms)}" if seen is not None else ""
        if told.epoch is None:
            said.append(f"uses no epoch of the metadata group yet, {decided} is decided{since}")
        else:
            lacks = text.counted(decided - told.epoch, "entry").replace("entrys", "entries")
            said.append(f"uses epoch {told.epoch}, {lacks} behind{since}")
    if (heard_ms := view.silent.get(state.node)) is not None:
        said.append(f"a voter that {view.leader} has not heard since {text.moment(heard_ms)}")
    if state.node in view.untaken:
        said.append(
            "a voter on another store than before, not taken in yet: restart no other node before that"
        )
    if told is not None and told.role != "none" and told.leader is None and view.leader is not None:
        said.append(f"knows of no leader of the metadata group: changes are refused through {state.node}")
    return said
