"""Where a node keeps its rows, as bytes: one small contract, two engines, and what keys look like."""
