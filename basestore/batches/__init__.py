"""Atomic batches: several keys of last-write buckets are written, all of them or none in the end."""
