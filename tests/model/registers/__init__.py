"""An executable model of registers: compare-and-set by Paxos, a register a row, on replicas that are moved,
wiped and purged.

It says what SERIAL's chapter 4 says, and what is needed besides where closed stamps are held, tombstones go
and stores come to stand in for those that were wiped. Read `store`, then `decision` and `operations`, and
play it with `python -m tests.model.registers 500`.

    records        ballots, and what is proposed under them
    topology       entries: whose seats, which stores, who is barred; what is enough
    store          the acceptors of one member, what was learned, closed and stable stamps, certificates
    decision       what a coordinator makes of the answers of a quorum
    operations     a write, a read, finishing
    rounds         who waits for which answers
    exchange       two members hold the same afterwards, and what that proves
    messages       what nodes say to each other
    node           a member: what leaves when, under which entry, and what it does by itself
    network        links that keep their order, until they break
    leader         who changes the topology, by what it was told
    clients        who wants what, and asks again
    world          chance, faults, quiet, calm
    judge          sees all, and says what must never be
    script         a world without chance
    stage          the shortest histories in which one rule is all that helps
    breakages/     the protocol with one rule left out, and who notices
"""
