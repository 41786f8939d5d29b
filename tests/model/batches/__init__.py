"""An executable model of atomic batches on last-write rows: all or nothing in the end, not isolated.

Read `store`, then `batch`, and play it with `python -m tests.model.batches 500`.

    records    stamps, rows, what a partition keeps of a batch
    store      a replica: three ways in, closed and stable stamps, what a batch holds down
    batch      hold, commit, done; and who goes on with one that was left
    world      chance: cuts longer than the lag, deaths, one lost disk, clocks
    judge      all or nothing; the newest wins; nothing deleted is back; no answer is untrue; nothing is left
    stage      histories in which one rule is all that helps
    elsewhere  the design that was not taken: it fails
    breakages  the protocol with a rule left out; `known`: who notices

The question was: what holds `closed` of the rows' partitions down, while the record of the batch lies on the
replicas of another partition? The answer is that nothing can, and that it must not lie there:

    by heartbeats     whoever holds the record names it, as an only copy is named. But a name that is not
                      heard for the lag holds no longer, or a node that is down would stop all closed stamps.
                      Where the holders are cut off from a row's replicas for longer, these close, settle and
                      purge, and the row comes too late, though others of the batch are applied (`elsewhere`)
    so                each partition that is written to holds the batch itself: its own rows, and the names
                      of the other partitions, as one row of a hidden bucket, *in that partition*. No row is
                      applied before a quorum of each has it. What must wait for it then knows of it: closed
                      is held by what the store itself holds, as by what is accepted in a register

    the first copies  come in as first deliveries do, above closed: from then on stable stays below the batch.
                      Every later copy is vouched for by one of these, and is taken above stable
    who has a copy    above whose stamp it has closed already tells others less than it has closed:
                      certificates are built on min(closed, the least batch held - 1). closed itself never
                      goes back. That is needed once the disk of the one that held it first is lost
    applied           from what is held, by each store for itself, where the stamp is above stable; the row
                      needs not travel again. From then on the batch holds nothing there
    done              a tombstone in each partition, once a quorum of each has applied; the batch is gone
                      when that is stable. Tombstones in one partition may be purged while the other is cut
                      off: that all of a partition have nothing, where another has committed, means that it
                      is through
    given up          where *all* replicas of one partition say that they do not hold it, and refuse it: its
                      stamp is closed, or whoever goes on with it has asked for that. That is final without a
                      vote: who held it would say so, and who says no says so for good. A quorum that says no
                      is not enough: the third may hold it, and vouch for it
    refused           because closed is not enough. Two batches that begin at once, each held in a partition
                      where the other is not, hold closed back in each other's way, for ever; and many of
                      them, one behind the other, for very long
    who is waited for one replica that does not answer, where none of the others holds it. Until it is back,
                      or replaced, the batch stays held, and stable waits: space is paid, correctness never
    the answer        "stored", once a quorum of each has applied it: two round trips. "not applied" is
                      definite only while stable is below the batch at all that were asked; else it may have
                      been done and purged by others, and nobody can tell
"""
