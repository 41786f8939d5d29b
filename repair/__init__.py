"""What replicas should hold: pure decisions between versions of data.

Nothing here awaits, reads a clock, draws randomness or touches a file or socket; time and
randomness arrive as arguments, and decisions leave as values that `basestore` acts on.
"""
