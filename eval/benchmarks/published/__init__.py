"""Published benchmarks: each file holds its rows, its scorers and its numbers."""

from __future__ import annotations
