"""Metadata, exact and perceptual hashes of JPEG files, one core, against imagededup's PHash.

    python -m benchmarks.images [--quick] [--json FILE]

Ours reads the size, the SHA-256 and both hashes of the fingerprint; imagededup (`pip install imagededup`) only its
64-bit hash. The files are stretches of two photographs at 1024x768, quality 90; the two take turns.
"""

from __future__ import annotations

import importlib
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image

from benchmarks.rounds import compared, parser_of, report
from data_engine.similar.image_hash import fingerprint
from mmrl.core.media.probe import probe


def write_photos(folder: Path, count: int) -> list[Path]:
    """JPEG files of 1024x768."""
    draw, whole = random.Random(0), [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        x, y = draw.randrange(128), draw.randrange(43)
        whole[number % 2].crop((x, y, x + 512, y + 384)).resize((1024, 768)).save(path, quality=90)
    return paths


def ours(paths: Sequence[Path]) -> None:
    for path in paths:
        fingerprint(probe(path, "image", validate=False))


def imagededup(paths: Sequence[Path]) -> Callable[[], object]:
    try:
        method = importlib.import_module("imagededup.methods").PHash(verbose=False)
    except ImportError as error:
        raise SystemExit(f"{error}; the peer of this benchmark is imagededup: pip install imagededup") from None
    return lambda: [method.encode_image(image_file=path) for path in paths]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    options = parser_of(__doc__, "100 files and three rounds").parse_args(argv)
    count, rounds = (100, 3) if options.quick else (500, 5)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photos(Path(folder), count)
        row = compared("hashes 1024x768", lambda: ours(paths), imagededup(paths), count, rounds, unit="images/s")
    report([row], options.json)


if __name__ == "__main__":
    main()
