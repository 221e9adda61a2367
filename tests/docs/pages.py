"""The pages of the documentation, and the parts of them that tests look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docs.tools.tables import filled

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """The page's path from the top folder."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return [code for fence, code in BLOCK.findall(page.read_text(encoding="utf-8")) if fence == language]


def files_in(page: Path) -> dict[str, str]:
    """The files that a page writes out: a line "`NAME`:" and a code block."""
    text = page.read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@cache
def prose(page: Path) -> str:
    """A page as the site has it, with its tables, without code blocks."""
    return BLOCK.sub("", filled(page.read_text(encoding="utf-8")))


@cache
def anchors(page: Path) -> set[str]:
    """The ids of a page's headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[str]:
    """The command lines of a page's shell blocks, without comments."""
    for block in blocks(page, "bash"):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            command = re.sub(r"(^|\s)#.*", "", line).strip()
            yield from filter(None, map(str.strip, command.split("&&")))
