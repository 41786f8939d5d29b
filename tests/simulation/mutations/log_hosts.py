"""Bugs of who drives the log, goes by it, and answers from it."""

from basestore.membership.adoption import Adoption
from basestore.membership.asking import Asking
from basestore.membership.following import Following
from basestore.membership.group_log import GroupLog
from basestore.membership.leader_watch import LeaderWatch
from basestore.membership.leading import Leading
from basestore.membership.metadata_group import MetadataGroup
from basestore.topology import bucket_changes
from basestore.topology.buckets import Buckets
from tests.simulation.mutations.log_rules import UPSET
from tests.simulation.mutations.registry import LOG, reworded

HOST = MetadataGroup
ENDS = LOG | {"crash"}
READS = {"consistent reads", "default reads"}

# --- what is stored ------------------------------------------------------------------------------

reworded(
    "log: promises leave at once",
    LOG,
    HOST,
    "_give_out",
    "if not (output.stores or self._storing):",
    "if True:",
    *UPSET,
)
reworded(
    "log: an entry is in use before that is durable",
    LOG,
    HOST,
    "_note",
    "self._coming, self._sure = coming, False",
    "self._coming, self._sure = coming, True",
)
reworded(
    "log: that an entry is decided is not stored",
    LOG,
    HOST,
    "_note",
    "self._allegiance._replace(used=coming[-1].topology.epoch)",
    "self._allegiance",
)
reworded(
    "log: what a snapshot skips is noted later",
    LOG,
    HOST,
    "_keep",
    "used=output.snapshot.last",
    "used=self._allegiance.used",
    "back down",
)
reworded(
    "log: all that is stored is decided",
    ENDS,
    GroupLog,
    "_load",
    "min(max(self.allegiance.used, last), self._last)",
    "self._last",
    *UPSET,
)
reworded(
    "log: entries are not stored",
    ENDS,
    GroupLog,
    "_stage_entries",
    "for index, entry in enumerate(entries, first):",
    "for index, entry in enumerate((), first):",
)
reworded(
    "log: a wiped voter is not replaced",
    LOG,
    Leading,
    "_voters_of",
    "if heard is not None:",
    "if False:",
    "wipe",
    "voter wiped",
    "wipe keeper",
    "ambush",
)
reworded("log: nobody is taken in", LOG, Leading, "_change", "if ready:", "if False:")
reworded(
    "log: voters are never taken out",
    LOG,
    Leading,
    "_change",
    "if less and len(raft.voters) > count:",
    "if False:",
    "wipe",
    "voter wiped",
    "ambush",
)
reworded(
    "log: founded without hearing all",
    ENDS,
    Leading,
    "_consider_founding",
    "each is None or each.group",
    "each is not None and each.group",
)

# --- who follows ---------------------------------------------------------------------------------

reworded(
    "log: nobody is told of an epoch",
    LOG,
    Following,
    "tell",
    "if self._greeted.get(peer.index) is not peer.outbox:",
    "if True:",
)
reworded(
    "log: what is lacking is not asked for",
    LOG,
    Following,
    "_ask",
    "if told.epoch > decided and",
    "if False and",
    *UPSET,
)
reworded(
    "log: entries are skipped",
    ENDS,
    Following,
    "_hear_at",
    "group.raft.decide(said.first,",
    "group.raft.decide(group.raft.commit + 1,",
)
reworded(
    "log: a node goes on by the buckets that it had",
    LOG,
    Buckets,
    "adopt",
    "if others or self.dropped_since != topology.dropped_since:",
    "if False:",
)
reworded(
    "log: seats are adopted, and buckets are not",
    LOG,
    Adoption,
    "adopt",
    "self._buckets.adopt(",
    "(lambda new: None)(",
)

# --- what is answered ----------------------------------------------------------------------------

reworded(
    "log: a read is answered by what the node has",
    READS,
    Asking,
    "_ask",
    "leader, raft = self._leader.member(now), self._group.raft",
    "read.at, leader, raft = self._group.epoch, None, None",
)
reworded(
    "log: a read is answered before the node has come so far",
    READS,
    Asking,
    "step",
    "0 <= read.at <= self._group.epoch",
    "0 <= read.at",
)
reworded(
    "log: a leader is always heard of just now",
    {"stale reads"},
    LeaderWatch,
    "heard_ms",
    "max(0, int((now.monotonic - heard.heard_s) * 1e3))",
    "0",
    "majority stopped",
    "leader gone",
)
reworded(
    "log: a change is answered once it is said",
    {"acknowledged"},
    Asking,
    "_ended",
    "outcome = topology.outcome(change.id) if topology is not None else None",
    "outcome = topology.outcome(change.id) if topology is not None else None\n"
    "    if outcome is None and topology is not None and topology.founded:\n"
    "        outcome = Outcome(topology.epoch + 1, '', content=change.content)",
)
# --- what entries say ----------------------------------------------------------------------------

reworded(
    "buckets: a number is used anew",
    {"topologies", "acknowledged", "dropped buckets"},
    bucket_changes,
    "create_bucket",
    "number = was.last_bucket + 1",
    "number = len(was.buckets) + 1",
)
reworded(
    "buckets: a name is the label",
    {"convergence", "purges"} | LOG,
    bucket_changes,
    "create_bucket",
    "later_label(number)",
    "name.encode()",
)
reworded(
    "settings: the first value stays",
    {"topologies"},
    bucket_changes,
    "set_setting",
    "{**was.settings, change.key: change.value}",
    "{change.key: change.value, **was.settings}",
)
reworded(
    "settings: one that is unset comes back",
    {"topologies"},
    bucket_changes,
    "unset_setting",
    "if key != change.key",
    "if True",
)
