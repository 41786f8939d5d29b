"""Partitions that move from member to member while they are served."""
