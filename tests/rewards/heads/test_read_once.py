"""What answers to a question begin with is read once, and they score as if each had been read alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close
from transformers import MistralConfig, MistralModel

from mmrl.core.media.item import Media
from mmrl.trainers.reward import with_head
from rewards import Rollout, Verdict
from rewards.heads.checkpoint_torch import Checkpoint, loaded, question_of
from rewards.heads.process_model import marked
from rewards.heads.process_model_torch import step_rows
from rewards.heads.reading_torch import READS_ONCE, padded, scores_at
from rewards.heads.reward_model_torch import raw_scores, rows_or_verdicts
from rewards.heads.token_scores_torch import with_token_scores
from tests.support.families import PICTURES_ONLY, TWINS, twin_of

SAID = ["I see a dog. It runs.", "Two cats. They sleep. A bird too.", "No."]
PLAIN = ("Qwen2.5-VL", "Qwen3-VL", "LLaVA-NeXT")
NO_HEAD = ("Qwen3-VL-MoE", "Qwen3.5-MoE", "Gemma 4")  # transformers makes no class of their backbone under another head
NO_BATCH = ("Llama 3.2 Vision", "MiniCPM-V 4.6")  # their rows with pictures make no batch
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in TWINS if name not in (*PLAIN, *NO_HEAD, *NO_BATCH)]


def questions(place: Path, *, words: bool) -> list[Rollout]:
    """Answers to two questions about pictures, and to one of words alone, by turns; and one answer to a fourth."""
    several = []
    for number, colour in enumerate(("red", "blue", "grey")):
        file, width = place / f"{colour}.png", 56 + 28 * number
        Image.new("RGB", (width, 56), colour).save(file)
        content = [{"type": "image"}, {"type": "text", "text": f"What is {colour}?"}]
        asked: Any = {"prompt": [{"role": "user", "content": content}]}
        asked["media"] = (Media("image", path=str(file), width=width, height=56),)
        several.append([Rollout(text, **asked) for text in (SAID if number < 2 else SAID[:1])])
    if words:
        several.append([Rollout(text, prompt="What do you see?") for text in SAID])
    return [several[i % len(several)].pop(0) for i in range(30) if several[i % len(several)]]


def of_steps(family: str) -> Checkpoint:
    model, processor = copy.deepcopy(twin_of(family))
    made = with_token_scores(model.base_model, "process").eval()
    torch.nn.init.normal_(made.score.down.weight)  # scores far apart
    return Checkpoint(family, made, processor.tokenizer, processor)


def by_steps(rollouts: Sequence[Rollout], head: Checkpoint, batch: int = 8) -> list[Tensor]:
    """The scores at the ends of the sentences."""
    read = step_rows(rollouts, [marked(one.completion, ". ") for one in rollouts], head)
    rows, ends = zip(*[one for one in read if not isinstance(one, Verdict)], strict=True)
    return scores_at(rows, ends, [question_of(one) for one in rollouts], head, batch)


@contextmanager
def tokens_of(head: Checkpoint) -> Iterator[list[int]]:
    """How many tokens the rows of each forward have, padding included."""
    found: list[int] = []
    hook = head.model.base_model.register_forward_pre_hook(
        lambda module, args, given: found.append(given["input_ids"].numel()), with_kwargs=True
    )
    yield found
    hook.remove()


@pytest.mark.parametrize("family", [*PLAIN, *OTHERS])
def test_answers_that_share_a_beginning_score_as_each_alone(family: str, tmp_path: Path) -> None:
    head, rollouts = of_steps(family), questions(tmp_path, words=family not in PICTURES_ONLY)
    with tokens_of(head) as whole:
        alone = [by_steps([rollout], head)[0] for rollout in rollouts]
    assert not head.decided
    together = by_steps(rollouts, head)
    for one, other in zip(together, alone, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert len({round(float(score), 3) for scores in alone for score in scores}) > 5
    with tokens_of(head) as read:
        assert [one.tolist() for one in by_steps(rollouts, head)] == [one.tolist() for one in together]
    assert head.decided[READS_ONCE] == (sum(read) < sum(whole))
    if family in PLAIN:
        assert head.decided[READS_ONCE]


def test_a_prompt_is_read_once_for_a_batch_of_its_answers(tmp_path: Path) -> None:
    head, rollouts = of_steps("Qwen2.5-VL"), questions(tmp_path, words=False)
    by_steps(rollouts, head)
    with tokens_of(head) as alone:
        by_steps(rollouts[:2] * 4, head, batch=1)
    with tokens_of(head) as read:
        by_steps(rollouts[:2] * 4, head, batch=4)
    assert (len(alone), len(read)) == (8, 4)  # two prompts, and the ends of four answers to each
    assert sum(read) < sum(alone) / 2


def test_layers_with_a_window_read_every_answer_in_whole() -> None:
    tokenizer = twin_of("Qwen2.5-VL")[1].tokenizer
    sizes: Any = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer), sliding_window=4)
    made = with_token_scores(MistralModel(config), "process").eval()
    head, rollouts = Checkpoint("window", made, tokenizer), [Rollout(text, prompt="What?") for text in SAID]
    alone = [by_steps([rollout], head)[0] for rollout in rollouts]
    for one, other in zip(by_steps(rollouts, head), alone, strict=True):
        assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert head.decided == {READS_ONCE: False}
    with tokens_of(head) as read:
        by_steps(rollouts, head)
    assert len(read) == 1


@pytest.mark.parametrize("family", ["Qwen2.5-VL", "LLaVA-NeXT"])
def test_the_score_of_an_answer_is_that_of_transformers_own_class(family: str, tmp_path: Path) -> None:
    """`reward_model` reads the last token that is not padding."""
    model, processor = copy.deepcopy(twin_of(family))
    with_head(model, processor).save_pretrained(tmp_path / "head")
    processor.save_pretrained(tmp_path / "head")
    options: Any = {"model": str(tmp_path / "head"), "device": "cpu", "dtype": "float32"}
    head, rollouts = loaded("score", *options.values()), questions(tmp_path, words=True)
    with torch.no_grad():
        rows = [padded([row], head) for row in rows_or_verdicts(rollouts, head) if not isinstance(row, Verdict)]
        alone = [head.model(**row).logits.item() for row in rows]
    together = raw_scores(rollouts, **options, batch=8)
    assert head.decided[READS_ONCE]
    assert together == pytest.approx(alone, abs=1e-5)
    assert raw_scores(rollouts, **options, batch=8) == together
