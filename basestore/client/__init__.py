"""A program's way to a node, asynchronous or blocking, and sessions; nothing is ever sent twice."""
