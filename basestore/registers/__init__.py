"""Registers: rows whose replicas agree on each write before it counts, by Paxos."""
