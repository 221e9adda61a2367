"""Broken media made from real ones by seed: cuts, flips, lies in headers, bombs. And a judge of them with limits."""

from __future__ import annotations

import io
import multiprocessing
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.ops.validate import validate
from data_engine.schema import Sample, user_prompt
from mmrl.core.media.item import Media
from tests.support.clips import write_audio, write_clip

DEADLINE = 60.0  # seconds on the clock after which a file counts as a hang and its process is ended


class Ending(NamedTuple):
    """How a file ended: `kept`, a reason code, or `hang`, `crash`, `raised NAME`; and after how many seconds of
    work: on a busy machine the clock tells more about the others."""

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
    rng, names = random.Random(seed), sorted(files)
    for number in range(count):
        name = names[number % len(names)]
        kind = rng.choice(sorted(FAULTS))
        yield f"{number}-{kind}-{name}", FAULTS[kind](files[name], rng)


def bombs() -> Iterator[tuple[str, bytes]]:
    """(name, content) of small files that promise to be endless, or that are not media at all."""
    return ((name, made()) for name, made in BOMBS.items())


def judged(files: Iterable[tuple[str, bytes]], folder: Path) -> tuple[list[Ending], float]:
    """(how each file ended in the operator `validate`, the most megabytes that a process of it held)."""
    context = multiprocessing.get_context("spawn")
    endings, worker, most = list[Ending](), None, 0.0
    for name, content in files:
        path = folder / name
        path.write_bytes(content)
        process, ours = worker = worker or _started(context)
        ours.send(path)
        try:
            verdict, seconds, held = ours.recv() if ours.poll(DEADLINE) else ("hang", DEADLINE, 0.0)
        except EOFError:
            verdict, seconds, held = "crash", 0.0, 0.0
        endings.append(Ending(name, verdict, seconds))
        most = max(most, held)
        if verdict in ("hang", "crash"):
            process.kill()
            worker = None
        path.unlink()
    if worker:
        worker[0].kill()
    return endings, most


def _started(context: SpawnContext) -> tuple[SpawnProcess, Any]:
    """A process that judges the files named to it one after the other, as long as it lives."""
    ours, theirs = context.Pipe()
    process = context.Process(target=_judge, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _judge(pipe: Connection) -> None:
    while True:
        path = pipe.recv()
        media = Media("image" if path.suffix in Image.registered_extensions() else "video", path=str(path))
        prompt = user_prompt("Is it day?", [media.kind])
        started = time.process_time()
        try:
            outcome = validate(Sample("", "broken", "yesno", prompt, {"yesno": True}, (media,)))
            verdict = "kept" if isinstance(outcome, Sample) else outcome.reason
        except Exception as error:  # what must not happen, and is reported
            verdict = f"raised {type(error).__name__}"
        pipe.send((verdict, time.process_time() - started, _held()))


def _held() -> float:
    """The most megabytes that this process held at once."""
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage would count what its parent held
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


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
    packed = zlib.compress(bytes(rows * (1 + -(-width * channels * depth // 8))), 1)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", packed),
        (b"IEND", b""),
    ]
    body = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def scanned(side: int, passes: int) -> bytes:
    """A progressive JPEG that asks for so many more passes over a grey picture."""
    content = _encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=10)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * passes + content[-2:]


def canvas(width: int, height: int) -> bytes:
    """A GIF of one pixel whose header says another size."""
    content = _encoded(Image.new("P", (1, 1)), "GIF")
    return content[:6] + struct.pack("<HH", width, height) + content[10:]


def looped() -> bytes:
    """A TIFF whose table of pages leads back to itself."""
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)


BOMBS: dict[str, Callable[[], bytes]] = {
    "large.png": lambda: png(40_000, 40_000, 10),
    "longest.png": lambda: png(2**31 - 1, 1, 0),
    "limit.png": lambda: png(9_000, 9_900, 9_900),  # just allowed: 89 million pixels out of 1 MB
    "limit-alpha.png": lambda: png(9_000, 9_900, 9_900, colour=6),
    "limit-deep.png": lambda: png(9_000, 9_900, 9_900, depth=16, colour=0),
    "lying.png": lambda: png(9_000, 9_900, 10),
    "scans.jpg": lambda: scanned(6_000, 20_000),
    "scans-limit.jpg": lambda: scanned(3_000, 50),
    "canvas.gif": lambda: canvas(65_535, 65_535),
    "canvas-limit.gif": lambda: canvas(9_000, 9_900),
    "looped.tif": looped,
    "nothing.jpg": lambda: b"",
    "byte.mp4": lambda: b"\0",
    "boxes.mp4": lambda: b"\0\0\0\x08free" * 200_000,
    "playlist.mp4": lambda: b"#EXTM3U\n#EXTINF:2,\n/etc/hosts\n#EXT-X-ENDLIST\n",
    "script.avi": lambda: b"ffconcat version 1.0\nfile /etc/hosts\n",
    "postscript.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
}
