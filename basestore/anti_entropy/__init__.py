"""Replicas compare what they hold, prove it, and recover what they lost (Demers et al, 1987)."""
