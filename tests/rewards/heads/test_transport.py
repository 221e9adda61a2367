"""The reward `transport`: plans by hand-made numbers, and a tiny BLIP, saved and loaded by the reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from mmrl.core.config import InputError
from mmrl.core.media.pictures import as_media
from rewards import RewardSpec, Rollout, get
from rewards.gradients import gradient_of
from rewards.heads.transport import transport
from rewards.heads.transport_plan import plan
from rewards.heads.transport_torch import fused

COST = [[0.1, 0.8, 0.6], [0.7, 0.2, 0.5]]
BALANCED = [[0.3330228, 0.0021817, 0.1647955], [0.0003106, 0.3311516, 0.1685378]]
PARTIAL = [[0.3309725, 0.0015372, 0.1016631], [0.0004259, 0.3219407, 0.1434606]]
ATTENTION = [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]
SIDE, PATCH = 32, 8
WORDS = ["a", "red", "blue", "square", "circle", "on", "the", "left", "right"]


@pytest.mark.parametrize(("mass", "expected"), [(1.0, BALANCED), (0.9, PARTIAL)])
def test_a_plan_moves_the_mass_at_least_cost(mass: float, expected: list[list[float]]) -> None:
    found = plan(COST, mass=mass)
    assert found.tolist() == [pytest.approx(row, abs=1e-5) for row in expected]
    assert found.sum() == pytest.approx(mass, abs=1e-6)


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        (BALANCED, [[0.8320369, 0.0032706, 0.1646926], [0.0003382, 0.5408720, 0.4587898]]),
        (PARTIAL, [[0.8883735, 0.0024756, 0.1091508], [0.0005058, 0.5735364, 0.4259578]]),
    ],
)
def test_attention_is_multiplied_by_the_plan(plans: list[list[float]], expected: list[list[float]]) -> None:
    found = fused(torch.tensor([ATTENTION]), torch.tensor([plans]))[0]
    assert found.tolist() == [pytest.approx(row, abs=1e-4) for row in expected]
    heads = fused(torch.tensor([[ATTENTION] * 2]), torch.tensor([plans]))[0]
    assert torch.allclose(heads, found.expand(2, -1, -1))


def test_a_plan_of_high_costs_does_not_underflow() -> None:
    found = plan(np.linspace(0.2, 2.2, 12).reshape(3, 4), mass=0.5, smoothing=0.01)
    assert found.sum() == pytest.approx(0.5, abs=1e-3)
    assert np.isfinite(found).all()


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("blip")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(vocab)})
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = BlipTextConfig(
        vocab_size=len(vocab), encoder_hidden_size=16, max_position_embeddings=16, projection_dim=8,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, sep_token_id=3, **sizes,
    )  # fmt: skip
    vision = BlipVisionConfig(image_size=SIDE, patch_size=PATCH, projection_dim=8, **sizes)
    torch.manual_seed(0)
    model = BlipForImageTextRetrieval(
        BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), image_text_hidden_size=8)
    )
    with torch.no_grad():
        for weight in model.parameters():  # its own are so small that every picture scores alike
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    model.save_pretrained(place)
    BlipProcessor(BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer).save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    made = np.random.default_rng(0).integers(0, 255, (5, SIDE, SIDE, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in made]


def rollout(picture: Image.Image, text: str = "a red square") -> Rollout:
    return Rollout("", prompt=user_prompt(text), made=[as_media(picture)])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, pictures: list[Image.Image]) -> str:
    place = tmp_path_factory.mktemp("real")
    texts = ["a red square", "a blue circle", "the red circle on the left", "a square on the right"]
    asked = [
        with_id(Sample("", "x", "caption", user_prompt(text, ["image"]), {"references": [text]}, (as_media(picture),)))
        for text, picture in zip(texts, pictures, strict=False)
    ]
    write_dataset(asked, place)
    return str(place)


def test_pictures_and_texts_are_told_apart_in_any_batch(blip: str, pictures: list[Image.Image], real: str) -> None:
    rollouts = [rollout(picture, text) for picture in pictures[:3] for text in ("a red square", "a blue circle")]
    for options in ({}, {"part": "distribution", "real": real}):
        together = [verdict.score for verdict in get("transport", model=blip, **options)(rollouts)]
        alone = [verdict.score for verdict in get("transport", model=blip, batch=1, **options)(rollouts)]
        assert together == pytest.approx(alone, abs=1e-5)
        assert len({round(score or 0, 5) for score in together}) > 2
        assert all(0 <= (score or 0) <= 1 for score in together)


def test_real_pictures_may_lie_in_the_rows(blip: str, pictures: list[Image.Image], real: str, tmp_path: Path) -> None:
    write_dataset(read_samples(real), tmp_path, embed_media=True)
    one, other = (
        get("transport", model=blip, part="distribution", real=place)([rollout(pictures[0])])[0].score
        for place in (real, str(tmp_path))
    )
    assert one == other is not None


def test_the_plan_changes_what_the_matching_head_says(blip: str, pictures: list[Image.Image]) -> None:
    rollouts = [rollout(picture) for picture in pictures]
    scores = [get("transport", model=blip, mass=mass)(rollouts)[0].score for mass in (0.2, 1.0)]
    assert scores[0] != pytest.approx(scores[1], abs=1e-6)


def test_what_cannot_be_scored_says_why(blip: str, pictures: list[Image.Image]) -> None:
    silent = [Rollout("", prompt=user_prompt("a red square")), rollout(pictures[0], " ")]
    assert [verdict.kind for verdict in get("transport", model=blip)(silent)] == ["unparsed", "abstained"]
    assert get("transport", model=blip, goal="a blue circle")(silent[1:])[0].kind == "scored"
    with pytest.raises(InputError, match="part distribution with real None; `real` goes with part: distribution"):
        transport([], model=blip, part="distribution")


def test_its_form_on_pixels_is_the_reward_and_has_a_gradient(blip: str, pictures: list[Image.Image], real: str) -> None:
    for options in ({}, {"part": "distribution", "real": real}):
        args: dict[str, Any] = {"model": blip, "goal": "a red square", **options}
        pixels = torch.from_numpy(np.array(pictures[0])).permute(2, 0, 1)[None] / 255
        scores = gradient_of({"shown": RewardSpec(fn="transport", args=args)})(pixels.requires_grad_(True), Rollout(""))
        [known] = get("transport", **args)([rollout(pictures[0])])
        assert max(scores.item(), 0) == pytest.approx(known.score, abs=1e-3)
        [slope] = torch.autograd.grad(scores.sum(), pixels)
        assert slope.abs().sum() > 0


def test_other_checkpoints_are_refused(tmp_path: Path, pictures: list[Image.Image]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    [verdict] = get("transport", model=str(tmp_path))([rollout(pictures[0])])
    assert "is a clip model; transport wants BLIP with a matching head" in verdict.why
