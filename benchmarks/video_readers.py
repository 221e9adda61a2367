"""Video readers side by side: right frames, speed, memory, broken files and installed size.

    python -m benchmarks.video_readers [--quick] [--clips FILE ...] [--json FILE]

Ours is `load_video` with PyAV, with all its checks, and with decord as an option; the others are decord and torchcodec
as they come (`pip install decord torchcodec`; torchcodec also loads FFmpeg's shared libraries). Each takes 8 frames
spread over a clip, in one thread, in turn; times are of the processor, with their ratio to ours. A frame is right if it
is bit for bit the one that decoding the whole file from its start gives, as it is to be shown. The clips without
`--clips`: one of each kind that a reader gets wrong, and a long one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import parser_of, save
from mmrl.core.media.files import MediaError
from mmrl.core.media.frames import frame_table, rgb
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from mmrl.core.media.video import load_frames, load_video
from mmrl.core.vision import VisionBudget
from tests.support.broken import broken
from tests.support.clips import cut_at_start, write_clip

FRAMES = 8
BUDGET = VisionBudget(min_frames=FRAMES, max_frames=FRAMES, total_pixels=10**9)
DEADLINE = 20.0  # seconds after which a reader hangs
PACKAGES = {"ours (PyAV)": "av", "ours (decord)": "decord", "decord": "decord", "torchcodec": "torchcodec"}

Frames = np.ndarray  # uint8 [T, height, width, 3]


def ours(media: Media, indices: Sequence[int]) -> Frames:
    return load_video(media, BUDGET, reader="pyav").frames


def ours_decord(media: Media, indices: Sequence[int]) -> Frames:
    return load_video(media, BUDGET, reader="decord").frames


def decord(media: Media, indices: Sequence[int]) -> Frames:
    from decord import VideoReader

    reader = VideoReader(media.path, num_threads=1)
    return reader.get_batch(list(indices) or spread(len(reader))).asnumpy()


def torchcodec(media: Media, indices: Sequence[int]) -> Frames:
    from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]

    decoder = VideoDecoder(media.path, dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at(list(indices) or spread(len(decoder))).data.numpy()


def spread(count: int) -> list[int]:
    """Places of frames spread over so many."""
    return np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int).tolist()


READERS: dict[str, Callable[[Media, Sequence[int]], Frames]] = {
    "ours (PyAV)": ours,
    "ours (decord)": ours_decord,
    "decord": decord,
    "torchcodec": torchcodec,
}


def clips(folder: Path, frames: int) -> list[Path]:
    """A long clip, and one of each kind that a reader may get wrong."""
    groups = {"x264-params": "open-gop=1:keyint=12:bframes=3"}
    small = write_clip(folder / "plain.mp4", codec_options={"g": "20", "bf": "2"})
    return [
        write_clip(folder / "long.mp4", frames, size=(320, 240), codec_options={"g": "50"}),
        small,
        write_clip(folder / "open-groups.mp4", codec_options=groups),
        cut_at_start(small, folder / "edit-list.mp4", 0.5),
        write_clip(folder / "ten-bits.mp4", pixel_format="yuv420p10le"),
        write_clip(folder / "vp9.webm", codec="libvpx-vp9", codec_options={"deadline": "realtime"}),
        write_clip(folder / "turned.mp4", rotation=90),
    ]


def from_start(path: Path, indices: Sequence[int]) -> list[Frames]:
    """The frames at `indices` by decoding the whole file."""
    table, wanted = frame_table(path), set(indices)
    with av.open(str(path)) as container:
        kept = {i: rgb(frame, table, path) for i, frame in enumerate(container.decode(video=0)) if i in wanted}
    return [kept[i] for i in indices]


def difference(left: Frames, other: Frames) -> int:
    """The largest difference of two frames, of 255; 255 for those of other sizes."""
    return int(np.abs(left.astype(int) - other).max()) if left.shape == other.shape else 255


def measured(path: Path, readers: Sequence[str], rounds: int) -> dict[str, Any]:
    """Of each reader: the share of right frames, by how many of 255 levels the worst is off, the median milliseconds of
    processor time, and the megabytes that it took."""
    media, row = probe(path), {}
    indices = load_frames(media, FRAMES).indices
    truth = from_start(path, indices)
    seconds = {name: list[float]() for name in readers}
    for _ in range(rounds):
        for name in readers:
            begun = time.process_time()
            frames = READERS[name](media, indices)
            seconds[name].append(time.process_time() - begun)
            off = [difference(*pair) for pair in zip(frames, truth, strict=True)]
            row[name] = {"right": off.count(0) / len(off), "off": max(off)}
    for name in readers:
        (answer,) = answers(name, [(media, indices)])
        row[name] |= {"ms": 1000 * statistics.median(seconds[name]), "megabytes": answer[1]}
    return row


def answers(name: str, questions: Sequence[tuple[Media, Sequence[int]]]) -> list[tuple[str, float]]:
    """(outcome, megabytes above those of the idle process) of each question, in a process that may die. Without indices
    the file may be broken: ours probes it first, the others choose frames by the count that they report."""
    context, made, worker = multiprocessing.get_context("spawn"), list[tuple[str, float]](), None
    for question in questions:
        if worker is None:
            pipe, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(name, theirs), daemon=True)
            worker.start()
            theirs.close()
            pipe.recv()
        pipe.send(question)  # pyright: ignore[reportPossiblyUnboundVariable]
        try:
            made.append(pipe.recv() if pipe.poll(DEADLINE) else ("hangs", 0.0))  # pyright: ignore[reportPossiblyUnboundVariable]
        except EOFError:
            made.append(("dies", 0.0))
        if made[-1][0] in ("hangs", "dies"):
            worker.kill()
            worker = None
    if worker:
        worker.kill()
    return made


def _work(name: str, pipe: Connection) -> None:
    _silence(name)
    idle = _held()
    pipe.send("ready")
    while True:
        media, indices = pipe.recv()
        try:
            if not indices and name.startswith("ours"):
                media = probe(media.path, "video")  # as the data engine does with any file
            outcome = "gives frames" if len(READERS[name](media, indices)) else "gives nothing"
        except MediaError:
            outcome = "refuses"
        except Exception as error:  # of readers that have no word for it
            outcome = "refuses" if name in ("decord", "torchcodec") else f"raises {type(error).__name__}"
        pipe.send((outcome, _held() - idle))


def _silence(name: str) -> None:
    """Load the reader before memory is counted, and drop what FFmpeg prints."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if name != "ours (PyAV)":
        importlib.import_module(PACKAGES[name])


