"""Called by mkdocs: fills the reference pages before they are rendered."""

from __future__ import annotations

from typing import Any

from docs.tools.tables import filled


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables."""
    return filled(markdown)
