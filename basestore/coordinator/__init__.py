"""One client request, from admission to its answer."""
