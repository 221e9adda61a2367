"""Tasks of lmms-eval answered by our adapter, where that harness is installed, and the error where it is not."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from eval.answer.backends import run_lmms
from eval.answer.lmms_eval import check_installed, sample_of, task_sampling
from eval.config import EvalConfig
from eval.generation import Sampling
from mmrl.commands.eval import app
from mmrl.core.config import InputError, validate
from mmrl.core.vision import VisionBudget
from mmrl.model.tiny_twins import tiny_model
from tests.conftest import TEXTS
from tests.support.clips import write_clip

TASK = """
task: seen
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_visual: !function seen.visual
doc_to_text: !function seen.text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 6, temperature: 0, num_beams: 1, do_sample: false}
process_results: !function seen.process
metric_list: [{metric: length, aggregation: mean, higher_is_better: true}]
"""
CODE = """
from PIL import Image


def visual(doc):
    return [Image.open(doc["image"])] if doc["image"] else []


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def process(doc, results):
    return {"length": float(len(results[0]))}
"""


def config(out: Path, **changes: Any) -> EvalConfig:
    values = {"engine": "lmms_eval", "lmms": {"tasks": ["seen"]}, "model": str(out / "model"), "out": str(out / "out")}
    return validate(EvalConfig, {**values, **changes}, where="test")


@pytest.mark.skipif(find_spec("lmms_eval") is not None, reason="lmms-eval is installed")
def test_without_lmms_eval_the_way_to_it_is_said() -> None:
    with pytest.raises(InputError, match=r"pip install --no-deps lmms-eval"):
        check_installed()


@pytest.mark.slow
def test_a_task_of_lmms_eval_runs_through_our_adapter(
    tmp_path: Path, budget: VisionBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lmms_eval", reason="pip install --no-deps lmms-eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    noise = torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
    model.lm_head.weight = torch.nn.Parameter(0.3 * noise)  # or it says nothing
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    Image.new("RGB", (84, 84), "red").save(tmp_path / "red.png")
    docs = [
        {"question": "Locate the 7.", "image": str(tmp_path / "red.png"), "answer": "yes"},
        {"question": "What is new in these?", "image": "", "answer": "no"},
        {"question": "How many digits are there?", "image": str(tmp_path / "red.png"), "answer": "2"},
    ]
    (tmp_path / "docs.json").write_text("\n".join(map(json.dumps, docs)))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "seen.yaml").write_text(TASK.replace("FILE", str(tmp_path / "docs.json")))
    (tmp_path / "tasks" / "seen.py").write_text(CODE)
    given = {"tasks": ["seen"], "include": str(tmp_path / "tasks")}
    settings = {"vision": budget.model_dump(), "batch_size": 2}
    run = run_lmms(config(tmp_path, lmms=given, **settings))
    (samples,) = (tmp_path / "out").rglob("*_samples_seen.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(lines) == 3
    assert any(line["length"] for line in lines)
    assert run["seen"]["length,none"] == pytest.approx(sum(line["length"] for line in lines) / 3)
    assert list((tmp_path / "out").rglob("*_results.json"))

    monkeypatch.setattr("eval.answer.local.LocalGenerator.__call__", None)  # all answers are on disk: none is asked for
    assert run_lmms(config(tmp_path, lmms=given, **settings))["seen"]["length,none"] == run["seen"]["length,none"]
    with pytest.raises(InputError, match="lmms-eval has no task 'sene'; did you mean seen"):
        run_lmms(config(tmp_path, lmms={**given, "tasks": ["sene"]}, **settings))
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(config(tmp_path, lmms=given, **settings).model_dump(mode="json")))
    printed = CliRunner().invoke(app, ["run", str(file)]).output
    assert "seen" in printed
    assert "length" in printed


def test_what_a_task_asks_for_is_done_or_refused() -> None:
    base = Sampling(max_new_tokens=7, seed=3)
    assert task_sampling({}, base) == base
    assert task_sampling({"temperature": 0.5, "max_new_tokens": 9}, base) == Sampling(
        do_sample=True, temperature=0.5, max_new_tokens=9, seed=3
    )
    assert task_sampling({"temperature": 0.5, "do_sample": False}, base) == base
    with pytest.raises(InputError, match="num_beams=5, which this engine does not do"):
        task_sampling({"num_beams": 5}, base)


def test_a_chat_becomes_a_sample_with_its_media_in_order(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    write_clip(video, 16)
    parts = [
        {"type": "image", "url": Image.new("RGBA", (30, 20))},
        {"type": "text", "text": "and"},
        {"type": "video", "url": {"path": str(video), "video_start": 0.5, "video_end": 1.0}},
    ]
    sample = sample_of([{"role": "user", "content": parts}], "here")
    assert [part["type"] for part in sample.prompt[0]["content"]] == ["image", "text", "video"]
    assert (sample.media[0].kind, sample.media[0].width, sample.media[0].start) == ("image", 30, None)
    assert (sample.media[1].kind, sample.media[1].start, sample.media[1].end) == ("video", 0.5, 1.0)
    with pytest.raises(InputError, match="a part of type 'audio'"):
        sample_of([{"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}], "here")


def test_the_engine_has_tasks_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`lmms` goes with engine: lmms_eval"):
        config(tmp_path, lmms=None)
    with pytest.raises(InputError, match="bring their own data and scores"):
        config(tmp_path, rewards={"form": {"fn": "tag_format"}})
    with pytest.raises(InputError, match="`lmms` goes with engine: lmms_eval"):
        config(tmp_path, engine="local")
