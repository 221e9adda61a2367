"""Work in processes of its own, which can be killed at a deadline."""
