"""The errors that a command reports in one line."""

from __future__ import annotations


class InputError(ValueError):
    """A user's input is wrong; the message names the key, the value and a right one."""


class RunError(RuntimeError):
    """A run cannot continue, though what the user typed is right; the message says why and what to do."""
