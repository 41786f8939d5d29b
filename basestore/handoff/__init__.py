"""Hinted handoff: hints, their delivery, what is owed, and what came too late."""
