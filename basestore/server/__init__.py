"""Trio: sockets, clocks and threads; the only room that runs a node."""
