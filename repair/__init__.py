"""What replicas should hold: pure decisions between versions of data, to which time and randomness come as
arguments, and which leave as values to act on."""
