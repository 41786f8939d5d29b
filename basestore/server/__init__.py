"""Trio: sockets, clocks and threads; the only room that runs a node, and it decides nothing about data."""
