"""The images and videos of a row: where it names them, how they are written, and those that nothing would read."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from data_engine.media.frame_folder import film_of, frames_in
from data_engine.media.remote import Remote, fetched
from data_engine.sources.base import RowError, existing
from mmrl.core.media.files import MediaError, look_at, resolve
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.media.kept import suffix_of
from rewards.tasks.keys import listed

MEDIA_COLUMNS = ("image", "images", "video", "videos", "media")
IMAGES = ("jpg", "jpeg", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "jp2", "avif")
VIDEOS = ("mp4", "m4v", "webm", "mkv", "mov", "avi", "flv", "ts", "mpg", "mpeg", "ogv", "wmv", "3gp")
NAMES = "media_names"  # the key of meta for file names that neither a path nor a hash keeps

SOUNDS = ("wav", "mp3", "flac", "ogg", "m4a", "aac", "opus")

DATA_URI = re.compile(r"data:(?:image|video)/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-3])[A-Za-z0-9+/\s]{96,}=*\s*")  # of a picture's first bytes
MEDIA_WORDS = re.compile(r"images?|imgs?|pictures?|pics?|photos?|frames?|videos?|vid|clips?|screenshots?")
OTHER_WORDS = re.compile(
    r"paths?|files?|filenames?|names?|ids?|uid|keys?|urls?|uri|links?|bytes|base64|data|src|local|\d+"
)


@dataclass(frozen=True, slots=True)
class MediaForm:
    """How a table names its media, and where they must be."""

    root: Path  # where relative paths start, and all must lie
    remote: Remote | None = None
    extension: str = ""  # of names without the suffix of a format
    frame_rate: float | None = None  # of folders of frames that are videos
    links: tuple[Path, ...] = ()  # other folders into which links may lead


class Shown(NamedTuple):
    """A media item, and the name under which the row has it, "" if it has none."""

    media: Media
    name: str = ""


def media_of(row: Mapping[str, Any], form: MediaForm) -> Iterator[Shown]:
    """The images and then the videos of a row; or its `media`, in the order given there."""
    kinds: tuple[MediaKind, ...] = ("image", "video")
    entries: list[tuple[MediaKind, Any]] = [
        (kind, entry) for kind in kinds for name in (kind, f"{kind}s") for entry in _listed(row.get(name, []))
    ]
    for entry in _listed(row.get("media", [])):
        if not isinstance(entry, Mapping) or entry.get("kind") not in ("image", "video"):
            raise RowError("bad_media", f"an entry of media needs kind: image or video, got {entry!r:.80}")
        entries.append((entry["kind"], entry))
    for kind, entry in entries:
        own = entry if isinstance(entry, Mapping) else {}
        fields = {**row, **{name: value for name, value in own.items() if value is not None}}
        for media, name in _items(kind, entry, form):
            cut = {"start": _second(fields.get("start")), "end": _second(fields.get("end"))} if kind == "video" else {}
            yield Shown(replace(media, **cut), name)


def kept_names(shown: Collection[Shown], others: Collection[str] = ()) -> dict[str, list[str]]:
    """The entry of meta with the names of pictures that come as bytes, or lie under another name: ids of public
    datasets are in them, and leaks are found by these."""
    paths = {PurePath(item.path).name for item, _ in shown if item.path}
    names = [
        name for name in dict.fromkeys([*(name for _, name in shown), *others]) if PurePath(name).name not in paths
    ]
    return {NAMES: kept} if (kept := list(filter(None, names))) else {}


def unread(
    values: Mapping[Any, Any],
    read: Collection[str],
    shown: Collection[Shown],
    form: MediaForm | None = None,
    right: str = "",
) -> list[str]:
    """The names of media that columns outside of `read` hold beside those that are shown.

    RowError if one of these columns holds a picture or video that nothing shows: the row would lose it without a word.
    `right` says what to do. Without a `form` it is unknown which files exist.
    """
    names: list[str] = []
    for column, value in values.items():
        hidden = column == "meta" and not shown  # it is kept, and shows nothing
        if (column in read and not hidden) or value is None or value in ("", []):
            continue
        if not shown and _is_sound(value):
            raise RowError("unread_media", f"column {column} holds a sound, which is not read; list it in rows.ignore")
        if isinstance(value, str) and _names_media(value) and not DATA_URI.match(value):
            names.append(value)
        if _is_lost(str(column), value, shown, form):
            ours = "video" if _words(str(column)) & {"video", "videos", "vid", "clip", "clips"} else "image"
            field = (
                next((f".{key}" for key, inner in value.items() if _names_media(inner)), "")
                if isinstance(value, Mapping)
                else ""
            )
            right = right or f"name it in rows.columns ({ours}: {column}{field}), or list it in rows.ignore"
            raise RowError("unread_media", f"column {column} holds {_short(value)}, which nothing would show; {right}")
    return names


def _is_lost(column: str, value: Any, shown: Collection[Shown], form: MediaForm | None) -> bool:
    if not shown:
        return _names_media(value) or (_is_media_name(column) and isinstance(value, str | int | bytes | list | Mapping))
    if re.search(r"\d$", column) and _is_media_name(column) and _names_media(value):
        return True  # image_2 beside image
    if isinstance(value, str) and not DATA_URI.match(value):
        return _names_media(value) and not _is_shown(value, shown) and _exists(value, form)
    contents = {item.bytes for item, _ in shown}
    parts = value.values() if isinstance(value, Mapping) else [value]
    return any(isinstance(part, bytes) and bool(suffix_of(part)) and part not in contents for part in parts)


def _is_shown(name: str, shown: Collection[Shown]) -> bool:
    known = {PurePath(own).name for item, named in shown for own in (item.path, named) if own}
    return PurePath(name.replace("\\", "/")).name in known


def _exists(name: str, form: MediaForm | None) -> bool:
    try:
        return form is not None and bool(resolve(name, form.root, form.links))
    except MediaError:
        return False


def _names_media(value: Any) -> bool:
    """Whether a value is a picture or video, or reads like the name of one."""
    if isinstance(value, bytes):
        return bool(suffix_of(value))
    if isinstance(value, Mapping):
        return any(_names_media(inner) for inner in value.values())
    if isinstance(value, list):
        return any(map(_names_media, value[:8]))
    if not isinstance(value, str):
        return False
    if DATA_URI.match(value) or BASE64.match(value):
        return True
    return len(value) < 1024 and "\n" not in value and _has_suffix(value.partition("?")[0])


def _is_media_name(column: str) -> bool:
    """Whether a column is called like `image_path`, `imageId`, `img2`, `vid`."""
    words = _words(column)
    media = {word for word in words if MEDIA_WORDS.fullmatch(word)}
    return bool(media) and all(OTHER_WORDS.fullmatch(word) for word in words - media)


def _words(column: str) -> set[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()
    return set(re.findall(r"[a-z]+|\d+", apart.replace("base64", "bytes")))


def _has_suffix(name: str) -> bool:
    return PurePath(name).suffix.lower()[1:] in (*IMAGES, *VIDEOS)


def _is_sound(value: Any) -> bool:
    """Whether a value is the name of a sound, or holds one."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    named = isinstance(value, str) and len(value) < 1024 and PurePath(value).suffix.lower()[1:] in SOUNDS
    return named or any(map(_is_sound, inner))


