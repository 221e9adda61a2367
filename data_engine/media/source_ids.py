"""Ids of the public pictures and videos that a sample shows: benchmarks and training sets made from the same ones share
them, however the files were changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_engine.schema import Sample

NOTED = "source_ids"  # the key of meta that keeps them when files are renamed

NAMES: dict[str, re.Pattern[str]] = {  # a dataset -> how files or folders name its pictures and videos
    "coco": re.compile(r"COCO_(?:train|val|test)20\d\d_0*(\d+)|(?:^|/)(?=\d{12}\.)0*(\d+)\.(?:jpg|png)"),
    "visual_genome": re.compile(r"(?:VG_100K(?:_2)?|gqa/images)/(\d+)\."),  # GQA asks about the pictures of VG
    "flickr30k": re.compile(r"flickr30k[\w-]*(?:/\w+)?/(\d{6,})\.", re.IGNORECASE),
    "open_images": re.compile(r"(?:^|/)([0-9a-f]{16})\.jpg"),  # TextVQA and TextCaps ask about these
    "activitynet": re.compile(r"(?:^|/)v_([\w-]{11})\."),
    "charades": re.compile(r"charades[\w-]*/(?:[\w-]+/)*([A-Z0-9]{5})\.mp4", re.IGNORECASE),
}


def source_ids(sample: Sample) -> frozenset[str]:
    """The ids of what a sample shows, such as `coco:581857`.

    They come from what `validate` noted before it renamed files, from `meta.source_id`, from `meta.image_id` with
    `meta.dataset`, and from file names in paths of media and in texts of meta.

    >>> sorted(source_ids(Sample("", "s", "yesno", [], {}, meta={"image": "val2014/COCO_val2014_000000581857.jpg"})))
    ['coco:581857']
    """
    return frozenset(_ids(sample))


def _ids(sample: Sample) -> Iterator[str]:
    meta = sample.meta
    noted = meta.get(NOTED)
    yield from (value for value in noted if isinstance(value, str)) if isinstance(noted, list) else ()
    given = meta.get("source_id")
    yield from (str(value).casefold() for value in (given if isinstance(given, list) else [given]) if value is not None)
    if meta.get("dataset") and meta.get("image_id") is not None:
        yield f"{meta['dataset']}:{meta['image_id']}".casefold()
    named = (text for value in meta.values() for text in (value if isinstance(value, list) else [value]))
    names = [*(media.path for media in sample.media if media.path), *(text for text in named if isinstance(text, str))]
    for name in names:
        for dataset, pattern in NAMES.items():
            yield from (f"{dataset}:{next(filter(None, match.groups()))}" for match in pattern.finditer(name))
