"""Crash states of the real engine: what a power cut could leave, and what is made of it."""
