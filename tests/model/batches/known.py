"""Known: who notices which breakage; those of `stage` have a history of their own."""

SEEDS = {
    "the record lies elsewhere, and is named by heartbeats": 194,
    "the record lies elsewhere, and nobody names it": 1,
    "commits what one partition holds": 1,
    "commits what one store of each partition holds": 336,
    "gives up what a quorum refuses": 45,
    "gives up without who does not answer": 482,
    "never gives up": 1,
    "done before all is applied": 0,
    "done once a partition has applied it": 75,
    "nobody goes on with it": 0,
    "closed is not held": 7,
    "a batch is taken below closed": 162,
    "rows are applied under a new stamp": 10,
    "tombstones go before they are stable": 0,
    "who has applied it keeps nothing of it": 0,
    "exchanges carry no batches": 2,
    "a wiped store counts at once": 563,
    "what may be purged is reported not applied": 324,
    "gives up what is not here": 1464,
}
