"""What the benchmarks compare with: the same work as users of other libraries write it."""
