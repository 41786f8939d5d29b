"""One client's request, from admission to its answer; its own replica is asked like any other."""
