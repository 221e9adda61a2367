"""The card of a dataset: what it holds, in words and tables, as datasets on the hub describe themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card(manifest: Mapping[str, Any]) -> str:
    """The text of `card.md`."""
    counts, media = manifest["counts"], manifest["media"]
    splits = "".join(
        f"  - split: {split}\n    path: shards/{split}-*.parquet\n" for split in sorted(manifest["splits"])
    )
    where = "inside the shards" if media["embedded"] else "under `media/`, named by their SHA-256"
    return f"""---
pretty_name: {_line(manifest["name"])}
configs:
- config_name: default
  data_files:
{splits}---

# {_line(manifest["name"])}

{counts["kept"]:,} samples of images, videos and text with questions and gold answers.

```python
datasets.load_dataset("parquet", data_files={{"train": "shards/train-*.parquet"}})   # plain rows
data_engine.shards.read_samples(".", split="train")                                # samples with paths of media
```

A row holds `id, source, task, prompt, answer, media, meta`; prompt, answer and meta are JSON text. Boxes are xyxy
pixels of the image after EXIF rotation, time spans are seconds from the start of the video as shown. The media are
{media["files"]:,} files of {media["bytes"]:,} bytes, {where}.

{_table("split", manifest["splits"])}
{_table("task", manifest["tasks"])}
{_table("source", manifest["sources"])}
## How it came about

Of {counts["in"]:,} inputs {counts["kept"]:,} were kept. Recipe: `{manifest["recipe"] or "not recorded"}`.

{_table("dropped because", counts["dropped"])}
{_table("quarantined because", counts["quarantined"])}"""


def _table(name: str, counts: Mapping[str, int]) -> str:
    rows = "".join(f"| {_line(value)} | {count:,} |\n" for value, count in sorted(counts.items())) or "| none | 0 |\n"
    return f"| {name} | samples |\n|---|---:|\n{rows}"


def _line(text: str) -> str:
    """The text on one line of a table."""
    return " ".join(text.replace("|", "/").replace("<", "&lt;").encode("utf-8", "replace").decode().split())
