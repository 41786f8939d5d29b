"""An executable model of anti-entropy: certificates, closed and stable stamps, purge, forgetful replicas.

It says in a few hundred lines what the product does in many, for one partition, without bytes or
threads: read `replica`, then `session`, and play it with `python -m tests.model --runs 200`.

    record        what one write left, and which of two stays
    replica       the four ways in, the three guards, purge, crashes and lost disks
    session       two replicas compare, exchange and certify
    doubt         all stores may have lost something at once, and recover from each other
    coordinator   first deliveries, hints, copies
    world         chance: who does what next, what is lost, late or twice
    judge         sees all disks at once, and says what must never be seen
    trial         what a seed is played on, and the branches that a run of many must have met
    interleavings the shortest histories in which one rule is all that helps
    breakages     the protocol with one rule left out, and by which law that is noticed; those of stores in
                  doubt are in `breakages_in_doubt`, and `patches` says how
"""
