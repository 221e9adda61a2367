"""Called by mkdocs and by mkdocstrings: pages get their tables, examples in docstrings become code blocks."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object  # pyright: ignore[reportMissingImports] - of the extra `docs`

from docs.tools.describe import prose
from docs.tools.tables import filled


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables."""
    return filled(markdown)


class Examples(Extension):
    """Puts the examples of docstrings into code blocks."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring:
            obj.docstring.value = prose(obj.docstring.value)
