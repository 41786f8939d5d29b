"""Frames, connections and handshakes: how messages cross a network."""
