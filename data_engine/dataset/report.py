"""`report.html`: a dataset in pictures and numbers, as one file that has no scripts and loads nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.dataset.tables import STATS
from data_engine.schema import Sample, from_row
from mmrl.core.canonical_json import dumps
from mmrl.core.html import Child, Html, element, joined, page, table
from mmrl.core.media.drawings import film, gold_places, gold_spans, picture
from mmrl.core.media.files import MediaError
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media, shown_seconds
from mmrl.core.media.video import load_frames
from mmrl.core.messages import prompt_text

SHOWN = 6  # examples per task
SIDE = 320  # pixels of a picture's longer side
FRAMES = 4  # of a video
CHARS = 220  # shown of a question or an answer
BINS = 24
WIDTH, HEIGHT, BASE = 320, 120, 18  # of a histogram, and of the line below it


@dataclass(frozen=True, slots=True)
class Repeat:
    """A sample that a stage dropped because it repeats the sample with the id `like`."""

    stage: str
    like: str
    sample: Sample


def report(directory: Path, manifest: Mapping[str, Any], repeats: Sequence[Repeat] = ()) -> bytes:
    """The page of the dataset in `directory`, as UTF-8."""
    counts = manifest["counts"]
    examples, twins = _examples(directory, manifest, {repeat.like for repeat in repeats})
    refused = sum(counts["quarantined"].values())
    dropped = sum(counts["dropped"].values())
    line = f"{counts['in']:,} in = {counts['kept']:,} kept + {dropped:,} dropped + {refused:,} quarantined"
    content = page(
        manifest["name"],
        element("p", line, class_="dim"),
        _gallery(_count_table(name, manifest[f"{name}s"]) for name in ("split", "task", "source", "licence")),
        _section("Requested and achieved", [_mix(mix) for mix in manifest.get("mix", ())]),
        _section("Dropped", [_count_table("reason", counts["dropped"])] if counts["dropped"] else []),
        _section("Quarantined", [_count_table("reason", counts["quarantined"])] if counts["quarantined"] else []),
        _section("Measures", [element("div", *_histograms(directory), class_="charts")]),
        *(_section(task, [_gallery(map(_shown, samples))]) for task, samples in sorted(examples.items())),
        _section("Repeats that were dropped", [_pair(repeat, twins.get(repeat.like)) for repeat in repeats]),
    )
    return content.encode(errors="replace")


def histogram(values: np.ndarray, title: str) -> Html:
    """A histogram: one bar per value for few whole numbers, else `BINS` bars of equal width."""
    low, high = float(values.min()), float(values.max())
    whole = bool((values == np.round(values)).all()) and high - low < BINS
    bins = int(high - low) + 1 if whole else BINS
    edges = (low - 0.5, high + 0.5) if whole else (low, high if high > low else low + 1)
    heights, borders = np.histogram(values, bins, edges)
    bar, top = WIDTH / bins, max(int(heights.max()), 1)
    bars = [
        _bar(i * bar, bar, (HEIGHT - BASE) * int(count) / top, f"{borders[i]:.6g} to {borders[i + 1]:.6g}: {count:,}")
        for i, count in enumerate(heights)
        if count
    ]
    ends = [
        element("text", f"{low:.6g}", x=0, y=HEIGHT - 4),
        element("text", f"{high:.6g}", x=WIDTH, y=HEIGHT - 4, text_anchor="end"),
    ]
    drawing = element("svg", *bars, *ends, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)
    about = f"{len(values):,} samples, median {np.median(values):.6g}, at most {top:,} a bar"
    return element("figure", element("strong", title), drawing, element("figcaption", about), class_="chart")


def _bar(x: float, width: float, height: float, title: str) -> Html:
    place = {"x": f"{x + 0.5:.2f}", "y": f"{HEIGHT - BASE - height:.2f}"}
    size = {"width": f"{max(width - 1, 0.5):.2f}", "height": f"{height:.2f}"}
    return element("rect", element("title", title), **place, **size, fill="#0072b2")


def _histograms(directory: Path) -> Iterator[Html]:
    """One for each measure that some sample has and that is not the same for all."""
    numbers = pq.read_table(directory / "stats.parquet")
    for field in STATS:
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            values = numbers[field.name].drop_null().to_numpy().astype(float)
            if len(values) and values.min() < values.max():
                yield histogram(values, field.name.replace("_", " "))


def _examples(
    directory: Path, manifest: Mapping[str, Any], wanted: set[str]
) -> tuple[dict[str, list[Sample]], dict[str, Sample]]:
    """(task -> its first samples, id -> sample of the wanted ids that are there)."""
    by_task: dict[str, list[Sample]] = defaultdict(list)
    twins: dict[str, Sample] = {}
    taken = Counter[str]()
    for shard in manifest["shards"]:
        file = pq.ParquetFile(directory / shard["path"])
        names = file.read(columns=["id", "task"]).to_pydict()
        rows = []
        for row, (name, task) in enumerate(zip(names["id"], names["task"], strict=True)):
            if taken[task] < SHOWN or name in wanted:
                rows.append(row)
                taken[task] += 1
        for sample in _rows(file, rows):
            if len(by_task[sample.task]) < SHOWN:
                by_task[sample.task].append(_located(sample, directory))
            if sample.id in wanted:
                twins[sample.id] = _located(sample, directory)
    return dict(by_task), twins


def _rows(file: pq.ParquetFile, rows: Sequence[int]) -> Iterator[Sample]:
    """The samples at the given ascending row numbers; other row groups are not read."""
    start = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        inside = [row - start for row in rows if start <= row < end]
        if inside:
            yield from map(from_row, file.read_row_group(group).take(inside).to_pylist())
        start = end


def _located(sample: Sample, directory: Path) -> Sample:
    media = (item if item.path is None else replace(item, path=str(directory / item.path)) for item in sample.media)
    return replace(sample, media=tuple(media))


def _shown(sample: Sample) -> Html:
    pictures = [_picture(sample.answer if place == 0 else {}, media) for place, media in enumerate(sample.media[:3])]
    asked = element("p", _short(prompt_text(sample.prompt)), class_="small")
    answer = element("p", _short(dumps(sample.answer)), class_="small dim")
    return element("figure", *pictures, asked, answer, element("figcaption", f"{sample.source} · {sample.id}"))


def _pair(repeat: Repeat, twin: Sample | None) -> Html:
    kept = (
        _shown(twin)
        if twin
        else element("p", f"{repeat.like}, which no longer exists under this id", class_="small dim")
    )
    return joined(element("h3", repeat.stage), _gallery([_shown(repeat.sample), kept]))


def _picture(answer: Mapping[str, Any], media: Media) -> Html:
    """An image, or frames of a video over its time, with the places or times of an answer: those of the first item."""
    try:
        if media.kind == "image":
            image = load_image(media)
            return picture(image, gold_places(answer, image.size), caption="", side=SIDE)
        video = load_frames(media, FRAMES)
    except MediaError as error:
        return element("p", f"cannot be shown: {error.reason}", class_="missing")
    shown = Media("video", duration=video.duration, start=media.start, end=media.end)
    return film(video.frames, shown_seconds(shown) or 0.0, gold_spans(answer), caption="")


def _mix(mix: Mapping[str, Any]) -> Html:
    asked, got = mix["requested"], mix["achieved"]
    values = sorted({*asked, *got})
    head, rows = (
        ["requested", "achieved"],
        [[f"{column.get(value, 0):.2%}" for column in (asked, got)] for value in values],
    )
    if "requested_samples" in mix:
        counts = mix["requested_samples"], mix["achieved_samples"]
        head = [*head, "samples requested", "samples achieved"]
        rows = [
            [*row, *(f"{column.get(value, 0):,}" for column in counts)] for value, row in zip(values, rows, strict=True)
        ]
    return table([mix["by"], *head], [[value, *row] for value, row in zip(values, rows, strict=True)])


def _count_table(name: str, counts: Mapping[str, int]) -> Html:
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return table([name, "samples", "share"], [[value, f"{n:,}", f"{n / max(total, 1):.1%}"] for value, n in ordered])


def _gallery(figures: Iterable[Html]) -> Html:
    return element("div", *figures, class_="charts")


def _section(title: str, content: Sequence[Child]) -> Html:
    return joined(element("h2", title), *content) if content else Html("")


def _short(text: str) -> str:
    return text if len(text) <= CHARS else f"{text[:CHARS]} …"
