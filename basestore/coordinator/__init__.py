"""Coordinator: one client's request, from admission to its answer.

The node that a client asks coordinates the request (DeCandia et al., "Dynamo", 2007, section 4.5). Owns
levels, stamps, deadlines and answers. Holds no data: its own replica is asked like any other.
"""
