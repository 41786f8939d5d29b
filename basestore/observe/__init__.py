"""What a node says of itself: it reads the rooms below, and changes nothing."""
