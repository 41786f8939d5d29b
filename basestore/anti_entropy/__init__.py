"""Replicas compare what they hold, prove it, and recover what they lost."""
