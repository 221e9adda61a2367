"""Sources, read into chunks; a source whose files are unchanged is not read again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from data_engine.cache_keys import source_key, state_of, unchanged, watching
from data_engine.engine.chunks import BYTES, ROWS, Chunk, Chunks, Ref
from data_engine.operator import Outcome, Quarantined, quarantine
from data_engine.recipe import PlannedSource
from data_engine.schema import Sample
from data_engine.validate.checks import Mode, settled
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from mmrl.core.text import shown


def run_source(source: PlannedSource, modes: Mapping[str, Mode], chunks: Chunks) -> Iterator[Ref]:
    """The chunks of a source, named by their content. They are reused while the files it read are unchanged.

    `modes` are the options of `validate`; they apply to rows that cannot become samples, too.
    """
    spec = source.spec
    key = source_key(source.target, source.args, source.label, spec.limit, spec.licence, dumps(dict(modes)))
    known = chunks.finished(key)
    fetched = not any("remote" in ref.quarantined for ref in known or ())  # failed downloads are tried again
    if known is not None and fetched and all(unchanged(chunks.looks(ref.key)) for ref in known):
        yield from known
        return
    refs: list[Ref] = []
    for chunk in _chunks(source, modes):
        refs.append(_written(chunk, chunks, source.label))
        yield refs[-1]
    chunks.finish(key, refs)


def as_read(item: Sample | Quarantined, source: PlannedSource, modes: Mapping[str, Mode]) -> Outcome:
    """An item of a source with its label and licence; a faulty row is dropped or quarantined as its mode says."""
    if not isinstance(item, Sample | Quarantined):
        raise InputError(f"source {source.label} yields {shown(item)}; a source yields Samples")
    item = replace(item, source=source.label)
    return _licensed(item, source.spec.licence) if isinstance(item, Sample) else settled(item, modes)


def _chunks(source: PlannedSource, modes: Mapping[str, Mode]) -> Iterator[Chunk]:
    items, first = None, True
    while True:
        chunk, media_bytes = Chunk(), 0
        with watching() as looked:
            items = itertools.islice(source.read(), source.spec.limit) if items is None else items
            for item in itertools.islice(items, ROWS):
                item = as_read(item, source, modes)
                if isinstance(item, Sample):
                    chunk.kept.append(item)
                    media_bytes += sum(len(media.bytes or b"") for media in item.media)
                else:
                    chunk.stop(source.label, item)
                if media_bytes > BYTES:
                    break
        if not chunk.kept and not chunk.stopped and not first:
            return
        looked |= {media.path for sample in chunk.kept for media in sample.media if media.path is not None}
        chunk.looks = {path: state_of(path) for path in sorted(looked)}
        yield chunk  # the first one even if it is empty: it records which files would have to change
        first = False


def _licensed(sample: Sample, licence: str | None) -> Sample:
    """The sample with the licence of its source, unless it has its own."""
    own = sample.meta.get("licence") or sample.meta.get("license")
    return sample if own or not licence else replace(sample, meta={**sample.meta, "licence": licence})


def _written(chunk: Chunk, chunks: Chunks, label: str) -> Ref:
    """Write the chunk; samples that cannot be written as JSON are quarantined."""
    try:
        return chunks.write(chunk)
    except (TypeError, ValueError):
        whole = Chunk(stopped=chunk.stopped, looks=chunk.looks)
        for sample in chunk.kept:
            try:
                chunks.check(sample)
                whole.kept.append(sample)
            except (TypeError, ValueError) as error:
                why = f"prompt, answer and meta must be JSON and UTF-8: {error}"
                whole.stop(label, quarantine(sample, "not_text", why))
        return chunks.write(whole)
