"""The tool `search`: documents of a file, found by their words (BM25, by bm25s)."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from mmrl.core.files import appearing, beside, sha256_of
from mmrl.tools.scene import Scene, ToolError, readable

WORD = r"(?u)\w+"
MOST_FOUND = 3
LONGEST = 1_500  # characters of a document that a model reads


def search(query: str, *, scene: Scene) -> str:
    """Search the documents, and read those that fit best.

    Args:
        query: The words to look for.
    """
    if scene.index is None:
        raise ToolError("there are no documents to search")
    index = _loaded(scene.index)
    ranked, scores = index.retrieve(_words([query]), k=min(MOST_FOUND, len(index.corpus)), show_progress=False)
    found = [document for document, score in zip(ranked[0], scores[0], strict=True) if score > 0]
    return "\n\n".join(map(_shown, found)) or "no document has any of these words"


def index_of(documents: str | Path) -> str:
    """The folder with the index of a file of documents, made next to the file where there is none of this content.

    The file has a JSON object a line, each with a `text` and perhaps a `title`.
    """
    place = Path(documents)
    folder = beside(place, f"{digest_of(place)[:16]}.bm25s")
    if not folder.exists():
        import bm25s

        rows = _documents(place)
        index = bm25s.BM25()
        index.index(_words([f"{row['title']} {row['text']}" for row in rows]), show_progress=False)
        with appearing(folder) as staging:
            index.save(staging, corpus=rows, show_progress=False)
    return str(folder)


def digest_of(documents: str | Path) -> str:
    """The SHA-256 of the file of documents."""
    if not Path(documents).is_file():
        raise InputError(f"search_in: no file {documents}; a file of JSON lines, each with a text")
    return sha256_of(Path(documents))


def _documents(place: Path) -> list[dict[str, Any]]:
    rows = []
    with place.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{place}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
                raise InputError(f'{place}:{number}: a document is an object with a text, {{"text": "..."}}')
            rows.append({"title": readable(str(row.get("title") or "")), "text": readable(row["text"])})
    if not rows:
        raise InputError(f"search_in: {place} has no documents")
    if not any(re.search(WORD, f"{row['title']} {row['text']}") for row in rows):
        raise InputError(f"search_in: no document in {place} has a word")
    return rows


def _words(texts: Sequence[str]) -> Any:
    """The words of each text."""
    import bm25s

    options: dict[str, Any] = {"return_ids": False, "show_progress": False}
    return bm25s.tokenize(list(texts), token_pattern=WORD, stopwords=[], **options)


def _shown(document: dict[str, Any]) -> str:
    text = document["text"] if len(document["text"]) <= LONGEST else f"{document['text'][:LONGEST]} ..."
    return f"{document['title']}\n{text}" if document["title"] else text


@functools.cache
def _loaded(index: str) -> Any:
    import bm25s

    return bm25s.BM25.load(index, load_corpus=True, mmap=True)
