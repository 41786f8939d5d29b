"""Observability: what a node says of itself, in facts, gauges, pages of metrics and answers to operators.

Reads the rooms below, changes nothing, and decides nothing.
"""
