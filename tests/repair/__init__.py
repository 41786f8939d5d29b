"""Laws of `repair`, a file for each of its modules."""
