"""An executable model of sessions, locks, fences and ephemeral keys, after Chubby, on registers.

Read `session`, then `lock` and `fence`, and play it with `python -m tests.model.leases 500`.

    register   rows, given; compares; the two steps of a write
    session    leases: renewed, believed in, outlasted, ended
    lock       taken, released, tokens
    fence      writes that need a token
    ephemeral  keys that go with their session
    world      chance: clocks of other rates, pauses of up to three leases, messages late, lost or twice,
               deaths
    judge      no two believe; tokens grow; who came before never writes after; nothing dead is shown or stays
    breakages  the protocol with a rule left out; `known`: who notices

Does a fenced write have to look at the row of the lock, or only at what the guarded row remembers?

    it looks          after it has prepared, and before it has anything accepted, under the same ballot. The
                      promise makes that one step for the row: the next holder looks later, so it prepares
                      later, and what was prepared before is refused. A round that failed looks again.
                      Where the prepare is skipped the promise is older, and as good
    it refuses so     a token that was never given out; one that has passed on, or was released; that of
                      another lock, unless it happens to be its token too; a lock of which there is no row.
                      Locks are rows of one hidden bucket, so a token of another bucket is none. In a bucket
                      without ballots there is no promise: a fence is refused there by name
    to remember       saves the look, one round trip: the same token of the same lock needs none, a lower one
                      is refused at once, anything else is looked up. A cache: it may go with a delete, or
                      with a write without a fence, and must not be compared across locks
    to remember only  is not enough. A token that nobody was given is the greatest for ever, and locks out
                      who holds the lock; and what is deleted is purged, and with it the memory, but not the
                      holder of old. (Would nothing be forgotten, and were it known what was given out, it
                      would do.) Who guards something outside has no more than this, and must forget nothing
    what is promised  once a write of a later token is there, none of an earlier one follows. Before that
                      first write one of old may still land: whoever takes over reads after it has written,
                      or names the version that it has read

And besides:

    tokens            are counted: one more than the token that is found in the lock's row; a release leaves
                      it there. The stamp of the identity does not do: a compare that was first proposed long
                      ago, and is decided now, has an old one. So the rows of locks are not deleted
    unknown           acquisitions and releases are repeated under the same identity until they are known, or
                      the session goes. Who hears that it holds a lock when it does not believe in its session
                      any more leaves that: else one that is renewed after all holds it, and nobody knows
    renewals          count from when they were sent, once they are known to be applied; that a session was
                      found alive, or that a renewal may have been applied, counts for nothing
    clocks            must go on while a machine is suspended (boot time, not the monotonic clock that stops)
    ended             sessions are ended before their locks are taken, by compare; the rows stay as long as
                      something names them, for a message of old could found the session again
"""
