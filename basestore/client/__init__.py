"""Carries calls to a node: the async and the blocking store, and session guarantees."""
