"""Prompts read once per group: packed rows in scoring, one cache in sampling, and the comparison that allows both."""
