"""That the benchmarks run, and say what they should."""
