"""Scorers of published benchmarks that no general reward covers; rewards like all others."""
