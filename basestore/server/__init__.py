"""Server: sockets, clocks and threads, on Trio; the only room that runs a node.

Owns all that waits. It decides nothing about data: it hands messages and moments to the node, and sends what
the node leaves in outboxes.
"""
