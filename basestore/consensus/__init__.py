"""Raft: how the voters of a group agree on one log of entries; pure, and told by its host what happens."""
