"""Text for people to read."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters spelt out, so that text from a dataset cannot control the terminal.

    >>> printable("red\\x1b[2J")
    'red\\\\x1b[2J'
    """
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
