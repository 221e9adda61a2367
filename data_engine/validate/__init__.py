"""The checks of samples, each with a stable code."""
