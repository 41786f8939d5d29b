"""Rebuilding: a metadata group whose majority is lost for good is put in place anew, while no node runs on
the store.

    rebuild   on one node, that with the latest epoch: a new group, of which its store is the only voter, goes
              on from what this store knows to be decided
    follow    on each other node that is left: it may take up the log of a group that names its own as one
              whose place it took (`lineage.py`)

What other voters had decided and this store has not heard of is lost by it; and should the old group have a
majority after all, two logs go on, each with some of the nodes. So only an operator may say it. The links of
those that follow different groups are refused, by name.

The lost entries may have been in use on other nodes. So that nothing new is taken for what they made, epochs
and numbers of buckets are skipped, more of them than entries can be lost; and by chance, for two nodes may be
rebuilt by mistake, and one of them then follow the other (etcd skips revisions in a snapshot that is restored
for the same reason):

    epoch 40        is all that this store knows; on n2 epoch 41 is in use: bucket "orders", number 9
    epoch 1300043   the new group begins; the next bucket is number 1300012, and what n2 holds of number 9
                    is of a bucket that is no more: it is purged

Should the store have to start over at its next opening, for it was moved, or restored, it votes in the new
group all the same: nothing was promised there yet.
"""

from dataclasses import replace
from typing import Final

from basestore.config import NodeConfig
from basestore.consensus.log import Snapshot
from basestore.consensus.voters import Voter
from basestore.errors import ConfigurationError, StorageBusy
from basestore.membership.group_log import Allegiance, GroupLog, open_log
from basestore.protocol.membership import GROUP_BYTES
from basestore.replica.group_commit import GroupCommit
from basestore.storage.engine import Engine
from basestore.topology.changes import STORE_BYTES

FORMERS_MAX: Final = 64
SKIPPED_MIN: Final = 1_000_000
UNKNOWN_STORE: Final = bytes(STORE_BYTES)  # of nobody
_NO_GROUP: Final = (
    "the store follows no metadata group yet, so none can be lost: start the node. The group is founded by "
    "itself, once all members of the file are heard and speak version 10 of the wire; until then nothing but "
    "changes of what the cluster is has to wait. Nothing was changed"
)


def rebuild(engine: Engine, config: NodeConfig, group: bytes, skipped: int) -> str:
    """Put the group with this new id in the old one's place; says what became of it, once that is durable.
    `skipped`: so many epochs, SKIPPED_MIN at least, drawn by chance. ConfigurationError for a store without
    a group, or of another node; StorageError."""
    log, held = _open(engine, config)
    stored, topology = log.stored, log.topology
    assert stored is not None
    assert topology is not None
    term, epoch = stored.term + 1, topology.epoch + skipped
    me = Voter(config.member.number, held.voter)
    # A member may have been bound by what is lost, and have come to another store since: so whichever it is
    # bound to next, it is barred.
    members = tuple(e if e.store else e._replace(store=UNKNOWN_STORE) for e in topology.members)
    # Dropped at this epoch are all buckets that only the old group knew: they are looked for by this.
    begun = replace(
        topology, epoch=epoch, founded=True, last_bucket=topology.last_bucket + skipped, dropped_since=epoch,
        members=members,
    )  # fmt: skip
    log.stage_base(Snapshot(epoch, term, frozenset((me,)), begun.encode()))
    log.drop_behind(epoch)
    formers = (held.formers + held.group)[-FORMERS_MAX * GROUP_BYTES :]
    log.stage(term, None, held._replace(group=group, formers=formers, store=b"", used=epoch, follows=False))
    _store(log, engine)
    return (
        f"the metadata group {held.group.hex()[:8]}, known here up to epoch {topology.epoch}, was replaced "
        f"by {group.hex()[:8]}, of which {config.name} is the only voter, from epoch {epoch} on. Start this "
        f"node. On each other node that is left stop it, run `basestore node rebuild-group --config FILE "
        f"--follow`, and start it"
    )


def follow(engine: Engine, config: NodeConfig) -> str:
    """Let the store go over to the group that has taken its own one's place; says so, once that is durable.
    Errors as of `rebuild`."""
    log, held = _open(engine, config)
    stored = log.stored
    assert stored is not None
    log.stage(stored.term, stored.vote, held._replace(follows=True))
    _store(log, engine)
    return (
        f"{config.name} goes over to the group that took the place of {held.group.hex()[:8]}, as soon as it "
        f"is linked with a node of that. Start it"
    )


def _open(engine: Engine, config: NodeConfig) -> tuple[GroupLog, Allegiance]:
    """The log as the store has it, and whose it is."""
    log = open_log(GroupCommit(engine, b"", waits=True), config)[0]
    if log.stored is None or log.topology is None:
        raise ConfigurationError(_NO_GROUP)
    return log, log.allegiance


def _store(log: GroupLog, engine: Engine) -> None:
    commit = log.group_commit
    commit.commit()
    if commit.stalled:
        raise StorageBusy(
            f"the store takes no writes: {commit.trouble}. Nothing was changed: see to that, and repeat this"
        )
    engine.sync()
