"""Stages on disk: finished work is not repeated, after a kill or in another run, and the bytes stay the same."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.cache_keys import stage_key
from data_engine.code_version import version_of
from data_engine.dataset.shards import read_samples
from data_engine.engine.chunks import ROWS, Chunks
from data_engine.engine.map_stage import CHANGED_BY
from data_engine.engine.pipeline import run
from data_engine.recipe import Recipe
from mmrl.core.config import InputError, validate
from rewards.registry import Call
from tests.data_engine.test_pipeline import counting, digests, recipe

ROOT = Path(__file__).parents[2]


def logged(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the operator `noted` writes."""
    monkeypatch.setenv("NOTED", str(tmp_path / "log"))
    return tmp_path / "log"


NOTED = {"fn": "tests.support.lab:noted"}


def test_kept_stages_are_reused_and_changed_ones_rerun(tmp_path: Path, log: Path) -> None:
    def built(*operators: Any, **fields: Any) -> list[str]:
        run(counting(NOTED, *operators, n=600, cache=str(tmp_path / "cache"), **fields), out=tmp_path / "out")
        done = logged(log)
        log.unlink(missing_ok=True)
        return done

    assert len(built()) == 600
    before = digests(tmp_path / "out")
    assert built() == []
    assert digests(tmp_path / "out") == before
    assert built({"fn": "sample", "args": {"n": 50}}) == []  # what stands before a change is kept
    assert built(seed=1) == []  # the seed is an option of others


def test_a_source_is_read_again_when_a_file_changes(tmp_path: Path) -> None:
    def built() -> Counter[str]:
        source = {"fn": "jsonl", "args": {"path": "rows.jsonl"}}
        return run(recipe(sources=[source], root=tmp_path, cache=str(tmp_path / ".cache")), out=tmp_path / "out").kept

    rows = [{"question": f"{n}?", "task": "yesno", "answer": "yes", "image": f"{n}.png"} for n in range(2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    picture = Image.fromarray(load_sample_image("china.jpg"))
    picture.save(tmp_path / "0.png")
    assert built() == {"jsonl": 1}
    picture.save(tmp_path / "1.png")  # it was looked for, and not there
    assert built() == {"jsonl": 2}
    picture.resize((100, 90)).save(tmp_path / "1.png")
    assert built() == {"jsonl": 2}
    assert {sample.media[0].width for sample in read_samples(tmp_path / "out")} == {640, 100}
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    assert built() == {"jsonl": 1}


def test_what_options_name_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_rewards.py").write_text("def strict(rollouts): return [0.0] * len(rollouts)")
    (tmp_path / "table.json").write_text("{}")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text("{}")
    call = Call.model_validate({"fn": "my_rewards:strict", "args": {"table": "table.json"}})
    args = {"rewards": {"text": call}, "model": "clip", "about": "a prompt. " * 100}

    def key() -> str:
        version_of.cache_clear()
        return stage_key("data_engine.ops.verify:verifiable", args, tmp_path)

    keys = [key(), key()]
    for file in ("my_rewards.py", "table.json", "clip/weights"):
        with (tmp_path / file).open("a") as opened:
            opened.write(" ")
        keys.append(key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_files_that_lie_beside_the_pictures_end_no_run(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(load_sample_image("china.jpg")).save(tmp_path / "photos" / name / "a.png")
    (tmp_path / "photos" / "cat" / "a.txt").touch()  # labels of a picture without objects
    (tmp_path / "photos" / "cat" / "b.txt").symlink_to("nowhere")
    source = {"fn": "image_folder", "args": {"path": "photos"}}
    assert run(recipe(sources=[source], root=tmp_path), out=tmp_path / "out").kept == {"image_folder": 2}


def test_what_a_source_writes_under_our_names_ends_no_run(tmp_path: Path) -> None:
    asked = {"question": "Is it\u200b day?", "task": "yesno", "answer": "yes"}
    rows = [{**asked, "meta": {"changed_by": 5, "measures": "none", "split": None}}, {"prompt": [1, 2]}]
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"task": "yesno", "answer": "yes", **row}) for row in rows)
    )
    operators = [
        {"fn": "validate", "args": {"modes": {"bad_prompt": "drop"}}},
        {"fn": "text_length", "args": {"min_words": 1}},
        {"fn": "tests.support.lab:louder", "args": {"word": "now"}},
    ]
    source = {"fn": "jsonl", "args": {"path": "rows.jsonl"}}
    counts = run(recipe(sources=[source], operators=operators, root=tmp_path), out=tmp_path / "out")
    assert (counts.kept, counts.dropped) == ({"jsonl": 1}, {"validate: bad_prompt": 1})
    (sample,) = read_samples(tmp_path / "out")
    assert sample.meta[CHANGED_BY] == ["validate", "louder"]
    assert sample.meta["measures"] == {"words": 3}


