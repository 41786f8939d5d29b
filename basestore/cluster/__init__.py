"""The other members: where rows live, who is alive, what is on its way or awaited; stores nothing."""