def _items(kind: MediaKind, entry: Any, form: MediaForm) -> Iterator[Shown]:
    """The items of a path, of bytes, or of an object with one of the two and declared measures."""
    path, content = (entry.get("path"), entry.get("bytes")) if isinstance(entry, Mapping) else (entry, entry)
    declared = _declared(entry) if isinstance(entry, Mapping) else {}
    if isinstance(content, bytes):
        yield Shown(Media(kind, bytes=content, **declared), path if isinstance(path, str) else "")
        return
    if form.extension and type(path) is int:
        path = str(path)
    if not isinstance(path, str):
        raise RowError("bad_media", f"expected the path of a file, or an object with path or bytes, got {entry!r:.80}")
    if DATA_URI.match(path) or BASE64.match(path):
        yield Shown(Media(kind, bytes=_decoded(path), **declared))
    elif form.remote and path.startswith(("http://", "https://")):
        yield Shown(Media(kind, path=str(fetched(path, form.remote)), **declared), path)
    elif not path or "\0" in path or not os.path.isdir(form.root / path):
        name = f"{path}.{form.extension}" if form.extension and not _has_suffix(path) else path
        yield Shown(Media(kind, path=str(resolve(name, form.root, form.links)), **declared), name)
    else:
        yield from _folder(kind, path, form)


def _folder(kind: MediaKind, path: str, form: MediaForm) -> Iterator[Shown]:
    """The pictures of a folder of frames: each for itself, or as one video."""
    look_at(form.root / path)
    names = [f"{path}/{name}" for name in frames_in(form.root / path, IMAGES)]
    files = [resolve(name, form.root, form.links) for name in names]
    if not files:
        raise RowError("bad_media", f"{path} is a folder without pictures; name a file, or a folder of frames")
    if kind == "image":
        yield from (Shown(Media("image", path=str(file)), name) for file, name in zip(files, names, strict=True))
    elif form.frame_rate is None:
        raise RowError("bad_media", f"{path} is a folder of frames; say how many a second: rows.frame_rate")
    else:
        yield Shown(Media("video", bytes=film_of(files, form.frame_rate)), path)


def _decoded(text: str) -> bytes:
    """The content of a data URI or of plain base64."""
    try:
        return base64.b64decode("".join(DATA_URI.sub("", text, count=1).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError("bad_media", f"the text {text[:40]!r}... is not base64: {error}") from None


def _declared(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The measures of a file that a source declares; `validate` compares them with the measured ones."""
    named = {name: entry.get(name) for name in ("width", "height", "num_frames", "duration")}
    return {name: value for name, value in named.items() if type(value) is int or type(value) is float}


def _second(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RowError("bad_media", f"start and end of a video are seconds, got {value!r:.80}")
    return value


def _short(value: Any) -> str:
    content = value.get("bytes") if isinstance(value, Mapping) else value
    return f"{len(content)} bytes" if isinstance(content, bytes) else f"{value!r:.80}"


def _listed(value: Any) -> list[Any]:
    value = listed(value)
    return value if isinstance(value, list) else [value]


def link_folders(links: Collection[str], root: Path) -> tuple[Path, ...]:
    """The folders of the option `links`, which must exist."""
    return tuple(existing(root, link, "folder of links") for link in links)
