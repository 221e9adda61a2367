"""Heads that score the steps of an answer: from a teacher's scores to decoding that the student guides."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.synthesis import digits_video
from eval.config import EvalConfig
from eval.run import run as evaluate
from mmrl.core.config import InputError, load, validate
from mmrl.core.media.item import Media
from mmrl.core.media.pictures import load_image
from mmrl.train.config import TrainConfig
from mmrl.train.run_pairs import Group
from mmrl.train.run_steps import cut_by, steps_of
from mmrl.train.stages import run as train
from mmrl.trainers.callbacks import read_metrics
from mmrl.trainers.preferences import with_step_scores
from rewards import Rollout, Verdict
from rewards.base import Span
from rewards.heads.multi_response import multi_response
from rewards.heads.process_model import process_model
from rewards.judged.self_hallucination import stretches
from tests.conftest import stored
from tests.support.runs import assert_a_kill_changes_nothing
from tests.support.training import VISION, config, material, metrics

STEPS = {"per_device_train_batch_size": 4, "max_steps": 6, "save_steps": 2, "learning_rate": 3e-3}
DEMO = Path(__file__).parents[2] / "mmrl" / "demo" / "checkpoint"
RED = "I see the first. I see the second."
COLOURS = {"red.png": (255, 0, 0), "blue.png": (0, 0, 255)}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def teacher(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """Scores each sentence by the picture: the first is true of one that is red, the second of one that is not. It
    scores its onset, the first five letters, and after it the rest."""
    verdicts = []
    for rollout in rollouts:
        red = load_image(rollout.media[0]).getpixel((9, 9)) == COLOURS["red.png"]
        spans = []
        for start, stop in stretches(rollout.completion):
            right = float(("first" in rollout.completion[start:stop]) == red)
            spans += [Span(start, start + 5, right), Span(start + 5, stop, 0.5)]
        verdicts.append(Verdict(0.5, spans=tuple(spans)))
    return verdicts


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions about a red and a blue picture and two clips; an answer of two sentences, of which one is true."""
    out = material(tmp_path_factory.mktemp("world"), "t")
    made = []
    for name, colour in COLOURS.items():
        Image.new("RGB", (56, 56), colour).save(out / name)
        made.append(Media("image", path=str(out / name), width=56, height=56))
    clips = [stored(next(digits_video(n=1, seed=seed, side=56, seconds=2.0)).media[0], out) for seed in (0, 1)]
    samples = [
        Sample("", "s", "steps", user_prompt("What?", [item.kind]), answer, (item,), {"split": split})
        for number, item in enumerate([*made, *clips])
        for answer in ({"steps": [RED[:16], RED[16:], " no"], "step_scores": [1 - number % 2, number % 2, None]},)
        for split in ("train", "test")
    ]
    write_dataset(map(with_id, samples), out / "steps")
    asked = [
        with_id(Sample("", "q", "text", user_prompt("What?", ["image"]), {"text": ["x"]}, (item,), {"split": "train"}))
        for item in made
    ]
    write_dataset(asked, out / "asked")
    return out


def head(world: Path, place: Path, **changes: Any) -> Path:
    blocks = {"reward": STEPS, "grpo": None, "data": str(world / "steps"), "head": {"kind": "process"}}
    return config(world, place, **{**blocks, **changes})


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    reward = {**STEPS, "max_steps": 60, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 30}
    train(load(TrainConfig, head(world, world / "run.yaml", reward=reward)))
    return world / "run" / "reward"


def spans(model: Path, sample: Sample) -> list[float]:
    rollout = Rollout("".join(sample.answer["steps"][:2]), prompt=sample.prompt, media=sample.media)
    [verdict] = process_model([rollout], model=str(model), reduce="min")
    assert verdict.score == min(span.score for span in verdict.spans)
    return [span.score for span in verdict.spans]


def test_each_step_is_scored_by_what_is_shown(world: Path, run: Path) -> None:
    held_out = list(read_samples(world / "steps", split="test"))
    for sample in held_out:
        found = spans(run / "final", sample)
        assert [score > 0.5 for score in found] == [bool(score) for score in sample.answer["step_scores"][:2]]
    evaluated = [line for line in read_metrics(run / "metrics.jsonl") if "eval_accuracy" in line]
    assert [(line["step"], line["eval_accuracy"]) for line in evaluated][-1] == (60, 1.0)
    card = (run / "final" / "README.md").read_text()
    assert f"fn: process_model, args: {{model: {run / 'final'}}}" in card


