"""Drills: short simulations of whole clusters that show what the store answers when things go wrong."""
