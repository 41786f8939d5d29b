"""Groups: plain requests that a turn of the node has brought, coordinated together."""
