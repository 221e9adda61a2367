"""A recipe of 100,000 samples on 20,000 pictures without a model stage, on two cores: time and memory.

    python -m benchmarks.recipe [--quick] [--json FILE]

Five questions about each of 20,000 JPEG files of 448x336 (stretches of two photographs) go through all checks, measures
with thresholds, verification of their gold answers, exact and near duplicates, a split by picture, a quota and a
shuffle. The target is under 5 minutes and under 2 GB; memory is the peak of the sum over all processes of the run.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image

from benchmarks.rounds import parser_of, save
from data_engine.dataset.shards import read_manifest

SECONDS, MEGABYTES = 300, 2000
PER_PICTURE = 5
SIZE = (448, 336)
RECIPE = {
    "sources": [{"fn": "jsonl", "args": {"path": "rows.jsonl"}, "licence": "cc-by-4.0"}],
    "operators": [
        {"fn": "validate"},
        {"fn": "min_side", "args": {"pixels": 56}},
        {"fn": "max_aspect"},
        {"fn": "text_length"},
        {"fn": "min_entropy"},
        {"fn": "max_vision_tokens", "args": {"tokens": 1280}},
        {"fn": "verifiable"},
        {"fn": "exact_duplicates"},
        {"fn": "near_duplicates"},
        {"fn": "split", "args": {"shares": {"train": 0.95, "test": 0.05}}},
        {"fn": "cap_media", "args": {"n": 4}},
        {"fn": "shuffle"},
    ],
}


def write_raw(folder: Path, samples: int) -> None:
    """Pictures, and a table of questions about them."""
    draw, whole = random.Random(0), [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    (folder / "images").mkdir()
    with (folder / "rows.jsonl").open("w") as table:
        for number in range(samples // PER_PICTURE):
            side = draw.uniform(0.3, 0.95)
            width, height = int(560 * side), int(420 * side)
            x, y = draw.randrange(640 - width), draw.randrange(427 - height)
            picture = whole[number % 2].crop((x, y, x + width, y + height)).resize(SIZE)
            picture.save(folder / "images" / f"{number}.jpg", quality=85)
            for question in range(PER_PICTURE):
                row = {"image": f"images/{number}.jpg", **_question(number, question, draw)}
                table.write(json.dumps(row) + "\n")


def _question(number: int, question: int, draw: random.Random) -> dict[str, object]:
    if question == 0:
        return {
            "task": "yesno",
            "question": f"Is part {number} of the picture bright?",
            "answer": draw.choice(["yes", "no"]),
        }
    if question == 1:
        options = ["a temple", "a flower", "a boat", "a cat"]
        asked = "What does it show?\nA. a temple\nB. a flower\nC. a boat\nD. a cat"
        return {"task": "choice", "question": asked, "options": options, "answer": number % 2}
    if question == 2:
        x, y = draw.randrange(300), draw.randrange(200)
        return {"task": "grounding", "question": f"Where is detail {number}?", "boxes": [x, y, x + 90, y + 80]}
    if question == 3:
        return {"task": "count", "question": f"How many edges has detail {number}?", "answer": draw.randrange(1, 20)}
    return {"task": "text", "question": f"What is written on sign {number}?", "answer": f"word {draw.randrange(10**6)}"}


def measured(folder: Path, workers: int) -> tuple[float, float, str]:
    """(seconds, peak megabytes of all processes together, the stage report of the run)."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    command = [sys.executable, "-m", "data_engine", "build", str(folder / "recipe.yaml"), f"root={folder}"]
    since, peak = time.perf_counter(), 0.0
    options = [f"--workers={workers}", f"--out={folder / 'out'}"]
    with (folder / "report").open("w+") as report:
        started = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=report)
        while started.poll() is None:
            peak = max(peak, _megabytes(psutil.Process(started.pid)))
            time.sleep(0.2)
        report.seek(0)
        text = report.read()
    if started.returncode:
        raise SystemExit(text)
    return time.perf_counter() - since, peak, text


def _megabytes(process: psutil.Process) -> float:
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows."""
    parser = parser_of(__doc__, "5,000 samples; the promise is scaled down with them")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(argv)
    n = 5_000 if options.quick else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_raw(folder, n)
        seconds, peak, stages = measured(folder, options.workers)
        counts = read_manifest(folder / "out")["counts"]
    console = Console()
    console.print(stages.strip(), markup=False)
    console.print(f"{counts['in']:,} in, {counts['kept']:,} kept, dropped {counts['dropped']}", markup=False)
    rows = [
        {"case": f"recipe of {n:,} samples", "ours": seconds, "peer": SECONDS * n / 100_000, "unit": "s", "n": n},
        {"case": f"memory of {n:,} samples", "ours": peak, "peer": float(MEGABYTES), "unit": "MB", "n": n},
    ]
    table = Table("case", "mmrl", "promise: under", "unit")
    for row in rows:
        row["ratio"] = row["peer"] / row["ours"]
        table.add_row(row["case"], f"{row['ours']:,.1f}", f"{row['peer']:,.0f}", row["unit"])
    console.print(table)
    save(rows, options.json)


if __name__ == "__main__":
    main()
