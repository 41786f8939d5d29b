"""What a command shows of a cluster that runs, and asks of it as a whole."""