def test_a_damaged_chunk_is_made_again(tmp_path: Path) -> None:
    made = counting("is_odd", {"fn": "shuffle"}, n=600, cache=str(tmp_path / "cache"))
    run(made, out=tmp_path / "one")
    chunks = sorted((tmp_path / "cache" / "chunks").rglob("*.zst"))
    for chunk in chunks:
        content = chunk.read_bytes()
        chunk.write_bytes(content[: len(content) // 2])
    assert all(Chunks(tmp_path / "cache").ref(chunk.stem) is None for chunk in chunks)
    run(made, out=tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_an_operator_that_changes_a_sample_is_named_in_it(tmp_path: Path) -> None:
    louder = {"fn": "tests.support.lab:louder", "args": {"word": "now"}}
    source = {"fn": "tests.support.lab:numbers", "args": {"n": 3}, "licence": "cc0-1.0"}
    run(recipe(sources=[source], operators=[{"fn": "validate"}, louder, louder]), out=tmp_path / "out")
    for sample in read_samples(tmp_path / "out"):
        assert sample.meta[CHANGED_BY] == ["louder", "louder"]
        assert sample.meta["licence"] == "cc0-1.0"


def test_two_runs_into_one_place_are_kept_apart(tmp_path: Path, log: Path) -> None:
    code = "from tests.data_engine.test_stages import *; slow(Path(sys.argv[1]))"
    started = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    try:
        while not logged(log):
            assert started.poll() is None
            time.sleep(0.01)
        with pytest.raises(InputError, match=rf"another run .process {started.pid}. is writing to {tmp_path / 'out'}"):
            run(counting(n=3), out=tmp_path / "out")
    finally:
        started.kill()
        started.wait()
    run(counting(n=3), out=tmp_path / "out")  # a lock ends with its process
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out"]


def slow(folder: Path) -> None:
    run(counting({**NOTED, "args": {"seconds": 0.1}}, n=600), out=folder / "out")


def test_a_full_disk_leaves_the_old_dataset_and_the_run_goes_on_later(tmp_path: Path) -> None:
    run(counting(n=3), out=tmp_path / "out")
    before = digests(tmp_path / "out")
    made = counting({"fn": "tests.support.lab:padded", "args": {"chars": 3000}}, n=600)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing more fails, as on a full disk
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        with pytest.raises(InputError, match=r"no room to write .*make room and run it again: it resumes"):
            run(made, out=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert digests(tmp_path / "out") == before
    run(made, out=tmp_path / "out")
    assert len(list(read_samples(tmp_path / "out"))) == 600


KILLED = """
seed: 3
sources:
  - {fn: "tests.support.lab:numbers", args: {n: 700}}
  - {fn: easy_vqa, args: {split: test}, limit: 300}
  - {fn: digits_grounding, args: {n: 30, side: 64}}
operators:
  - {fn: validate}
  - {fn: "tests.support.lab:noted", args: {seconds: 0.0005}}
  - {fn: exact_duplicates}
  - {fn: split, args: {shares: {train: 0.8, test: 0.2}}}
  - {fn: "tests.support.lab:louder_numbers", args: {word: now}}
mix: {numbers: 2, easy_vqa: 1, digits_grounding: 0.05}
"""


def killed_and_resumed(folder: Path, log: Path, workers: int, kills: int) -> None:
    """Kill a run at `kills` random moments and start it again each time; all must end as in one that was left alone."""
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(KILLED)
    command = [sys.executable, "-m", "data_engine", "build", str(recipe_file), f"--workers={workers}", "--out"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    since = time.monotonic()
    subprocess.run([*command, str(folder / "undisturbed")], check=True, **quiet)
    whole = time.monotonic() - since
    calls = len(logged(log))
    log.unlink()
    draw = random.Random(0)
    done = 0
    while done < kills:
        started = subprocess.Popen([*command, str(folder / "out")], start_new_session=True, **quiet)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(draw.uniform(0.1, whole))
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)  # the main process and its workers at once
            done += 1
        assert started.wait() in (0, -signal.SIGKILL)
        if (folder / "out").exists():  # it came to its end, killed then or not: all begins again
            assert digests(folder / "out") == digests(folder / "undisturbed")
            assert len(logged(log)) - calls <= ROWS * workers * done
            for place in (folder / "out", folder / ".out.stages"):
                shutil.rmtree(place, ignore_errors=True)
            log.unlink()
            kills, done = kills - done, 0
    subprocess.run([*command, str(folder / "out")], check=True, **quiet)
    assert digests(folder / "out") == digests(folder / "undisturbed")
    times = Counter(logged(log))
    assert sum(times.values()) - calls <= ROWS * workers * done  # a chunk a worker and a kill
    assert len(times) == calls
    assert sorted(path.name for path in folder.iterdir()) == ["log", "out", "recipe.yaml", "undisturbed"]


def test_a_run_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, log: Path) -> None:
    killed_and_resumed(tmp_path, log, workers=1, kills=2)


@pytest.mark.slow
def test_fifty_kills(tmp_path: Path, log: Path) -> None:
    killed_and_resumed(tmp_path, log, workers=2, kills=50)


@pytest.mark.slow
def test_one_two_and_four_workers_and_ray_write_the_same_bytes(tmp_path: Path, log: Path) -> None:
    pytest.importorskip("ray")
    values = yaml.safe_load(KILLED)
    values["operators"].insert(2, {"fn": "tests.support.lab:deadly_number"})
    made = validate(Recipe, values, where="recipe")
    runs = []
    for name, options in {
        "one": {"workers": 1},
        "two": {"workers": 2},
        "four": {"workers": 4},
        "ray": {"engine": "ray"},
    }.items():
        counts = run(made, out=tmp_path / name, **options)
        assert counts.quarantined == {"worker_died": 1}
        runs.append(digests(tmp_path / name))
    assert all(run == runs[0] for run in runs)
