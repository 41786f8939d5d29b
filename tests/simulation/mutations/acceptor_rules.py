"""Bugs of acceptors: rules by which a store is one, is none any more, and is taken in again, left out. In
whole worlds only what entries make of members is seen; each has a case."""

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.roots import RootComparison
from basestore.cluster.finishing import Finishing
from basestore.cluster.seating import Seating
from basestore.membership import metadata_group
from basestore.moves.acceptor_changes import AcceptorChanges
from basestore.repair import moving
from basestore.repair.certificate import LastExchange
from basestore.topology import member_changes
from basestore.topology.topology import Topology
from tests.simulation.mutations.move_rules import ENDS, HELD, left_out
from tests.simulation.mutations.registry import LOG

# --- what entries say ----------------------------------------------------------------------------

left_out("acceptors: another store changes nothing", LOG, member_changes, "set_member",
         'held.store not in (b"", change.store)', "False")  # fmt: skip
left_out("acceptors: who gives up its seat stays barred", LOG, Topology, "seated",
         "self.barred.get(at, frozenset()).intersection(now.both)", "self.barred.get(at, frozenset())",
         "moves")  # fmt: skip
left_out("acceptors: the seats of who is barred keep the epoch that they had", LOG, Topology, "barring",
         "of._replace(since=index)", "of")  # fmt: skip
left_out("acceptors: the seats of who is taken in keep the epoch that they had", LOG, Topology, "taking_in",
         "self.seats[at]._replace(since=index)", "self.seats[at]")  # fmt: skip
left_out("acceptors: who is not barred is taken in", LOG, member_changes, "take_in",
         "if number not in barred:", "if False:")  # fmt: skip
left_out("acceptors: an entry that bars is passed by before it is in use", LOG | HELD, metadata_group,
         "changes_what_is_held", "return binds or isinstance", "return isinstance")  # fmt: skip

# --- who counts ----------------------------------------------------------------------------------

left_out("acceptors: who is barred votes", LOG | HELD, Seating, "votes",
         "and partition not in self.out", "")  # fmt: skip
left_out("acceptors: any store votes", LOG | HELD, Seating, "votes",
         "self.is_bound(store) and partition", "partition")  # fmt: skip
left_out("acceptors: what who is barred has is enough", LOG | HELD, moving, "complete",
         "(report.met | {member}) - barred", "report.met | {member}")  # fmt: skip
left_out("acceptors: taken in before it is complete", LOG | HELD, AcceptorChanges, "_taking_in",
         "if each in told and complete(each, told[each], seats, topology.dead, barred)",
         "if each in told")  # fmt: skip

# --- who has finished ----------------------------------------------------------------------------

left_out("acceptors: sources need not have finished", LOG | HELD, Certificates, "met",
         "if finishing.proves(partition, each, finishing.acceptor_of(each), last.begun_s)", "")  # fmt: skip
left_out("acceptors: what is durable is forgotten for what is not yet", ENDS, Certificates, "remember",
         "self._durable[partition, member] = before", "pass")  # fmt: skip
left_out("acceptors: what a store had proven another proves", LOG | HELD, LastExchange, "holds",
         "self.stores == stores and ", "")  # fmt: skip
left_out("acceptors: an exchange may have been begun before the other side had finished", LOG | HELD,
         Finishing, "proves", " and heard_s < begun_s", "")  # fmt: skip
left_out("acceptors: roots prove as of when they are answered", LOG | HELD, RootComparison, "_answer",
         "told[place], heard_s, now", "told[place], now.monotonic, now")  # fmt: skip
left_out("acceptors: to have finished under an earlier epoch is enough", LOG | HELD, Finishing, "proves",
         "since == self.seating.since(partition)", "since >= 0")  # fmt: skip
left_out("acceptors: a store that its member is not bound to is a source", LOG | HELD, Finishing, "_is_bound",
         'in (b"", store)', "is not None")  # fmt: skip
left_out("acceptors: a node that has not finished counts for itself", LOG | HELD, Finishing, "own",
         " and not self.unfinished(partition, since)", "")  # fmt: skip
left_out("acceptors: finished before that is durable", LOG | HELD, Finishing, "_tell",
         "self._when_durable(partial(outbox.put, said, weight(said)))",
         "outbox.put(said, weight(said))")  # fmt: skip
left_out("acceptors: finished before it is so", LOG | HELD, Finishing, "_look",
         "if not self.unfinished(at, since):", "if True:")  # fmt: skip
left_out("acceptors: on a new link nothing is said again", ENDS, Finishing, "_tell",
         "if self._links.get(member) is not outbox:", "if False:")  # fmt: skip
