"""An executable model of transactions on registers, decided in a register: what is written is laid first, as
an *intent* in each row, and one row of its own says whether all of them count (Paxos Commit's idea, on one
decision).

It says what SERIAL's chapter 5 says, with the row of the decision played message by message. Read `deciding`,
then `transaction` and `helping`, and play it with `python -m tests.model.transactions 500`.

    records      what rows hold: intents, decisions, tombstones of decisions
    acceptor     the row of a transaction at one of its three acceptors
    deciding     COMMITTED without a prepare; look, end, delete
    rows         the registers of keys, given
    transaction  reads, lays, validates, decides, answers, resolves
    helping      intents that are in the way, wait-die, old rows
    clients      who wants what: transactions, gets, sets, compares
    world        chance: messages lost, late or twice, deaths, pauses, clocks
    judge        one order of whole transactions that keeps real time; no answer is untrue; nothing stays
    breakages    the protocol with a rule left out; `known`: who notices

What it has taught:

    nothing found, and b0 closed    is no reason to roll back without a word. COMMITTED that a minority has
                                    accepted again under a later ballot outlives the closing of b0, and the
                                    next who asks that minority finishes it. So something is always written.
    what is written then            ABORTED, where no decision can have been purged; else a tombstone that
                                    does not tell. So ABORTED is a proof: a coordinator that comes late to
                                    ask must not hear it of what was committed, resolved and purged
    a tombstone tells               by the identity of what it replaced: that is b0 for COMMITTED, and nothing
                                    else has it. Once it is purged the outcome is unknown, for good
    COMMITTED that has left         is only given up by the row's word. That a quorum refuses b0 proves
                                    nothing: the third may have accepted it, and somebody finishes that
    ABORTED, GONE                   mean the same to an intent: the old record, by compare on that very intent
    the old identity comes back     with the record that is rolled back to. With a fresh one nothing is lost,
                                    but a compare on the version that was read is refused, though nobody has
                                    written: "lost" would not be a proof any more
    a blind write names             what it finds when it is laid; else a late lay brings it back over what
                                    came after, while COMMITTED is still there
    b0 promised at first            and helpers above b0: either alone would do, for who meets an intent has
                                    seen b0; both are kept
    old enough comes before age     who meets an intent that is past its time ends it, whichever is older;
                                    only among the young is it wait or die
"""
