"""Transactions: several keys of registers at once, decided in a register (Paxos Commit)."""
