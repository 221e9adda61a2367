"""`mmrl data`: readable output, one line for a wrong input, and a dataset that survives a kill."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from typer.testing import CliRunner

from data_engine.dataset.shards import read_samples
from data_engine.recipe import Recipe
from data_engine.sources.synthesis import digits_video
from mmrl.commands.data import app
from mmrl.core.config import InputError, load
from mmrl.core.vision import from_pixels

CONFIGS = Path(__file__).parents[2] / "configs" / "data"

RECIPE = """
sources:
  - {fn: easy_vqa, args: {split: test}, limit: 60}
  - {fn: digits_grounding, args: {n: 10, side: 64}}
operators:
  - {fn: validate}
  - {fn: split, args: {shares: {train: 0.5, test: 0.5}}}
"""


def printed(*arguments: object) -> str:
    """The output of a command, without the frames of its tables."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return re.sub(r"[│┃┏┓┗┛━┳┻╇╈─┬┴├┤┼└┘╭╮╰╯┡┩\s]+", " ", result.output)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def built(recipe: Path) -> Path:
    out = recipe.parent / "built"
    assert f"{out}: 70 samples" in printed("build", recipe, "--workers", 1, "--out", out)
    return out


def test_plan_shows_which_work_runs_where(recipe: Path) -> None:
    text = printed("plan", recipe, "seed=7")
    assert re.search(r"read easy_vqa split=test, seed=7, .*options=4.* main process, at most 60 read digits", text)
    assert re.search(r"operate validate .*worker processes", text)
    assert re.search(r"cost of easy_vqa .*\d\d.* validate 42 0 \d+ ", text)
    assert 'operate split shares={"train": 0.5, "test": 0.5}, seed=7 main process, in order' in text


def test_plan_finds_a_typing_mistake(recipe: Path) -> None:
    with pytest.raises(InputError, match=r"unknown key sed .*did you mean seed"):
        printed("plan", recipe, "sed=7")


def test_build_needs_an_output(recipe: Path) -> None:
    with pytest.raises(InputError, match="set output: DIR or give --out DIR"):
        printed("build", recipe, "--workers", 1)


def test_show_prints_question_answer_and_media(built: Path) -> None:
    text = printed("show", built, "--n", 2, "--task", "grounding")
    assert text.count("user: <image> Locate the") == 2
    assert 'answer: {"boxes":[[' in text
    assert "image 64x64" in text


def test_stats_counts_tasks_sources_and_splits(built: Path) -> None:
    text = printed("stats", built)
    assert "digits_grounding 10 14.3%" in text
    assert "image width 70 64 64 64" in text
    train = sum(1 for _ in read_samples(built, split="train"))
    assert f"train {train} " in text


