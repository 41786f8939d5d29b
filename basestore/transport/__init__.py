"""Transport: what the connections of a client are made of, whatever travels on them."""
