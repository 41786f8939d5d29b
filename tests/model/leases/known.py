"""Known: who notices which breakage."""

HARMLESS: dict[str, str] = {
    "nothing but the row, and what was given out, and the row forgets nothing": (
        "it would do; but what is deleted is purged, and its memory with it"
    ),
}
SEEDS = {
    "a renewal counts from its answer": 10,
    "a renewal counts whose answer is lost": 0,
    "what is found alive is renewed": 42,
    "the owner believes for longer than others wait": 4,
    "others wait for less than the owner believes": 1,
    "others wait from when they asked": 145,
    "a session is ended without a compare": 1,
    "what is ended is renewed": 0,
    "clocks stand still in a pause": 37,
    "a lock is taken without ending the session": 61,
    "a lock is taken after some time": 1,
    "nobody ends the sessions of others": 0,
    "a release names nothing": 47,
    "a release deletes the row": 0,
    "the token is that of a clock": 12,
    "an acquisition that is unknown is forgotten": 22,
    "who hears too late that it holds a lock goes on": 11,
    "no fence": 0,
    "looks before it prepares": 3,
    "accepts without having prepared": 13,
    "nothing but the row is looked at": 0,
    "nothing but the row, and what was given out": 203,
    "tokens of different locks are compared": 0,
    "what was given out once is enough": 6,
    "a key is shown whatever became of its session": 0,
    "who was alive lately is taken for alive": 180,
    "a key is removed without a compare": 0,
}
