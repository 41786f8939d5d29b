"""Replica: the one door to local data, and what is kept beside it.

Owns the records of this node, their summaries, the batches that store them and whether the store may be
trusted. Knows no levels and no clients, and asks no other replica.
"""
