"""`engine: flow`: pictures that a policy makes are kept, scored by the suite, resumed and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.editing.descriptions import descriptions
from data_engine.sources.editing.edit_pairs import edits
from eval.difficulty import DifficultyConfig
from eval.export import export
from eval.records import Record, read_records
from eval.run import EvalConfig, run
from eval.score import rescore
from mmrl.commands.eval import app
from mmrl.core.config import InputError, validate
from mmrl.core.media.image import load_image
from mmrl.demo.editor.steps import CHECKPOINT
from mmrl.pages.rollout_pages import as_page, chosen
from rewards.rollout_files import read_rollouts
from tests.support.benchmarks.answers import write_edits, write_rows
from tests.support.benchmarks.choice_rows import POPE
from tests.support.benchmarks.description_rows import GEDIT, IMGEDIT
from tests.support.benchmarks.judge import judging

SIDE = 16
RULE = {"match": {"fn": "edit_match"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    write_dataset(edits(n=5, side=SIDE, changes=["red", "invert"], split="test"), out)
    return out


def config(place: Path, out: Path, split: str = "test", **changes: Any) -> dict[str, Any]:
    values = {
        "engine": "flow",
        "model": str(CHECKPOINT),
        "data": {"path": str(place), "split": split},
        "rewards": RULE,
        "flow": {"steps": 2},
        "batch_size": 2,
        "out": str(out),
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def made(given: dict[str, Any]) -> list[Record]:
    return run(validate(EvalConfig, given, where="test"))


def test_the_command_makes_scores_and_shows_pictures(data: Path, tmp_path: Path) -> None:
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(config(data, tmp_path / "out")))
    result = CliRunner().invoke(app, ["run", str(tmp_path / "eval.yaml")])
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    records = read_records(out)
    assert len(records) == 5
    for record in records:
        [picture], [source], [gold] = record.made, record.media, record.gold_media
        assert (picture["width"], picture["height"]) == (SIDE, SIDE)
        assert load_image(str(out / picture["path"])).size == (SIDE, SIDE)
        assert source["path"] != gold["path"]
        assert record.kinds == {"match": "scored"}
        assert not record.flags
    text = (out / "report.md").read_text()
    assert "pictures made in 2 steps; 5 records." in text
    assert "tokens" not in text
    page = as_page(chosen(out, step=None, task=None, limit=9))
    assert page.count("<figcaption>gold 16×16") == page.count("<figcaption>image 1 16×16") == 5
    assert page.count("<figcaption>step by step from noise") == 5
    assert "not shown" not in page
    assert "tokens" not in page


def test_of_some_samples_the_steps_of_the_first_picture_are_kept(data: Path, tmp_path: Path) -> None:
    flow, sampling = {"steps": 3, "films": 2}, {"do_sample": True, "samples": 2}
    records = made(config(data, tmp_path / "out", flow=flow, sampling=sampling))
    items = list(dict.fromkeys(record.item_id for record in read_records(tmp_path / "out")))
    filmed = [record for record in records if record.film]
    assert [(record.item_id, record.draw) for record in filmed] == [(items[0], 0), (items[2], 0)]
    for record in filmed:  # noise and three steps
        film, last = (load_image(str(tmp_path / "out" / media["path"])) for media in (*record.film, *record.made))
        assert film.size == (4 * SIDE, SIDE)
        assert film.crop((3 * SIDE, 0, 4 * SIDE, SIDE)).tobytes() == last.tobytes()
    searched = config(data, tmp_path / "best", decode={"method": "best_of_n", "n": 2, "rewards": RULE, "gold": True})
    assert not any(record.film for record in made(searched))


def test_a_run_that_was_stopped_ends_as_an_undisturbed_one(data: Path, tmp_path: Path) -> None:
    whole = made(config(data, tmp_path / "whole"))
    made(config(data, tmp_path / "part"))
    lines = (tmp_path / "part" / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "part" / "records.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
    again = made(config(data, tmp_path / "part"))
    assert [(r.key, r.made, r.film, r.scores) for r in again] == [(r.key, r.made, r.film, r.scores) for r in whole]


def test_what_is_made_depends_on_the_draw_and_not_on_the_batch(data: Path, tmp_path: Path) -> None:
    sampling = {"do_sample": True, "samples": 2}
    first = made(config(data, tmp_path / "two", sampling=sampling, batch_size=5, flow={"steps": 2, "noise": 0.7}))
    other = made(config(data, tmp_path / "one", sampling=sampling, batch_size=1, flow={"steps": 2, "noise": 0.7}))
    pictures = {(r.item_id, r.draw): r.made[0]["sha256"] for r in first}
    assert len(set(pictures.values())) == 10
    for record in other:
        one, two = (
            load_image(str(tmp_path / n / r.made[0]["path"]))
            for n, r in (("one", record), ("two", _same(record, first)))
        )
        assert max(abs(a - b) for a, b in zip(one.tobytes(), two.tobytes(), strict=True)) <= 1


def _same(record: Record, others: list[Record]) -> Record:
    return next(r for r in others if (r.item_id, r.draw) == (record.item_id, record.draw))


def test_records_are_scored_again_where_the_folder_lies_now(data: Path, tmp_path: Path) -> None:
    scores = [record.scores for record in made(config(data, tmp_path / "out"))]
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert [record.scores for record in rescore(moved)] == scores
    for _, rollout in read_rollouts(moved):
        assert len(rollout.made) == len(rollout.gold_media) == len(rollout.media) == 1
        assert load_image(rollout.made[0]).size == (SIDE, SIDE)


def test_edits_whose_pictures_lie_in_the_rows_of_the_data(data: Path, tmp_path: Path) -> None:
    write_dataset(read_samples(data), tmp_path / "inside", embed_media=True)
    scores = [record.scores for record in made(config(data, tmp_path / "plain"))]
    assert [record.scores for record in made(config(tmp_path / "inside", tmp_path / "out"))] == scores
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert [record.scores for record in rescore(moved)] == scores
    assert "not shown" not in as_page(chosen(moved, step=None, task=None, limit=9))


def test_a_source_of_another_size_gives_an_edit_of_its_own_size(tmp_path: Path) -> None:
    [sample] = edits(n=1, side=18, changes=["red"])
    write_dataset([sample], tmp_path / "data")
    given = config(tmp_path / "data", tmp_path / "out", split="train")
    [record] = made(given)
    assert load_image(str(tmp_path / "out" / record.made[0]["path"])).size == (18, 18)
    assert record.kinds == {"match": "scored"}


def test_texts_alone_are_answered_with_pictures_and_counted(tmp_path: Path) -> None:
    write_dataset(descriptions(n=3, side=16, things=["square"], split="test"), tmp_path / "data")
    rewards = {"content": {"fn": "content_match"}}
    records = made(config(tmp_path / "data", tmp_path / "out", rewards=rewards))
    assert all(not record.media and len(record.gold_media) == len(record.made) == 1 for record in records)
    assert {record.kinds["content"] for record in records} == {"scored"}
    page = as_page(chosen(tmp_path / "out", step=None, task=None, limit=9))
    assert page.count("<figcaption>gold 16×16") == 3


def test_published_sets_of_instructions_are_answered_by_the_policy(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "gedit", GEDIT, "parquet"), write_rows(tmp_path / "imgedit", IMGEDIT, "json")
    benchmarks = {"gedit": {"path": str(rows[0])}, "imgedit_basic": {"path": str(rows[1])}}
    with judging() as (_, server):
        judges = {"judge": {"base_url": server.url, "model": "scripted"}}
        given = config(tmp_path, tmp_path / "out", data=None, rewards=None, benchmarks=benchmarks, judges=judges)
        made(given)
    for name, count in (("gedit", len(GEDIT)), ("imgedit_basic", len(IMGEDIT))):
        records = read_records(tmp_path / "out" / name)
        assert len(records) == count
        assert all(len(record.made) == len(record.media) == 1 for record in records)
        assert {kind for record in records for kind in record.kinds.values()} == {"scored"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "blind": ({"blind": True}, "blind is for models that write, not for engine: flow"),
    "vision": ({"vision": {"max_pixels": 7840}}, "vision is for models that write"),
    "temperature": ({"sampling": {"do_sample": True, "temperature": 0.5}}, "sampling.temperature is for models that"),
    "engine": ({"engine": "local"}, "engine local with a block flow"),
    "key": ({"flow": {"step": 3}}, "unknown key flow.step"),
    "reward": ({"rewards": {"right": {"fn": "choice_match"}}}, "rewards.right: choice_match reads what a model writes"),
    "class": ({"model": "demo"}, "no model_index.json in"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_made_is_refused_before_the_first_picture(data: Path, tmp_path: Path, name: str) -> None:
    changes, words = WRONG[name]
    with pytest.raises(InputError) as caught:
        made(config(data, tmp_path / "out", **changes))
    assert words in str(caught.value)
    assert len(str(caught.value)) <= 500
    assert not (tmp_path / "out" / "records.jsonl").exists()


def test_a_policy_is_asked_for_edits_alone_and_is_given_none(tmp_path: Path) -> None:
    asked = with_id(Sample("", "x", "caption", user_prompt("Describe."), {"references": ["a cat"]}, ()))
    write_dataset([asked], tmp_path / "data")
    given = config(tmp_path / "data", tmp_path / "out", split="train")
    with pytest.raises(
        InputError, match="pictures are made of edit and text_to_image, videos of text_to_video; the data have caption"
    ):
        made(given)
    pope = {"pope": {"path": str(write_rows(tmp_path / "pope", POPE, "parquet"))}}
    with pytest.raises(
        InputError, match="pictures are made of edit and text_to_image, videos of text_to_video; the data have yesno"
    ):
        made(config(tmp_path, tmp_path / "out", data=None, rewards=None, benchmarks=pope))
    gedit = write_rows(tmp_path / "gedit", GEDIT, "parquet")
    edited = {"gedit": {"path": str(gedit), "edits": str(write_edits(tmp_path / "edits", "gedit"))}}
    judges = {"judge": {"base_url": "http://127.0.0.1:9/v1", "model": "x"}}
    with pytest.raises(InputError, match="takes no `edits`, engine flow makes them"):
        made(config(tmp_path, tmp_path / "out", data=None, rewards=None, benchmarks=edited, judges=judges))


def test_pictures_are_neither_replayed_nor_written_as_another_harness_does(data: Path, tmp_path: Path) -> None:
    made(config(data, tmp_path / "out"))
    replay = {"engine": "replay", "model": str(tmp_path / "out"), "flow": None}
    with pytest.raises(InputError, match=r"holds pictures, which are not replayed; mmrl eval score scores them again"):
        made(config(data, tmp_path / "again", **replay))
    with pytest.raises(InputError, match="holds pictures, for which lmms_eval has no place"):
        export(tmp_path / "out", "lmms_eval", tmp_path / "files")
    with pytest.raises(InputError, match="difficulty is that of questions to a model that writes"):
        validate(DifficultyConfig, config(data, tmp_path / "hard"), where="test")


def test_a_page_shows_no_picture_that_lies_elsewhere(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(config(data, out))
    (tmp_path / "secret.png").write_bytes((out / read_records(out)[0].made[0]["path"]).read_bytes())
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    lines[0]["made"][0] |= {"path": "../secret.png", "sha256": "0" * 64}
    (out / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert as_page(chosen(out, step=None, task=None, limit=9)).count("not shown") == 1
