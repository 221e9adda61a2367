"""Tables of questions: JSON, CSV, parquet files, Hugging Face datasets, and questions about a folder of videos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.sources.base import Items, RowError, existing, existing_file
from data_engine.sources.delimited import delimited_rows, header
from data_engine.sources.json_lines import json_entries, json_lines
from data_engine.sources.row_format import PLAIN_ROWS, Row, Rows, samples_of
from mmrl.core.config import InputError, nearest

BATCH_ROWS = 64  # rows of a parquet file in memory at once: they may hold whole images
UNHELD = (pa.ArrowException, ValueError, OverflowError)  # of bytes that are not UTF-8, of the year 100,000


def jsonl(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a JSON-lines file."""
    file = existing_file(root, path, "JSONL file")
    refuse_at(rows, "jsonl")
    return samples_of(json_lines(file, path), rows, media_root_of(root, file.parent, rows), "jsonl")


def json_array(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The entries of a file that is one JSON array, read as a stream; or the rows below a key, or by id: `rows.at`."""
    file = existing_file(root, path, "JSON file")
    return samples_of(json_entries(file, path, rows.at), rows, media_root_of(root, file.parent, rows), "json")


def csv_table(*, path: str, root: Path, delimiter: str | None = None, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a CSV or TSV file with a line of names; empty cells are absent, and lists may be JSON in a cell.

    `delimiter` is the character between cells, by default the one of `,`, `;`, tab and `|` that the first line has most
    of.
    """
    file = existing_file(root, path, "CSV file")
    refuse_at(rows, "csv")
    with file.open("rb") as content:
        names, between = header(content, delimiter)
    check_columns(rows, names, file)
    folder = media_root_of(root, file.parent, rows)
    return samples_of(delimited_rows(file, path, names, between, rows), rows, folder, "csv")


def csv_rows(file: Path, path: str) -> Iterator[Row]:
    """The rows of a CSV or TSV file in its own columns."""
    with file.open("rb") as content:
        names, between = header(content)
    return delimited_rows(file, path, names, between, PLAIN_ROWS)


def video_questions(*, questions: str, videos: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of the JSON-lines file `questions` about the video files of a folder.

    A row names its `video` (or `videos`, or some in `media`); a row with `spans` ([[start, end]] in seconds of the
    file) is a temporal task.
    """
    if rows.media_root:
        raise InputError(f"rows.media_root {rows.media_root} is ignored by this source; use videos (now {videos})")
    file = existing_file(root, questions, "JSONL file of questions")
    refuse_at(rows, "video_questions")
    checked = (_with_video(row, rows) for row in json_lines(file, questions))
    return samples_of(checked, rows, existing(root, videos, "folder of videos"), "video_questions")


def parquet(*, path: str, root: Path, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a parquet file, or of all parquet files of a folder; media are paths or `{bytes, path}`."""
    place, files = parquet_files(root, path)
    refuse_at(rows, "parquet")
    for file in files:
        check_columns(rows, pq.read_schema(file).names, file)
    folder = place if place.is_dir() else place.parent
    return samples_of(parquet_rows(files, root), rows, media_root_of(root, folder, rows), "parquet")


def saved_dataset(*, path: str, root: Path, split: str | None = None, rows: Rows = PLAIN_ROWS) -> Items:
    """The rows of a Hugging Face dataset that `save_to_disk` wrote, or of one Arrow file of such a dataset."""
    place = existing(root, path, "saved dataset or Arrow file")
    refuse_at(rows, "datasets")
    data = _saved(place, split, path)
    check_columns(rows, data.column_names, root / path)
    folder = place.parent if place.is_file() else place
    return samples_of(dataset_rows(data, path), rows, media_root_of(root, folder, rows), "datasets")


def saved_rows(place: Path, split: str | None, path: str) -> Iterator[Row]:
    """The rows of a dataset that `save_to_disk` wrote, or of an Arrow file of one."""
    return dataset_rows(_saved(place, split, path), path)


def _saved(place: Path, split: str | None, path: str) -> Any:
    import datasets

    if not place.is_file():
        return _split_of(_loaded(place), split, path)
    try:
        return _split_of(datasets.Dataset.from_file(str(place)), split, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{place} is not an Arrow file of a dataset: {error}") from None


def hub_dataset(
    *, repo: str, root: Path, split: str, name: str | None = None, revision: str | None = None, rows: Rows = PLAIN_ROWS
) -> Items:
    """The rows of one split of a dataset on the Hugging Face hub, read as a stream. Only this source needs a network.

    `repo` is the dataset, `name` its configuration, `revision` its version. It may be the folder of a dataset on disk.
    """
    place = str(existing(root, repo, "folder of a dataset")) if (root / repo).is_dir() else repo
    refuse_at(rows, "hub")

    def download() -> Iterator[Row]:
        import datasets

        try:
            data = datasets.load_dataset(place, name, split=split, revision=revision, streaming=True)
        except (OSError, ValueError) as error:  # of networks and repositories that are not there, and of unknown splits
            raise InputError(f"split {split} of {repo} cannot be loaded: {type(error).__name__}: {error}") from None
        yield from dataset_rows(data, f"{repo}[{split}]")

    return samples_of(download(), rows, media_root_of(root, root, rows), "hub")


def _loaded(folder: Path) -> Any:
    """The dataset that `save_to_disk` wrote into a folder, or its mapping of splits to datasets."""
    import datasets

    try:
        return datasets.load_from_disk(str(folder))
    except FileNotFoundError as error:
        raise InputError(f"{folder} was not written by save_to_disk: {error}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # JSON files that are cut or others
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"the dataset in {folder} is damaged ({why}); download or write it again") from None


def _split_of(data: Any, split: str | None, path: str) -> Any:
    """The dataset of a split; a dataset without splits may name its own."""
    if isinstance(data, Mapping):
        if split not in data:
            raise InputError(f"dataset {path} is asked for split {split}; {nearest(str(split), map(str, data))}")
        return data[split]
    if split not in (None, str(data.split)):
        own = f"is split {data.split}" if data.split else "has no splits"
        raise InputError(f"dataset {path} is asked for split {split} and {own}; leave split out")
    return data


def _with_video(row: Row, form: Rows) -> Row:
    if row.error or not isinstance(row.values, Mapping):
        return row
    values = row.values
    video, several, media = (
        [values.get(column) for column in form.named(name)] for name in ("video", "videos", "media")
    )
    entries = [entry for given in media for entry in (given if isinstance(given, list) else [given])]
    if any([*video, *several]) or any(isinstance(entry, Mapping) and entry.get("kind") == "video" for entry in entries):
        return row
    name = ", ".join(form.named("video"))
    return row._replace(error=RowError("no_video", f"the row names no video; give the file's name under {name}"))


def parquet_files(root: Path, path: str) -> tuple[Path, list[Path]]:
    """(place, its parquet files) of a file or a folder; the schema of every file was read."""
    place = existing(root, path, "parquet file or folder")
    files = sorted(file for file in place.rglob("*.parquet") if file.is_file()) if place.is_dir() else [place]
    if not files:
        raise InputError(f"no *.parquet file in {place}")
    for file in files:
        try:
            pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file} is not a parquet file: {error}") from None
    return place, files


def parquet_rows(files: Iterable[Path], root: Path) -> Iterator[Row]:
    """The rows of parquet files, one small batch in memory at a time; class labels have their names."""
    for file in files:
        place = file.relative_to(root) if file.is_relative_to(root) else file
        table = pq.ParquetFile(file)
        named = class_names(table.schema_arrow.metadata or {})
        yield from _labelled(_whole(table.iter_batches(batch_size=BATCH_ROWS), str(place)), named)


def dataset_rows(data: Any, place: str) -> Iterator[Row]:
    """The rows of a Hugging Face dataset as they are stored: images and videos as `{bytes, path}`, labels by name."""
    rows = _whole(data.with_format("arrow").iter(batch_size=BATCH_ROWS), place)
    return _labelled(rows, data.features.to_dict() if data.features else {})


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The features that `datasets` notes in the metadata of a parquet file; empty if it has not written it."""
    try:
        return json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}


def _labelled(rows: Iterable[Row], features: Mapping[str, Any]) -> Iterator[Row]:
    wanted = {name: feature for name, feature in features.items() if "ClassLabel" in repr(feature)}
    for row in rows:
        named = {name: _label(row.values.get(name), feature) for name, feature in wanted.items()} if row.values else {}
        yield row._replace(values={**row.values, **named}) if named else row


def _label(value: Any, feature: Any) -> Any:
    """The value with the names of its class labels in place of their numbers; -1 is none."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"feature": feature[0]}
    if not isinstance(feature, Mapping) or value is None:
        return value
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names") or []
        return names[value] if type(value) is int and 0 <= value < len(names) else None
    inner = feature.get("feature", feature)
    if isinstance(value, list):
        return [_label(item, inner) for item in value]
    return {key: _label(item, inner.get(key)) for key, item in value.items()} if isinstance(value, dict) else value


def _whole(batches: Iterable[pa.RecordBatch | pa.Table], place: str) -> Iterator[Row]:
    """The rows of a table; where it is damaged, an error instead of the rest."""
    number, rows = 0, (row for batch in batches for row in _held(batch))
    try:
        for number, (values, fault) in enumerate(rows, start=1):
            yield Row(f"{place}:{number}", values, fault)
    except (pa.ArrowException, ValueError, OSError) as error:  # datasets raises ValueErrors of its own
        why = f"from this row on the table cannot be read ({error}); get the file again"
        yield Row(f"{place}:{number + 1}", {}, RowError("unreadable", why))


def _held(batch: pa.RecordBatch | pa.Table) -> Iterator[tuple[dict[str, Any], RowError | None]]:
    """The rows of a batch as Python values; a value that Python cannot hold is an error of its row."""
    try:
        rows = batch.to_pylist()
    except UNHELD:
        for row in (batch.slice(number, 1) for number in range(batch.num_rows)):
            yield _held_row(row)
    else:
        yield from ((row, None) for row in rows)


def _held_row(batch: pa.RecordBatch | pa.Table) -> tuple[dict[str, Any], RowError | None]:
    """The values of a batch of one row, or the error of the first that Python cannot hold."""
    values = dict[str, Any]()
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column.to_pylist()[0]
        except UNHELD as broken:
            return {}, RowError("unreadable", f"the value of {name} cannot be read ({broken}); repair or remove it")
    return values, None


def check_columns(rows: Rows, names: Sequence[str], file: Path) -> None:
    """Refuse a table without the columns that `rows` names, or without a question."""
    for ours in rows.columns:
        for theirs in rows.named(ours):
            if theirs not in names and theirs.partition(".")[0] not in names:
                raise InputError(f"{file} has no column {theirs} for {ours}; {nearest(theirs, names)}")
    asked = [column for name in ("question", "prompt") for column in rows.named(name)]
    if not set(asked) & set(names) and rows.question is None:
        right = "name it in rows.columns, or give one for all in rows.question"
        raise InputError(f"{file} has no column {' or '.join(asked)}; {right}; {nearest('question', names)}")


def refuse_at(rows: Rows, source: str) -> None:
    """Refuse `rows.at`, which only JSON files that are one object need."""
    if rows.at is not None:
        raise InputError(f"rows.at {rows.at} is ignored by the source {source}; it is for json")


def media_root_of(root: Path, default: Path, rows: Rows) -> Path:
    """The folder in which media must be: the one that the rows name, else that of the table."""
    return existing(root, rows.media_root, "media_root") if rows.media_root else default
