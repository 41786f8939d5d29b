"""Where a node keeps its rows: one small contract, two engines."""
