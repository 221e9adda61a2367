"""`decode:` with `engine: flow`: pictures that a search makes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_engine.dataset.shards import write_dataset
from data_engine.sources.editing.edit_pairs import edits
from eval.records import Record
from eval.report import report
from eval.run import EvalConfig, run
from mmrl.core.config import InputError, validate
from mmrl.core.media.image import load_image
from mmrl.core.media.pictures import as_media
from mmrl.demo.editor.steps import CHECKPOINT
from rewards import RewardSpec, Rollout, get
from rewards.gradients import DIFFERENTIABLE, gradient_of
from rewards.registry import REWARDS

RULE = {"match": {"fn": "edit_match"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    write_dataset(edits(n=3, side=16, changes=["red", "invert"], split="test"), out)
    return out


def made(data: Path, out: Path, decode: dict[str, Any] | None = None, **changes: Any) -> list[Record]:
    values = {
        "engine": "flow",
        "model": str(CHECKPOINT),
        "data": {"path": str(data), "split": "test"},
        "rewards": RULE,
        "flow": {"steps": 2},
        "out": str(out),
        "decode": decode and {"rewards": RULE, "gold": True, **decode},
        **changes,
    }
    return run(validate(EvalConfig, {key: value for key, value in values.items() if value is not None}, where="test"))


def mean(records: list[Record]) -> float:
    return fmean(record.scores["match"] or 0 for record in records)


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return made(data, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    ("decode", "noise", "evaluations", "calls"),
    [
        ({"method": "best_of_n", "n": 6}, 0.0, 12, 6),
        ({"method": "best_of_n", "n": 6}, 0.7, 12, 6),
        ({"method": "dts_star", "evaluations": 24}, 0.7, 24, None),
        ({"method": "reno", "steps": 12, "rate": 3.0}, 0.0, 24, 12),
    ],
)
def test_a_search_finds_better_pictures_and_says_what_they_cost(
    data: Path,
    tmp_path: Path,
    plain: list[Record],
    decode: dict[str, Any],
    noise: float,
    evaluations: int,
    calls: int | None,
) -> None:
    records = made(data, tmp_path, decode, flow={"steps": 2, "noise": noise})
    assert mean(records) > mean(plain) + 0.02
    for record in records:
        assert evaluations - 2 < record.spent["evaluations"] <= evaluations
        assert calls is None or record.spent["reward_calls"] == calls
    assert "scores of an oracle" in (report(tmp_path) and (tmp_path / "report.md").read_text())


def test_the_tree_draws_by_reward_and_a_run_repeats_itself(data: Path, tmp_path: Path) -> None:
    decode = {"method": "dts", "evaluations": 12, "sharpness": 20.0}
    first = made(data, tmp_path / "a", decode, flow={"steps": 2, "noise": 0.7})
    again = made(data, tmp_path / "b", decode, flow={"steps": 2, "noise": 0.7}, batch_size=1)
    for one, two in zip(sorted(first, key=lambda r: r.item_id), sorted(again, key=lambda r: r.item_id), strict=True):
        pictures = [load_image(str(tmp_path / n / r.made[0]["path"])) for n, r in (("a", one), ("b", two))]
        assert max(abs(a - b) for a, b in zip(*(p.tobytes() for p in pictures), strict=True)) <= 1


def test_the_guide_sees_the_right_edit_only_with_gold(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no reward has a verdict on the task edit; .* need gold: true"):
        made(data, tmp_path, {"method": "best_of_n", "n": 2, "gold": False})


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "of text": ({"method": "psrd"}, {}, "decode psrd is for models that write; pictures have best_of_n, reno"),
    "of pictures": (
        {"method": "reno"},
        {"engine": "local", "flow": None},
        "decode reno makes pictures; set engine: flow",
    ),
    "no noise": ({"method": "dts"}, {}, "decode dts needs steps that differ: set flow.noise"),
    "noise": ({"method": "reno"}, {"flow": {"noise": 0.7}}, "decode reno follows the flow, but flow.noise is 0.7"),
    "budget": (
        {"method": "dts", "evaluations": 2},
        {"flow": {"steps": 4, "noise": 0.7}},
        "decode.evaluations is 2, but a picture takes flow.steps: 4",
    ),
    "no gradient": (
        {"method": "reno", "rewards": {"judged": {"fn": f"{__name__}:bright"}}},
        {},
        "decode.rewards.judged: tests.eval.test_guided_pictures:bright has no gradient for reno to follow, which "
        "edit_match, embedding_similarity",
    ),
    "text reward": (
        {"method": "best_of_n", "rewards": {"right": {"fn": "choice_match"}}},
        {},
        "decode.rewards.right: choice_match reads what a model writes",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_guide_is_refused_before_the_first_picture(data: Path, tmp_path: Path, name: str) -> None:
    decode, changes, words = WRONG[name]
    with pytest.raises(InputError) as caught:
        made(data, tmp_path / "out", decode, **changes)
    assert words in str(caught.value)
    assert not (tmp_path / "out" / "records.jsonl").exists()


def bright(rollouts: list[Rollout]) -> list[float]:
    return [0.5] * len(rollouts)


def test_the_form_of_a_reward_on_pixels_is_that_reward_and_has_a_gradient() -> None:
    assert DIFFERENTIABLE.keys() <= REWARDS.keys()
    [sample] = edits(n=1, side=16, changes=["invert"])
    source, right = map(load_image, sample.media)
    asked = Rollout("", media=[as_media(source)], gold_media=[as_media(right)])
    blended = torch.stack([_pixels(source) * (1 - share) + _pixels(right) * share for share in (0.0, 0.6, 1.0)])
    pixels = (blended * 255).round() / 255
    pixels.requires_grad_(True)
    scores = gradient_of({"match": RewardSpec(fn="edit_match", args={"tolerance": 0.9}, weight=2.0)})(pixels, asked)
    pictures = [as_media(_picture(each)) for each in pixels.detach()]
    known = get("edit_match", tolerance=0.9)([replace(asked, made=[picture]) for picture in pictures])
    assert scores.tolist() == pytest.approx([2 * (verdict.score or 0) for verdict in known], abs=1e-5)
    scores.sum().backward()
    assert pixels.grad is not None
    assert pixels.grad[1].abs().sum() > 0


def _pixels(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255


def _picture(pixels_3HW: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels_3HW * 255).round().byte().permute(1, 2, 0).numpy())