@pytest.mark.parametrize("width", [640, 1600])
@pytest.mark.parametrize("space", ["pixel", "unit", "per_mille"])
def test_lint_boxes_finds_the_space_that_was_not_declared(tmp_path: Path, space: str, width: int) -> None:
    picture = Image.fromarray(load_sample_image("china.jpg")).resize((width, width * 2 // 3))
    picture.save(tmp_path / "china.jpg")
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0.01, 0.99, (200, 2, 2)), axis=1).reshape(-1, 4) * np.tile(picture.size, 2)
    corners = corners[(corners[:, 2:] - corners[:, :2] > 8).all(axis=1)]
    row = {"question": "Where is it?", "image": "china.jpg", "task": "grounding"}
    written = from_pixels(corners, space, picture.size).tolist()
    lines = [json.dumps({**row, "question": f"Where is {n}?", "boxes": box}) for n, box in enumerate(written)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources: [{fn: jsonl, args: {path: rows.jsonl}}]")
    printed("build", recipe, f"root={tmp_path}", "--workers", 1, "--out", tmp_path / "out")
    assert f"fits: {space}" in printed("lint-boxes", tmp_path / "out")


@pytest.mark.parametrize(("limit", "answer"), [("", "fits: resized"), ("{over_edge: 5}", "fits: pixel")])
def test_lint_boxes_obeys_the_limit_of_the_recipe(tmp_path: Path, limit: str, answer: str) -> None:
    """Every box reaches 4 pixels over the edge: more than the default allows, less than a limit of 5."""
    picture = Image.fromarray(load_sample_image("china.jpg"))
    picture.save(tmp_path / "china.jpg")
    row = {"image": "china.jpg", "task": "grounding"}
    boxes = [[n, 9, picture.width + 4, 90 + n] for n in range(9)]
    lines = [json.dumps({**row, "question": f"Where is {n}?", "boxes": box}) for n, box in enumerate(boxes)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    modes = "{box_over_edge: keep, box_outside: keep}"
    validating = f"{{fn: validate, args: {{modes: {modes}{f', limits: {limit}' if limit else ''}}}}}"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"sources: [{{fn: jsonl, args: {{path: rows.jsonl}}}}]\noperators: [{validating}]")
    printed("build", recipe, f"root={tmp_path}", "--workers", 1, "--out", tmp_path / "out")
    assert answer in printed("lint-boxes", tmp_path / "out")


def test_lint_boxes_passes_over_boxes_of_no_picture(tmp_path: Path) -> None:
    Image.fromarray(load_sample_image("china.jpg")).save(tmp_path / "china.jpg")
    row = {"question": "Where?", "task": "grounding", "boxes": [9, 9, 90, 60]}
    rows = [{**row, "image": "china.jpg"}, row, {**row, "question": "Where now?", "boxes": [1, 2, 3, -4]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources: [{fn: jsonl, args: {path: rows.jsonl}}]")
    text = printed("build", recipe, f"root={tmp_path}", "--workers", 1, "--out", tmp_path / "out")
    assert "box_outside" in text
    assert "fits: pixel" in printed("lint-boxes", tmp_path / "out")


def test_the_quarantine_can_be_looked_at(tmp_path: Path) -> None:
    rows = [{"question": "Red?", "answer": "yes"}, {"question": "Red\x1b[2J?", "answer": "perhaps"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources: [{fn: jsonl, args: {path: rows.jsonl, rows: {task: yesno}}}]")
    text = printed("build", recipe, f"root={tmp_path}", "--workers", 1, "--out", tmp_path / "out")
    assert f"broken samples: mmrl data show {tmp_path / 'out'} --quarantine" in text
    text = printed("show", tmp_path / "out", "--quarantine")
    assert "bad_answer · jsonl · rows.jsonl:2" in text
    assert "'perhaps' is neither yes nor no" in text
    with pytest.raises(InputError, match="--quarantine cannot be combined with --task or --split"):
        printed("show", tmp_path / "out", "--quarantine", "--task", "yesno")
    assert "\x1b" not in text


def test_the_recipe_for_your_own_questions_builds(tmp_path: Path) -> None:
    Image.fromarray(load_sample_image("china.jpg")).save(tmp_path / "china.jpg")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(next(digits_video(n=1, side=64)).media[0].bytes or b"")
    photo = {"image": "china.jpg", "task": "count"}
    photos = [{**photo, "question": f"How many {name}?", "answer": n} for n, name in enumerate(["a", "b", "c", "d"])]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, photos)))
    (tmp_path / "clips.jsonl").write_text(json.dumps({"video": "a.mp4", "question": "When?", "spans": [[1, 2]]}))
    out = tmp_path / "out"
    assert " mix 5 1 " in printed("plan", CONFIGS / "questions.yaml", f"root={tmp_path}")
    printed("build", CONFIGS / "questions.yaml", f"root={tmp_path}", "--workers", 1, "--out", out)
    assert sorted(sample.task for sample in read_samples(out)) == ["count", "count", "count", "temporal"]


def test_the_recipe_for_coco_builds(tmp_path: Path) -> None:
    for folder in ("annotations", "val2017"):
        (tmp_path / folder).mkdir()
    Image.fromarray(load_sample_image("china.jpg")).save(tmp_path / "val2017" / "china.jpg")
    names = ["person", "car", "dog", "roof"]
    data = {
        "images": [{"id": 1, "file_name": "china.jpg", "width": 640, "height": 427}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": 1, "category_id": n, "bbox": [9 * n, 9, 90, 60]} for n in (0, 3)],
    }
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
    out = tmp_path / "out"
    printed("build", CONFIGS / "coco.yaml", f"root={tmp_path}", "--workers", 1, "--out", out)
    assert sorted(sample.task for sample in read_samples(out)) == ["detection", "grounding", "grounding"]
    assert len({sample.meta["split"] for sample in read_samples(out)}) == 1


def ids(directory: Path) -> list[str]:
    return [sample.id for sample in read_samples(directory)]


def wait_for_the_end_of(group: int, seconds: float = 60) -> None:
    """Wait until the workers of a killed process have ended too."""
    until = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
        pytest.fail("worker processes outlived the main one")


def test_a_dataset_survives_a_kill_at_any_moment(recipe: Path, built: Path, tmp_path: Path) -> None:
    out, new = tmp_path / "out", tmp_path / "new"
    shutil.copytree(built, out)
    printed("build", recipe, "seed=1", "--workers", 1, "--out", new)
    assert ids(new) != ids(out)
    command = [sys.executable, "-m", "data_engine", "build", recipe, "seed=1", "--workers=2", f"--out={out}"]
    for seconds in (0, 0.5, 1.0):
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        while started.poll() is None and not (tmp_path / ".out.partial").exists():  # it has begun to write
            time.sleep(0.01)
        time.sleep(seconds)
        started.kill()
        started.wait()
        wait_for_the_end_of(started.pid)
        assert ids(out) in (ids(built), ids(new))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert ids(out) == ids(new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


def test_a_wrong_command_line_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_engine", "plan", str(tmp_path / "nowhere.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"python -m data_engine: no config file at {tmp_path / 'nowhere.yaml'}"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_project_load_and_open_with_their_command(path: Path) -> None:
    assert load(Recipe, path).output
    assert path.read_text().startswith(f"# mmrl data build configs/data/{path.name}")
