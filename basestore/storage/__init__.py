"""Storage: where a node keeps its rows: one small contract, two engines, and what their keys look like.

Knows bytes alone: no records, no rules, no members.
"""
