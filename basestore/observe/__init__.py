"""What a node says of itself: reads the rooms below, changes nothing."""
