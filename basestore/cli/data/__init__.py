"""What a command does with keys and values: requests of one connection, and imports of many rows."""
