"""An executable model of watches: feeds from the apply logs of replicas that compare, purge, drop lines, are
wiped and replaced, and of a watcher that goes on at whichever of them serves.

It says what SERIAL's section 6 says of them, and drives the decisions themselves (`feeds/position.py`). One
partition is enough: of several each is followed by itself. Play it with `python -m tests.model.watch 500`.

    store       what a replica holds, in which order it came, and what it cannot tell any more
    exchange    two replicas hold the same afterwards, and what that proves of their sequences
    follower    a replica's side of a feed: lines, or a look through all that is held, a part at a time
    watcher     positions and marks; what it has heard, and what it would have forgotten had it ended
    world       chance: writes, delays, wipes, floors, lost answers, another replica, another process
    judge       every change up to a mark was heard, or a gap was told
    breakages   one rule left out, and which seed notices
"""
