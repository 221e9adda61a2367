"""A head that guides decoding reads a prompt once, and scores as if it had read every text from the beginning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import MistralConfig, MistralModel

from data_engine.schema import user_prompt
from eval.decode.student import Reading
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.model.tiny_twins import tiny_model
from rewards import Rollout, Verdict
from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.process_model_torch import step_rows
from rewards.heads.reading_torch import Row, scores_at
from rewards.heads.reward_model import squashed
from rewards.heads.token_scores_torch import with_token_scores

TEXTS = ["I see a dog. It runs.", "What is this?", "<think>", "Two cats sleep; a bird"]
ROUNDS = [  # onsets of a phase, and what follows the chosen one
    ["I see"],
    ["A dog", "Two", "I see"],
    ["I see a dog. It", "I see a dog. Two cats", "I see a dog. It"],
    ["", "I see a dog. It runs. I", "I"],
]


def head_of(family: str) -> Checkpoint:
    """A random head on a tiny backbone; on one whose layers keep the last four tokens alone: `window`."""
    model, processor = tiny_model("qwen2_5_vl" if family == "window" else family, TEXTS)
    if family != "window":
        return Checkpoint(family, with_scores(model.base_model), processor.tokenizer, processor)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = MistralConfig(**sizes, num_key_value_heads=2, vocab_size=len(processor.tokenizer), sliding_window=4)
    return Checkpoint(family, with_scores(MistralModel(config)), processor.tokenizer)


def with_scores(backbone: Any) -> Any:
    made = with_token_scores(backbone, "distilled").eval()
    torch.nn.init.normal_(made.score.down.weight)  # scores far apart
    return made


def asked(place: Path, colour: str, size: int) -> Rollout:
    Image.new("RGB", (size, size), colour).save(place / f"{colour}.png")
    picture = Media("image", path=str(place / f"{colour}.png"), width=size, height=size)
    return Rollout("", prompt=user_prompt("What is this?", ["image"]), media=(picture,), opened="<think>")


@contextmanager
def tokens_of(model: Any) -> Iterator[list[int]]:
    """The number of tokens of each forward."""
    found: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, args, given: found.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    yield found
    hook.remove()


def read_anew(rollout: Rollout, texts: Sequence[str], head: Checkpoint) -> list[float | None]:
    asked_anew = [replace(rollout, completion=text) for text in texts]
    rows = step_rows(asked_anew, [[(0, len(text))] for text in texts], head)
    return [None if isinstance(row, Verdict) else squashed(read_alone(*row, head)) for row in rows]


def read_alone(row: Row, ends: Sequence[int], head: Checkpoint) -> float:
    [scores] = scores_at([row], [ends], [None], head, batch=1)
    return scores.item()


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "idefics3", "window"])
def test_scores_are_those_of_texts_read_from_the_beginning(family: str, tmp_path: Path) -> None:
    """Two answers side by side, to pictures of different sizes."""
    head = head_of(family)
    rollouts = [asked(tmp_path, "red", 64), asked(tmp_path, "blue", 112)]
    readings, spread = [Reading(rollout, head) for rollout in rollouts], set()
    for texts in ROUNDS:
        for rollout, reading in zip(rollouts, readings, strict=True):
            wanted = read_anew(rollout, texts, head)
            assert reading.scores(texts) == pytest.approx(wanted, abs=1e-5)
            spread |= {round(score, 3) for score in wanted if score is not None}
    assert len(spread) > 5


@pytest.mark.parametrize(("family", "again"), [("qwen2_5_vl", False), ("window", True)])
def test_what_is_read_twice(family: str, again: bool, tmp_path: Path) -> None:
    """The last token alone, for its state; a text of layers with a window from the beginning."""
    head, rollout = head_of(family), asked(tmp_path, "red", 64)
    reading = Reading(rollout, head)
    with tokens_of(head.model.base_model) as found:
        reading.scores(["I see", "I see a dog.", "I see a dog."])
    lengths = [len(head.tokenizer("<think>" + text)["input_ids"]) for text in ("I see", "I see a dog.")]
    prompt = found[0] - lengths[0]
    anew = [prompt + lengths[0], prompt + lengths[1], prompt + lengths[1]]
    assert found == (anew if again else [anew[0], lengths[1] - lengths[0], 1])
    assert reading.read == sum(found)


def test_a_head_whose_scores_are_no_numbers_is_named(tmp_path: Path) -> None:
    head = head_of("qwen2_5_vl")
    torch.nn.init.constant_(head.model.score.down.bias, float("nan"))
    with pytest.raises(InputError, match="the head qwen2_5_vl gives nan; train it anew"):
        Reading(asked(tmp_path, "red", 64), head).scores(["I see"])


def test_a_picture_that_cannot_be_read_gives_no_score(tmp_path: Path) -> None:
    head, gone = head_of("qwen2_5_vl"), Media("image", path=str(tmp_path / "gone.png"), width=64, height=64)
    reading = Reading(replace(asked(tmp_path, "red", 64), media=(gone,)), head)
    assert reading.scores(["I see"]) == [None]
    assert reading.read == 0
