"""What can be wrong with a sample, each fault under a stable code."""
