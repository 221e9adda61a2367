"""Judges: models behind an OpenAI-compatible server whose replies become verdicts, or None with a cause."""