def test_steps_may_end_behind_a_mark(world: Path, run: Path) -> None:
    """The scores are those of the answer up to there, whatever comes behind."""
    red = next(read_samples(world / "steps", split="test"))
    asked: Any = {"model": str(run / "final"), "after": "the "}
    [whole] = process_model([Rollout(f" {RED}  ", prompt=red.prompt, media=red.media)], **asked)
    assert [(span.start, span.stop) for span in whole.spans] == [(0, 11), (11, 28), (28, 37)]
    for span in whole.spans[:-1]:
        begun = Rollout(f" {RED}"[: span.stop], prompt=red.prompt, media=red.media)
        [verdict] = process_model([begun], reduce="last", **asked)
        assert verdict.score == pytest.approx(span.score, abs=1e-5)


def test_the_reward_scores_as_in_training(world: Path, run: Path) -> None:
    """The loss that is logged last follows from the scores of the reward within what one step changes."""
    line = next(line for line in read_metrics(run / "metrics.jsonl") if line.get("step") == 60 and "eval_loss" in line)
    held_out = list(read_samples(world / "steps", split="test"))
    found = torch.tensor([spans(run / "final", sample) for sample in held_out])
    targets = torch.tensor([sample.answer["step_scores"][:2] for sample in held_out], dtype=torch.float)
    loss = torch.nn.functional.binary_cross_entropy(found, targets).item()
    assert loss == pytest.approx(line["eval_loss"], abs=2e-3)


@pytest.mark.slow
def test_killed_during_a_save_it_ends_where_it_would_have_ended(world: Path, tmp_path: Path) -> None:
    assert_a_kill_changes_nothing("reward", lambda place: head(world, place, head={"kind": "distilled"}), tmp_path)


