"""Broken media made from real ones by seed: cuts, flips, lies in headers, bombs. And a judge of them with limits."""

from __future__ import annotations

import io
import multiprocessing
import random
import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.media import MediaError
from data_engine.schema import Media
from data_engine.validate_media import inspected
from tests.clips import write_audio, write_clip

DEADLINE = 20.0  # seconds after which a file counts as a hang and its process is ended


class Ending(NamedTuple):
    """What became of a file: `sound`, a reason code, or `hang`, `crash`, `raised NAME`; and after how many seconds."""

    name: str
    verdict: str
    seconds: float


def originals(folder: Path) -> dict[str, bytes]:
    """Real files of every format, name -> content."""
    photo = Image.fromarray(load_sample_image("china.jpg")).crop((100, 50, 340, 210))
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [photo.rotate(90 * turn) for turn in (1, 2)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "a.jpg": _encoded(photo, "JPEG", exif=exif),
        "progressive.jpg": _encoded(photo, "JPEG", progressive=True),
        "cmyk.jpg": _encoded(photo.convert("CMYK"), "JPEG"),
        "a.png": _encoded(photo, "PNG"),
        "alpha.png": _encoded(photo.convert("RGBA"), "PNG"),
        "deep.png": _encoded(deep, "PNG"),
        "moving.png": _encoded(photo, "PNG", **frames),
        "moving.gif": _encoded(photo.convert("P"), "GIF", save_all=True, append_images=[photo.convert("P")] * 2),
        "a.webp": _encoded(photo, "WEBP"),
        "moving.webp": _encoded(photo, "WEBP", **frames),
        "a.bmp": _encoded(photo, "BMP"),
        "a.tif": _encoded(photo, "TIFF", compression="tiff_lzw"),
        "pages.tif": _encoded(photo, "TIFF", **frames),
        "a.jp2": _encoded(photo, "JPEG2000"),
        "a.avif": _encoded(photo, "AVIF"),
        "a.ppm": _encoded(photo, "PPM"),
    }
    small = {"g": "6", "bf": "2"}
    clips = [
        write_clip(folder / "a.mp4", 25),
        write_clip(folder / "fast.mp4", 25, mux_options={"movflags": "faststart"}),
        write_clip(folder / "pieces.mp4", 25, mux_options={"movflags": "frag_keyframe+empty_moov"}),
        write_clip(folder / "turned.mov", 25, rotation=90),
        write_clip(folder / "a.mkv", 25, codec_options=small),
        write_clip(folder / "a.webm", 12, codec="libvpx-vp9", codec_options={"deadline": "realtime"}),
        write_clip(folder / "a.avi", 25, codec="mpeg4"),
        write_clip(folder / "a.ts", 25),
        write_clip(folder / "a.flv", 25),
        write_audio(folder / "sound.mp4"),
    ]
    return {**pictures, **{clip.name: clip.read_bytes() for clip in clips}}


def broken(files: dict[str, bytes], count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(name, content) of `count` broken files; the same for the same seed."""
    rng = random.Random(seed)
    yield from BOMBS.items()
    names = sorted(files)
    for number in range(count - len(BOMBS)):
        name = names[number % len(names)]
        kind = rng.choice(sorted(FAULTS))
        yield f"{number}-{kind}-{name}", FAULTS[kind](files[name], rng)


def judged(files: Iterator[tuple[str, bytes]], folder: Path) -> tuple[list[Ending], int]:
    """(what became of each file, the most memory in kB that its process used), one process as long as it lives."""
    endings, context, worker, peak = [], multiprocessing.get_context("spawn"), None, 0
    for name, content in files:
        path = folder / name
        path.write_bytes(content)
        if worker is None or not worker[0].is_alive():
            ours, theirs = context.Pipe()
            worker = (context.Process(target=_judge, args=(theirs,), daemon=True), ours)
            worker[0].start()
            theirs.close()
            ours.recv()  # it has started
        process, ours = worker
        started = time.perf_counter()
        ours.send(path)
        try:
            verdict, peak_now = ours.recv() if ours.poll(DEADLINE) else ("hang", 0)
        except EOFError:
            verdict, peak_now = "crash", 0
        endings.append(Ending(name, verdict, time.perf_counter() - started))
        peak = max(peak, peak_now)
        if verdict in ("hang", "crash"):
            process.kill()
            process.join()
        path.unlink()
    if worker:
        worker[0].kill()
    return endings, peak


def _judge(pipe: Connection) -> None:
    pipe.send("ready")
    while True:
        path = pipe.recv()
        kind = "image" if path.suffix in Image.registered_extensions() else "video"
        try:
            inspected(Media(kind, path=str(path)))
            verdict = "sound"
        except MediaError as error:
            verdict = error.reason
        except Exception as error:  # what must not happen, and is reported
            verdict = f"raised {type(error).__name__}"
        pipe.send((verdict, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _flip(content: bytes, rng: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(rng.choice((1, 4, 64))):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def _lie(content: bytes, rng: random.Random) -> bytes:
    """Extreme numbers among the first bytes, or the last, where many formats keep their tables."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 3))):
        width = rng.choice((1, 2, 4))
        near = rng.randrange(4, min(600, len(made) - 8))
        at = near if rng.random() < 0.7 else len(made) - near - 4
        made[at : at + width] = rng.choice((b"\xff" * width, b"\0" * width, b"\x7f" + b"\xff" * (width - 1)))
    return bytes(made)


def _hole(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + bytes(rng.randrange(1, 4000)) + content[start + rng.randrange(1, 4000) :]


def _twice(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start // 2 :]


def _noise(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(min(64, len(content)))
    return content[:start] + rng.randbytes(rng.randrange(1, 5000))


FAULTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "flip": _flip,
    "lie": _lie,
    "hole": _hole,
    "twice": _twice,
    "noise": _noise,
}


def png(width: int, height: int, rows: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header says one size, with the pixels of so many rows, all black."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packed = zlib.compress(bytes(rows * (1 + width * channels * depth // 8)), 9)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    ]
    body = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


BOMBS = {
    "large.png": png(40_000, 40_000, 10),
    "longest.png": png(2**31 - 1, 1, 0),
    "limit.png": png(9_000, 9_900, 9_900),  # just allowed: 89 million pixels out of 260 kB
    "limit-alpha.png": png(9_000, 9_900, 9_900, colour=6),
    "limit-deep.png": png(9_000, 9_900, 9_900, depth=16, colour=0),
    "lying.png": png(9_000, 9_900, 10),
    "nothing.jpg": b"",
    "byte.mp4": b"\0",
    "boxes.mp4": b"\0\0\0\x08free" * 200_000,
    "playlist.mp4": b"#EXTM3U\n#EXTINF:2,\n/etc/hosts\n#EXT-X-ENDLIST\n",
    "script.avi": b"ffconcat version 1.0\nfile /etc/hosts\n",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
}