def _held() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def megabytes_of(package: str) -> float:
    """The installed size of a distribution; what it depends on is not counted."""
    files = importlib.metadata.files(package) or []
    return sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).is_file()) / 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the rows."""
    parser = parser_of(__doc__, "a shorter clip, five rounds and 20 broken files")
    parser.add_argument("--clips", nargs="*", type=Path, help="measure these instead")
    options = parser.parse_args(argv)
    frames, rounds, count = (600, 5, 20) if options.quick else (6000, 15, 200)
    readers = [name for name in READERS if importlib.util.find_spec(PACKAGES[name])]
    console = Console()
    for name in READERS.keys() - readers:
        console.print(f"{name} is missing: pip install {PACKAGES[name]}")
    with tempfile.TemporaryDirectory() as made:
        paths = options.clips or clips(Path(made), frames)
        rows = {path.name: measured(path, readers, rounds) for path in paths}
        whole = {path.name: path.read_bytes() for path in paths if path.stat().st_size < 2**20}
        files = []
        for name, content in broken(whole, count):
            (Path(made) / name).write_bytes(content)
            files.append(Media("video", path=str(Path(made) / name)))
        endings = {name: Counter(end for end, _ in answers(name, [(file, ()) for file in files])) for name in readers}
    sizes = {name: megabytes_of(PACKAGES[name]) for name in readers}
    table = Table("clip: 8 frames", *readers)
    for clip, row in rows.items():
        base = row["ours (PyAV)"]["ms"]
        cells = [row[name] for name in readers]
        right = ["right" if cell["right"] == 1 else f"{cell['right']:.0%} right, off {cell['off']}" for cell in cells]
        speeds = [f"{cell['ms']:.1f} ms ({cell['ms'] / base:.2f})" for cell in cells]
        room = [f"{cell['megabytes']:.0f} MB" for cell in cells]
        table.add_row(clip, *map(", ".join, zip(speeds, right, room, strict=True)))
    table.add_row(f"{count} broken", *(", ".join(f"{n} {end}" for end, n in endings[r].most_common()) for r in readers))
    table.add_row("installed MB", *(f"{sizes[name]:.0f}" for name in readers))
    console.print(table)
    save({"clips": rows, "broken": endings, "installed": sizes}, options.json)


if __name__ == "__main__":
    main()