def test_a_student_learns_from_a_runs_answers_and_guides_decoding(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    """From records of an evaluation to `decode: {method: psrd, head: DIR}`."""
    ids = {sample.id: sample for sample in read_samples(world / "asked")}
    (tmp_path / "said.jsonl").write_text("".join(json.dumps({"id": name, "response": RED}) + "\n" for name in ids))
    asked = {"data": {"path": str(world / "asked"), "split": "train"}, "vision": VISION}
    asked |= {"rewards": {"letters": {"fn": "tests.support.training:letters"}}}
    replay = {"engine": "replay", "model": str(tmp_path / "said.jsonl"), "out": str(tmp_path / "answers"), **asked}
    evaluate(validate(EvalConfig, replay, where="test"))
    suite = tmp_path / "teacher.yaml"
    suite.write_text(yaml.safe_dump({"rewards": {"seen": {"fn": "tests.mmrl.test_step_heads:teacher"}}}))
    assert says("data", "steps", tmp_path / "answers", suite, "--out", tmp_path / "steps", "--onsets") == (
        f"{tmp_path / 'steps'}: 2 answers\n"
    )
    for sample in read_samples(tmp_path / "steps"):
        red = load_image(ids[sample.meta["of"]].media[0]).getpixel((9, 9)) == COLOURS["red.png"]
        assert sample.answer["steps"] == ["I see", " the first.", " I see", " the second."]
        assert sample.answer["step_scores"] == [float(red), None, float(not red), None]

    reward = {**STEPS, "max_steps": 40, "save_strategy": "no", "per_device_train_batch_size": 2}
    changes = {"data": str(tmp_path / "steps"), "head": {"kind": "distilled"}, "reward": reward}
    train(load(TrainConfig, head(world, tmp_path / "student.yaml", **changes)))
    student = tmp_path / "student" / "reward" / "final"
    assert [line["accuracy"] for line in metrics(tmp_path / "student" / "reward")][-1] == 1.0

    sampling = {"max_new_tokens": 12}
    decode = {"method": "psrd", "head": str(student), "onset": 3, "candidates": 2, "threshold": 1.0}
    guided = {**asked, "model": str(DEMO), "out": str(tmp_path / "guided"), "sampling": sampling, "decode": decode}
    guided["vision"] = {"min_pixels": 4096, "max_pixels": 4096}  # as the demo's policy sees
    records = evaluate(validate(EvalConfig, guided, where="test"))
    assert all(0 < record.spent["interventions"] <= record.spent["phases"] for record in records)
    assert all(0 < record.spent["read_to_score"] < record.spent["prefill"] for record in records)
    decode["threshold"] = 0.0
    free = evaluate(validate(EvalConfig, {**guided, "out": str(tmp_path / "free")}, where="test"))
    assert all(record.spent["reward_calls"] == 0 for record in free)


@pytest.mark.parametrize(
    ("spans", "onsets", "parts"),
    [
        ([Span(0, 5, 1.0)], False, [("A dog", 1.0), (" runs. It barks", None)]),
        ([Span(2, 5, 1.0), Span(5, 11, 0.5)], True, [("A dog", 1.0), (" runs.", None), (" It barks", None)]),
        ([Span(12, 20, 0.0), Span(0, 11, 0.5)], True, [("A dog runs.", 0.5), (" It barks", 0.0)]),
        ([Span(0, 11, 0.5), Span(2, 5, 1.0), Span(11, 12, 0.2)], False, [("A dog runs.", 0.5), (" It barks", None)]),
    ],
)
def test_an_answer_is_cut_where_spans_end(spans: list[Span], onsets: bool, parts: list[Any]) -> None:
    assert cut_by("A dog runs. It barks", spans, onsets) == parts


def test_a_penalty_is_no_score_of_a_step() -> None:
    group = Group("q", "count", user_prompt("?"), (), [], {})
    with pytest.raises(InputError, match=r"a part of an answer has -0\.5; as a score of a step it must be in \[0, 1\]"):
        steps_of(group, "A dog", Verdict(-0.5, spans=(Span(0, 5, -0.5),)))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"steps": ["a"], "step_scores": [1.0, 0.0]}, "step_scores must be a number in [0, 1] or null for each step"),
        ({"steps": ["a"], "step_scores": [1.5]}, "step_scores must be a number in [0, 1] or null for each step"),
        ({"steps": ["a", " "], "step_scores": [1.0, 0.0]}, "steps must be a list of texts, none blank"),
        ({"steps": ["a"], "step_scores": [None]}, "no sample has a score at the end of a step"),
    ],
)
def test_steps_that_are_none_are_refused_by_name(answer: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        with_step_scores([Sample("x", "s", "steps", user_prompt("?"), answer)])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("task", "kind", "answer", "message"),
    [
        ("steps", "process", {"steps": [RED, "<|im_end|>"], "step_scores": [1.0, 0.0]}, "step 1 has no words"),
        ("preference", "multi_response", {"candidates": [RED, "<|im_end|>"], "preferred": 0}, "candidate 1 has no"),
    ],
)
def test_an_answer_of_special_tokens_stops_the_run_with_its_id(
    task: str, kind: str, answer: Any, message: str, world: Path, tmp_path: Path
) -> None:
    write_dataset([Sample("odd", "s", task, user_prompt("?"), answer, (), {"split": "train"})], tmp_path / "data")
    with pytest.raises(InputError, match=f"^sample odd: {message}"):
        train(load(TrainConfig, head(world, tmp_path / "r.yaml", data=str(tmp_path / "data"), head={"kind": kind})))


def test_silence_and_what_is_too_long_score_nothing(world: Path, run: Path) -> None:
    asked = {"prompt": user_prompt("What?"), "task": "text"}
    silent, ended, said = process_model(
        [Rollout(text, **asked) for text in (" ", "<|im_end|>", RED)], model=str(run / "final")
    )
    assert (silent.kind, ended.kind, said.kind) == ("unparsed", "unparsed", "scored")
    gone = Media("image", path=str(world / "gone.png"))
    assert process_model([Rollout(RED, media=[gone], **asked)], model=str(run / "final"))[0].kind == "abstained"


def test_what_does_not_fit_is_refused(world: Path, run: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="is of the task 'steps'; pairs are read from"):
        train(load(TrainConfig, head(world, tmp_path / "run.yaml", head={"kind": "scalar"})))
    with pytest.raises(InputError, match="is a head of the kind process, wanted multi_response"):
        multi_response([Rollout("no", group=1), Rollout("a", group=1)], model=str(run / "final"))
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"rewards": {"letters": {"fn": "tests.support.training:letters"}}}))
    (tmp_path / "said.jsonl").write_text("")
    assert "has neither rollouts nor records" in says(
        "data", "steps", tmp_path, suite, "--out", tmp_path / "o", status=2
    )
    one = replace(next(iter(read_samples(world / "steps"))), task="text")
    with pytest.raises(InputError, match="is of the task 'text'; scored steps are of the task 'steps'"):
        with_step_scores([one])
