"""What a command shows of what a cluster is, and has changed in it."""
