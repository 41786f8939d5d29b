"""Transport: what the connections of both clients share: how a node is reached, who may use a connection,
what its version can say, and how much may be under way on it."""
