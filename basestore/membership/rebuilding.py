"""Rebuilding: a metadata group whose majority is lost for good is put in place anew, while no node runs on
the store.

    rebuild   on one node, that with the latest epoch: a new group, of which its store is the only voter, goes
              on from what this store knows to be decided
    follow    on each other node that is left: it may take up the log of a group that names its own as one
              whose place it took

What other voters had decided and this store has not heard of is lost by it; and should the old group have a
majority after all, two logs go on, each with some of the nodes. So only an operator may say it. Data are not
touched. The links of those that follow different groups are refused, by name.
"""

from dataclasses import replace

from basestore.config import NodeConfig
from basestore.consensus.log import Snapshot
from basestore.consensus.voters import Voter
from basestore.errors import ConfigurationError, StorageBusy
from basestore.membership.group_log import Allegiance, GroupLog
from basestore.protocol.membership import GROUP_BYTES
from basestore.replica.group_commit import GroupCommit
from basestore.storage.engine import Engine

FORMERS_MAX = 64
_NO_GROUP = (
    "the store follows no metadata group yet, so none can be lost: start the node. The group is founded by "
    "itself, once all members of the file are heard and speak version 10 of the wire"
)


def known(engine: Engine, config: NodeConfig) -> tuple[GroupLog, Allegiance]:
    """The log as the store has it, and whose it is; ConfigurationError where it has none."""
    log = GroupLog(GroupCommit(engine, b"", waits=True))
    if log.stored is None or log.topology is None:
        raise ConfigurationError(_NO_GROUP)
    return log, log.allegiance


def rebuild(engine: Engine, config: NodeConfig, group: bytes) -> str:
    """Put the group with this new id in the old one's place; says what became of it. The engine is synced."""
    log, held = known(engine, config)
    stored, topology = log.stored, log.topology
    assert stored is not None
    assert topology is not None
    term, epoch = stored.term + 1, topology.epoch + 1
    me = Voter(config.member.number, held.voter)
    state = replace(topology, epoch=epoch, founded=True).encode()
    log.stage_base(Snapshot(epoch, term, frozenset((me,)), state))
    log.drop_behind(epoch)
    formers = (held.formers + held.group)[-FORMERS_MAX * GROUP_BYTES :]
    log.stage(term, None, held._replace(group=group, formers=formers, used=epoch, follows=False))
    _store(log, engine)
    return (
        f"the metadata group {held.group.hex()[:8]} was replaced by {group.hex()[:8]}, of which "
        f"{config.name} is the only voter, from epoch {epoch} on. Start this node. On each other node that "
        f"is left, and stopped, run `basestore node rebuild-group --follow`, and start it"
    )


def follow(engine: Engine, config: NodeConfig) -> str:
    """Let the store go over to the group that has taken its own one's place; says so."""
    log, held = known(engine, config)
    stored = log.stored
    assert stored is not None
    log.stage(stored.term, None, held._replace(follows=True))
    _store(log, engine)
    return (
        f"{config.name} goes over to the group that took the place of {held.group.hex()[:8]}, as soon as it "
        f"is linked with a node of that. Start it"
    )


def _store(log: GroupLog, engine: Engine) -> None:
    commit = log.group_commit
    commit.commit()
    if commit.stalled:
        raise StorageBusy(f"the store takes no writes: {commit.trouble}. Nothing was changed: see to that")
    engine.sync()
