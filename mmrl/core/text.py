"""Text for people to read."""

from __future__ import annotations

import reprlib
from typing import Any

LINE = 500  # characters of a message
_MARKS = str.maketrans({"|": "/", "<": "&lt;", "[": "&#91;", "]": "&#93;", "`": "'"})


def printable(text: str) -> str:
    """The text with control characters spelt out, so that text from a dataset cannot control the terminal.

    >>> printable("red\\x1b[2J")
    'red\\\\x1b[2J'
    """
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def in_markdown(text: str) -> str:
    """The text in one line, safe for a cell of a Markdown table: no HTML, links, pictures or control characters.

    >>> in_markdown("![x](https://a.b/c) <b>|")
    '!&#91;x&#93;(https://a.b/c) &lt;b>/'
    """
    plain = printable(" ".join(text.encode("utf-8", "replace").decode().split()))
    return plain.translate(_MARKS)


def one_line(text: str, most: int = LINE) -> str:
    """The text in one printable line of at most `most` characters; what is too long loses its middle.

    >>> one_line("a  b\\nc" + "d" * 100, 20)
    'a b cddddd ... ddddd'
    """
    cut = text if len(text) <= 4 * most else f"{text[: 2 * most]} {text[-2 * most :]}"
    line = printable(" ".join(cut.split()))
    kept = most - len(" ... ")
    return line if len(line) <= most else f"{line[: kept - kept // 3]} ... {line[len(line) - kept // 3 :]}"


def shown(value: Any) -> str:
    """The value as Python writes it, cut to what fits into a message; texts and collections that are long are not
    written out first.

    >>> shown("abc"), shown({"a": [[1] * 10**6] * 10**6})
    ("'abc'", "{'a': [[1, 1, 1, 1, 1, 1, ...], [1, 1, 1, 1, 1, 1, ...], [1, 1, 1, 1, 1, 1, ...], ...]}")
    """
    text = _Short().repr(value)
    return text if len(text) <= 200 else f"{text[:140]} ... {text[-50:]}"


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 4, 120, 120, 60
        self.maxdict = self.maxlist = self.maxtuple = 6
