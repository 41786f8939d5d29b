"""What a cluster is, as a value that the entries of its log build, and what a node reads off it."""
