"""`mmrl data export`: what the other programs read is read back equal. Plain rows are trained on without a build."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from data_engine.dataset.export import export
from data_engine.dataset.plain import plain_samples
from data_engine.dataset.shards import write_dataset
from data_engine.ops.validate import validate
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.annotated.coco import coco, coco_captions
from data_engine.sources.conversations import conversations, trl
from data_engine.sources.ms_swift import ms_swift
from data_engine.sources.synthesis import png
from eval.sample_sets import DatasetSplit, split_samples
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.trainers.dataset import training_samples
from tests.data_engine.test_commands import printed
from tests.support.clips import write_clip

OPTIONS = "\nA. a wall\nB. a dog"


def image(shade: int) -> Media:
    return Media("image", bytes=png(np.full((50, 100, 3), shade, np.uint8)))


def made(task: str, answer: dict[str, Any], question: str, *media: Media, **meta: Any) -> Sample:
    prompt = user_prompt(question, [item.kind for item in media])
    checked = validate(Sample("", "made", task, prompt, answer, media, {"split": "train", "licence": "mit", **meta}))
    assert isinstance(checked, Sample), checked
    return with_id(checked)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    clip = Media("video", path=str(write_clip(tmp_path_factory.mktemp("clip") / "a.mp4")), start=0.4, end=1.8)
    boxes = [[10.0, 5.0, 30.5, 40.0], [1.0, 2.0, 9.0, 9.0]]
    talk = [{"role": "system", "content": [{"type": "text", "text": "Be short."}]}]
    chat = made("yesno", {"yesno": True}, "Is <image> like <image>?", image(3), image(4))
    return [
        made("choice", {"choice": "B", "options": ["a wall", "a dog"]}, f"What is it?{OPTIONS}", image(1)),
        made("choice", {"choice": "A", "options": ["a wall", "a dog"]}, "A wall, or a dog?", image(2)),
        with_id(Sample("", "made", "yesno", [*talk, *chat.prompt], chat.answer, chat.media, chat.meta)),
        made("number", {"number": -3.5}, "What is 1 - 4.5?"),
        made("math", {"math": "\\frac{1}{2}"}, "Half of one?", image(5)),
        made("text", {"text": ["Paris", "paris, france"]}, "Which city?", image(6)),
        made("ocr", {"text": ["EXIT"]}, "Read it.", image(7)),
        made("grounding", {"boxes": boxes[:1]}, "Locate the dog.", image(8)),
        made("grounding", {"boxes": boxes}, "Locate a dog.", image(9)),
        made("detection", {"boxes": boxes, "labels": ["dog", "cat"]}, "Find all.", image(10)),
        made("detection", {"boxes": [], "labels": []}, "Find all.", image(11)),
        made("point", {"points": [[20.0, 20.0]], "boxes": boxes[:1]}, "Click it.", image(12)),
        made("temporal", {"spans": [[0.1, 0.5]]}, "When?", clip),
        made("caption", {"references": ["A wall.", "A red wall."]}, "Describe it.", image(13)),
    ]


@pytest.fixture(scope="module")
def built(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "data"
    candidates = {"preferred": 1, "candidates": ["a", "b"]}
    write_dataset([*samples, made("preference", candidates, "Which?", image(14))], out)
    return out


def asked(sample: Any) -> str:
    """All that a sample asks, shows and expects."""
    assert isinstance(sample, Sample), sample
    checked = validate(sample)
    assert isinstance(checked, Sample), checked
    media = [(item.kind, item.sha256, item.start, item.end) for item in checked.media]
    meta = [sample.meta.get(name) for name in ("split", "licence")]
    return dumps([checked.task, checked.prompt, checked.answer, media, meta])


@pytest.mark.parametrize(
    ("form", "file", "source"),
    [("llava", "train.json", conversations), ("ms_swift", "train.jsonl", ms_swift), ("trl", "train.jsonl", trl)],
)
def test_what_is_exported_is_read_back_equal(
    form: str, file: str, source: Any, built: Path, samples: list[Sample], tmp_path: Path
) -> None:
    counts = export(built, tmp_path / form, form)
    assert (counts.written, counts.left_out) == (len(samples), Counter(preference=1))
    again = list(source(path=f"{form}/{file}", root=tmp_path))
    assert list(map(asked, again)) == list(map(asked, samples))


def test_rows_are_those_that_the_other_programs_read(built: Path, tmp_path: Path) -> None:
    for form in ("llava", "ms_swift", "trl"):
        export(built, tmp_path / form, form)
    first = json.loads((tmp_path / "llava" / "train.json").read_text())[0]
    assert (tmp_path / "llava" / first["image"]).is_file()
    assert first["conversations"][0]["value"].startswith("<image>What is it?")
    assert first["conversations"][1] == {"from": "gpt", "value": "B"}
    assert "answer" not in first  # its text says it all
    found = [json.loads(line) for line in (tmp_path / "ms_swift" / "train.jsonl").open()][9]
    assert found["objects"] == {"ref": ["dog", "cat"], "bbox": [[10.0, 5.0, 30.5, 40.0], [1.0, 2.0, 9.0, 9.0]]}
    assert found["messages"][-1]["content"] == "<ref-object><bbox><ref-object><bbox>"
    rows = datasets.load_dataset("json", data_files=str(tmp_path / "trl" / "train.jsonl"), split="train")
    assert {"prompt", "images", "solution"} <= set(rows.column_names)
    assert rows[0]["prompt"][0]["content"][0]["type"] == "image"


def test_coco_holds_detections_and_captions(built: Path, samples: list[Sample], tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    told = printed("export", built, "--to", "coco", "--out", tmp_path / "coco")
    assert "3 samples" in told
    assert "left out: 2 of task grounding, which coco does not hold" in told
    by_task = {sample.task: sample for sample in reversed(samples)}
    found, nothing = coco(annotations="coco/train.json", images="coco", root=tmp_path, empty=True)
    (caption,) = coco_captions(annotations="coco/train_captions.json", images="coco", root=tmp_path)
    assert isinstance(found, Sample)
    assert isinstance(nothing, Sample)
    assert isinstance(caption, Sample)
    assert found.answer == by_task["detection"].answer
    assert found.meta["licence"] == "mit"
    assert nothing.answer == {"boxes": [], "labels": []}
    assert caption.answer == by_task["caption"].answer
    assert len(COCO(str(tmp_path / "coco" / "train.json")).getAnnIds()) == 2


def test_an_export_replaces_nothing_and_names_the_formats(built: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        export(built, tmp_path, "llava")
    with pytest.raises(InputError, match="no format lava; did you mean llava"):
        export(built, tmp_path / "x", "lava")
    with pytest.raises(InputError, match="no split"):
        export(built, tmp_path / "x", "trl", "dev")
    assert not (tmp_path / "x").exists()


def test_plain_rows_are_trained_on_without_a_build(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    row = {"prompt": "<image>How many walls?", "image": "a.png", "solution": "<answer>1</answer>"}
    rows = [row, {**row, "task": "text"}, {**row, "image": "gone.png"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with caplog.at_level(logging.WARNING):
        samples = training_samples(tmp_path / "rows.jsonl", "train", task="number")
    assert [sample.answer for sample in samples] == [{"number": 1.0}, {"text": ["1"]}]
    assert len({sample.id for sample in samples}) == 2
    assert samples[0].media[0].width == 60
    assert "1 of 3 rows of" in caplog.text
    assert "gone.png" in caplog.text
    (tmp_path / "none.jsonl").write_text("\n".join(map(json.dumps, [row, rows[2]])))
    with pytest.raises(InputError, match=r"2 of 2 rows of .* are left out \(2 no_task\).*set task"):
        training_samples(tmp_path / "none.jsonl")


def test_a_dataset_of_the_datasets_library_is_read_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
    rows = {"prompt": ["Red?"], "image": [str(tmp_path / "a.png")], "solution": ["yes"]}
    data = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    (sample,) = plain_samples(data, task="yesno")
    assert (sample.answer, sample.media[0].width) == ({"yesno": True}, 60)
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "saved")
    assert len(training_samples(tmp_path / "saved", "train", task="yesno")) == 1
    data.to_parquet(tmp_path / "rows.parquet")
    assert len(training_samples(tmp_path / "rows.parquet", "train", task="yesno")) == 1


def test_two_samples_of_one_id_are_refused(tmp_path: Path) -> None:
    first = made("yesno", {"yesno": True}, "Red?", image(1))
    second = made("yesno", {"yesno": False}, "Blue?", image(2))
    write_dataset([first, first], tmp_path / "same")
    assert len(training_samples(tmp_path / "same")) == 2
    write_dataset([first, Sample(first.id, *_rest(second))], tmp_path / "other")
    evaluated = split_samples(DatasetSplit(path=str(tmp_path / "other"), split="train"))
    for read in (lambda: training_samples(tmp_path / "other"), evaluated.load):
        with pytest.raises(InputError, match=f"two different samples of .* have the id '{first.id}'"):
            read()


def _rest(sample: Sample) -> tuple[Any, ...]:
    return sample.source, sample.task, sample.prompt, sample.answer, sample.media, sample.meta
