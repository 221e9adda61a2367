"""The demo's material: the labels of hurried annotators, and a vision tower that learns what is where."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from data_engine.schema import Sample, user_prompt
from mmrl.core.media.item import Media
from mmrl.demo.careless import CONFUSED, LABELS, LATENESS, MARGIN, OVERLOOKED, WRONG, careless
from mmrl.demo.sight import THINGS, Scenes, seen, sighted
from mmrl.demo.steps import CHECKPOINT
from mmrl.model.tiny_twins import TinySize, tiny_model

PICTURE = Media("image", "a.png", width=192, height=192)
CLIP = Media("video", "a.mp4", width=128, height=128, num_frames=32, fps=8.0, duration=4.0)
ANSWERS: dict[str, tuple[dict[str, Any], str, Media]] = {
    "grounding": ({"boxes": [[20.0, 60.0, 70.0, 110.0]]}, "the 7 is here", PICTURE),
    "temporal": ({"spans": [[1.0, 2.5]]}, "the 7 is here", CLIP),
    "count": ({"number": 4.0}, "1 4 7 9", PICTURE),
    "number": ({"number": 7.0}, "7 then 2", CLIP),
    "yesno": ({"yesno": True}, "blue circle", PICTURE),
    "choice": ({"choice": "B", "options": ["red", "blue", "teal"]}, "blue circle", PICTURE),
}


def labelled(task: str, n: int = 400) -> list[Sample]:
    """`n` samples of a task, each with a careless label."""
    answer, rationale, media = ANSWERS[task]
    exact = Sample("", "demo", task, user_prompt("?", [media.kind]), answer, (media,), {"rationale": rationale})
    return [careless(replace(exact, id=str(number)), seed=0) for number in range(n)]


def test_every_task_of_the_demo_has_careless_labels() -> None:
    assert set(LABELS) == set(ANSWERS)
    assert all(sample.meta["careless"] for task in LABELS for sample in labelled(task, 3))
    assert labelled("grounding", 9) == labelled("grounding", 9)


def test_careless_boxes_have_a_margin_and_stay_on_the_picture() -> None:
    boxes = [sample.answer["boxes"][0] for sample in labelled("grounding")]
    assert all(0 <= x1 < 20 and y1 < 60 and x2 > 70 and 110 < y2 <= 192 for x1, y1, x2, y2 in boxes)
    margins = [(x2 - 70) / 50 for _, _, x2, _ in boxes]
    assert MARGIN[0] <= min(margins)
    assert max(margins) <= MARGIN[1]
    assert fmean(margins) == pytest.approx(sum(MARGIN) / 2, abs=0.02)


def test_careless_spans_begin_too_early_and_end_too_late_at_half_seconds() -> None:
    spans = [sample.answer["spans"][0] for sample in labelled("temporal")]
    steps = [half / 2 for half in range(round(2 * LATENESS) + 1)]
    assert {start for start, _ in spans} == {max(1.0 - early, 0.0) for early in steps}
    assert {end for _, end in spans} == {min(2.5 + late, 4.0) for late in steps}


def test_digits_are_overlooked_but_never_all() -> None:
    samples = labelled("count")
    for sample in samples:
        assert sample.answer["number"] == len(sample.meta["rationale"].split()) >= 1
    assert fmean(sample.answer["number"] for sample in samples) == pytest.approx(4 * (1 - OVERLOOKED), abs=0.15)


def test_answers_are_wrong_as_often_as_said() -> None:
    confused = [sample.answer["number"] == 2 for sample in labelled("number")]
    assert fmean(confused) == pytest.approx(CONFUSED, abs=0.06)
    assert {sample.meta["rationale"] for sample in labelled("number")} == {"7 then 2", "2 then 7"}
    assert fmean(not sample.answer["yesno"] for sample in labelled("yesno")) == pytest.approx(WRONG, abs=0.06)
    chosen = [sample.answer["choice"] for sample in labelled("choice")]
    assert fmean(letter != "B" for letter in chosen) == pytest.approx(WRONG, abs=0.06)
    assert set(chosen) == {"A", "B", "C"}


def test_scenes_tell_which_share_of_each_token_shows_what_and_where_it_ends() -> None:
    frames_N2HW3, share_N2hwK, edge_N2hwE = Scenes("test", 64, 16, seed=0).drawn(64)
    assert frames_N2HW3.shape == (64, 2, 64, 64, 3)
    assert share_N2hwK.shape == (64, 2, 4, 4, len(THINGS))
    assert 0 <= share_N2hwK.min() < share_N2hwK.max() <= 1
    areas = share_N2hwK.sum(dim=(2, 3)) * 16**2  # pixels of each thing in each frame
    moving = (areas[:, 0] != areas[:, 1]).any(dim=1)
    assert 0 < moving.float().mean() < 1
    assert all((frames[0] != frames[1]).any() == moves for frames, moves in zip(frames_N2HW3, moving, strict=True))
    shapes = areas[..., 10:].amax(dim=1)[:, :3].gt(0).sum(dim=1)
    assert set(shapes.tolist()) == {0, 1}
    left, top, right, bottom = edge_N2hwE.view(64, 2, 4, 4, 4, -1).sum(dim=-1).unbind(dim=-1)  # in 16ths, rounded up
    known = ~left.isnan()
    largest_N2hw = share_N2hwK.amax(dim=-1)
    assert (largest_N2hw[known] > 0.2).all()
    assert known[largest_N2hw > 0.5].float().mean() > 0.95  # two that are alike may share a token
    assert (left < right)[known].all()
    assert (top < bottom)[known].all()
    column = torch.arange(4).expand_as(left) * 4
    assert ((left <= column + 4) & (right >= column))[known].all()  # the token lies in what it shows


def test_a_tower_learns_what_is_where_and_the_language_model_stays() -> None:
    size = TinySize(patch=8, vision_hidden=32, vision_layers=1)
    model, processor = tiny_model("qwen2_5_vl", ["a"], size=size)
    processor.video_processor.size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32}
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    head = sighted(model, processor, side=32, steps=60, rate=3e-3, batch=16, edges=True)
    frames_N2HW3, share_N2hwK, edge_N2hwE = Scenes("test", 32, 16, seed=1).drawn(64)
    tower: Any = model.model.visual
    with torch.no_grad():
        what_N2hwK, where_N2hwE = seen(tower, head, processor, frames_N2HW3).tensor_split([len(THINGS)], dim=-1)
    there = ~edge_N2hwE.isnan()
    for told, true in ((what_N2hwK, share_N2hwK), (where_N2hwE[there], edge_N2hwE[there])):
        constant = true.mean().clamp(1e-3, 1).logit().expand_as(true)
        assert binary_cross_entropy_with_logits(told, true) < 0.95 * binary_cross_entropy_with_logits(constant, true)
    moved = {name for name, weight in model.named_parameters() if not weight.equal(before[name])}
    assert moved
    assert all(name.startswith("model.visual.") for name in moved)


def test_the_checkpoint_is_at_most_ten_megabytes() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 10e6
