"""Clients: a program's way to a node, asynchronous or blocking, and sessions (Terry et al., 1994).

Owns the calls, their arguments, and what carries them. Never repeats a request by itself, and knows nothing
of replicas: the node that is asked coordinates.
"""
