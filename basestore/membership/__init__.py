"""What members tell each other of themselves, and how a cluster decides what it is."""
