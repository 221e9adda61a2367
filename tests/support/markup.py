"""Pages as tests read them: parsed, and checked for forbidden content."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

from PIL import Image

from mmrl.core.html import VOID

Tag = tuple[str, dict[str, str | None]]


class Markup(HTMLParser):
    """The elements of a page, with their attributes, and the texts in it."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def named(self, tag: str, class_: str = "") -> list[dict[str, str | None]]:
        """The attributes of the elements of a name that have a class."""
        return [
            given for name, given in self.tags if name == tag and class_ in f"{given.get('class') or ''} ".split(" ")
        ]

    def images(self) -> list[Image.Image]:
        """All pictures, decoded."""
        links = [given.get("src") or given.get("href") or "" for name, given in self.tags if name in ("img", "image")]
        return [Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))).convert("RGB") for link in links]


def checked(content: str) -> Markup:
    """The page parsed, after a look for scripts, for handlers, and for anything that a browser would fetch."""
    markup = Markup(content)
    for name, given in markup.tags:
        assert name not in ("script", "link", "iframe", "object", "embed", "form", "base", "foreignobject")
        for key, value in given.items():
            assert not key.startswith("on")
            if key in ("src", "href", "srcset", "action", "xlink:href", "style"):
                assert (value or "").startswith("data:image/jpeg;base64,")
    assert "default-src 'none'" in content
    (style,) = (text for text in markup.texts if ":root" in text)
    assert "url(" not in style
    assert "@import" not in style
    assert all(image.width for image in markup.images())
    return markup
