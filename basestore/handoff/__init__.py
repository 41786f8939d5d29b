"""Hinted handoff: writes kept for other members, their delivery, what is owed, and what came too late."""
