"""What the benchmarks share: timing, networks, contestants, results and tables."""
