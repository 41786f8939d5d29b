"""The one door to local data, and what is kept beside it."""
