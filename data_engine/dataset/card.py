"""The card of a dataset: its content in words and tables, in the form of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from data_engine.licences import hub_licence
from mmrl.core.text import in_markdown
from rewards.tasks.table import OTHER, TASKS

SIZES = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M"))


def card(manifest: Mapping[str, Any]) -> str:
    """The text of `card.md`."""
    counts, media = manifest["counts"], manifest["media"]
    where = "inside the shards" if media["embedded"] else "under `media/`, named by their SHA-256"
    head = yaml.safe_dump(front_matter(manifest), sort_keys=False, allow_unicode=True)
    return f"""---
{head}---

# {in_markdown(manifest["name"])}

{counts["kept"]:,} samples of images, videos and text with questions and gold answers.

```python
datasets.load_dataset("parquet", data_files={{"train": "shards/train-*.parquet"}})   # plain rows
data_engine.dataset.shards.read_samples(".", split="train")                                # samples with paths of media
```

A row holds `id, source, task, prompt, answer, media, meta`; prompt, answer and meta are JSON text. Boxes are xyxy
pixels of the image after EXIF rotation, time spans are seconds from the start of the video as shown. The media are
{media["files"]:,} files of {media["bytes"]:,} bytes, {where}. `meta` says where a sample is from: `where` it
stood in its source, its `licence`, and `changed_by`, the operators that changed what it asks, shows or expects.

{_counts("split", manifest["splits"])}
{_counts("task", manifest["tasks"])}
{_counts("source", manifest["sources"])}
{_counts("licence", manifest["licences"])}
## How it came about

Of {counts["in"]:,} inputs {counts["kept"]:,} were kept. Recipe: `{manifest["recipe"] or "not recorded"}`.

{_origin(manifest.get("origin"))}{_mix(manifest.get("mix", ()))}{_counts("dropped because", counts["dropped"])}
{_counts("quarantined because", counts["quarantined"])}"""


def front_matter(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata block of the card, which the hub reads."""
    licences = sorted({hub_licence(name) for name in manifest["licences"]}) or ["unknown"]
    splits = sorted(manifest["splits"])
    files = [{"split": split, "path": f"shards/{split}-*.parquet"} for split in splits]
    return {
        "pretty_name": in_markdown(manifest["name"]),
        "license": licences[0] if len(licences) == 1 else licences,
        "task_categories": sorted({TASKS.get(task, OTHER).category for task in manifest["tasks"]}),
        "size_categories": [size_category(manifest["counts"]["kept"])],
        "tags": ["reinforcement-learning", "vision-language"],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def size_category(n: int) -> str:
    """The hub's size class for a number of samples.

    >>> size_category(12), size_category(48_248)
    ('n<1K', '10K<n<100K')
    """
    below = [name for bound, name in SIZES if n >= bound]
    above = [name for bound, name in SIZES if n < bound]
    if not below:
        return f"n<{above[0]}"
    return f"{below[-1]}<n<{above[0]}" if above else f"n>{below[-1]}"


def _origin(origin: Mapping[str, Any] | None) -> str:
    if origin is None:
        return ""
    lines = [*_sources(origin["sources"]), "", *_operators(origin["operators"]), "", *_prompt(origin.get("prompt"))]
    return "".join(f"{line}\n" for line in lines)


def _sources(sources: Any) -> Iterator[str]:
    yield from ("| source | read by | licence | file | bytes | SHA-256 |", "|---|---|---|---|---:|---|")
    for source in sources:
        name, fn, licence = map(in_markdown, (source["name"], source["fn"], source["licence"] or "of its rows"))
        about = f"| {name} | `{fn}` | {licence}"
        for file in source["inputs"] or [{"path": "none", "bytes": 0, "sha256": ""}]:
            yield f"{about} | {in_markdown(file['path'])} | {file['bytes']:,} | `{file['sha256'][:16]}` |"


def _operators(operators: Any) -> Iterator[str]:
    yield from ("| operator | options | version |", "|---|---|---|")
    for operator in operators:
        options = ", ".join(f"{name}={value}" for name, value in operator["args"].items() if value is not None)
        yield f"| `{in_markdown(operator['fn'])}` | {in_markdown(options)} | `{operator['version']}` |"


def _prompt(prompt: Any) -> Iterator[str]:
    """How the questions are to be asked, if the recipe says so."""
    if prompt:
        yield from ("Asked with this `prompt:` block, which is not part of the rows:", "", "```yaml")
        yield from (yaml.safe_dump(prompt, sort_keys=False, allow_unicode=True, width=120).rstrip(), "```", "")


def _mix(mixes: Any) -> str:
    tables = [
        f"| {in_markdown(mix['by'])} | requested | achieved |\n|---|---:|---:|\n"
        + "".join(
            f"| {in_markdown(value)} | {mix['requested'].get(value, 0):.2%} | {mix['achieved'].get(value, 0):.2%} |\n"
            for value in sorted({*mix["requested"], *mix["achieved"]})
        )
        for mix in mixes
    ]
    return "".join(f"{table}\n" for table in tables)


def _counts(name: str, counts: Mapping[str, int]) -> str:
    rows = (
        "".join(f"| {in_markdown(value)} | {count:,} |\n" for value, count in sorted(counts.items()))
        or "| none | 0 |\n"
    )
    return f"| {name} | samples |\n|---|---:|\n{rows}"
