"""Heads encode a prompt with its pictures once for all answers to it, and each answer as if it stood alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch.testing import assert_close

from mmrl.core.media.item import Media
from rewards import Rollout, Verdict
from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.endogenous_torch import response_logprobs
from rewards.heads.process_model_torch import step_rows
from rewards.heads.reward_model_torch import Row, rows_or_verdicts
from rewards.heads.token_scores_torch import with_token_scores
from tests.support.families import twin_of

SAID = ["I see a dog.", "I see two cats; a bird", "", "I see a dog. It runs.", "<think>A dog</think>", "I see a dog."]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a processor was called, by its class."""
    calls: Counter[str] = Counter()

    def counted(call: Any) -> Any:
        def counting(self: Any, *args: Any, **given: Any) -> Any:
            calls[type(self).__name__] += 1
            return call(self, *args, **given)

        return counting

    for name in ("Qwen2.5-VL", "Gemma 3", "LLaVA-NeXT", "Pixtral", "Idefics3", "PaliGemma", "Llama 3.2 Vision"):
        kind = type(twin_of(name)[1])
        monkeypatch.setattr(kind, "__call__", counted(kind.__call__))
    return calls


def answers(place: Path, colours: Sequence[str]) -> list[Rollout]:
    """Answers to a question about a picture of each colour, by turns."""
    rollouts: list[list[Rollout]] = []
    for number, colour in enumerate(colours):
        file, size = place / f"{colour}.png", 56 + 28 * number
        Image.new("RGB", (size, 56), colour).save(file)
        content = [{"type": "image"}, {"type": "text", "text": f"What is {colour}?"}]
        shown = Media("image", path=str(file), width=size, height=56)
        rollouts.append([Rollout(text, prompt=[{"role": "user", "content": content}], media=(shown,)) for text in SAID])
    return [one for several in zip(*rollouts, strict=True) for one in several]


def assert_same_rows(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert isinstance(one, Verdict) == isinstance(other, Verdict)
        if isinstance(one, Verdict):
            assert one == other
        else:
            assert_same_row(one, other)


def assert_same_row(one: Row, other: Row) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert_close(value, other[name], rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("family", "once"),
    [
        ("Qwen2.5-VL", True),
        ("Gemma 3", True),
        ("LLaVA-NeXT", True),
        ("Pixtral", True),
        ("Idefics3", True),
        ("PaliGemma", False),  # its processor writes behind the text
        ("Llama 3.2 Vision", False),  # of each token it says which pictures it sees
    ],
)
def test_a_row_is_that_of_an_answer_alone(family: str, once: bool, encoded: Counter[str], tmp_path: Path) -> None:
    model, processor = twin_of(family)
    head, rollouts = Checkpoint(family, model, processor.tokenizer, processor), answers(tmp_path, ["red", "blue"])
    alone = [rows_or_verdicts([rollout], head)[0] for rollout in rollouts]
    encoded.clear()
    assert_same_rows(rows_or_verdicts(rollouts, head), alone)
    assert encoded.total() == (2 if once else 10)  # empty answers are not encoded


def test_an_edit_is_another_question_for_each_picture_that_was_made(tmp_path: Path, encoded: Counter[str]) -> None:
    model, processor = twin_of("Qwen2.5-VL")
    head = Checkpoint("head", model, processor.tokenizer, processor)
    first, second = (one.media for one in answers(tmp_path, ["red", "blue"])[:2])
    edits = [Rollout("", prompt="Make it blue", media=first, made=made) for made in (first, second, first)]
    alone = [rows_or_verdicts([edit], head)[0] for edit in edits]
    encoded.clear()
    assert_same_rows(rows_or_verdicts(edits, head), alone)
    assert encoded.total() == 2


def test_answers_with_steps_share_their_prompt(tmp_path: Path, encoded: Counter[str]) -> None:
    model, processor = twin_of("Qwen2.5-VL")
    made = with_token_scores(copy.deepcopy(model).base_model, "process").eval()
    head, rollouts = Checkpoint("head", made, processor.tokenizer, processor), answers(tmp_path, ["red", "blue"])
    steps = [[(0, len(one.completion))] for one in rollouts]
    alone = [step_rows([one], [cut], head)[0] for one, cut in zip(rollouts, steps, strict=True)]
    encoded.clear()
    found = step_rows(rollouts, steps, head)
    assert encoded.total() == 2
    for one, other in zip(found, alone, strict=True):
        assert isinstance(one, Verdict) == isinstance(other, Verdict)
        if not isinstance(one, Verdict) and not isinstance(other, Verdict):
            assert one[1] == other[1]
            assert_same_row(one[0], other[0])


def test_a_model_whose_logits_score_encodes_a_prompt_once(tmp_path: Path, encoded: Counter[str]) -> None:
    for part in twin_of("Qwen2.5-VL"):
        part.save_pretrained(tmp_path / "policy")
    options: Any = {"model": str(tmp_path / "policy"), "device": "cpu", "dtype": "float32", "batch": 4}
    rollouts = [one for one in answers(tmp_path, ["red", "blue"]) if one.completion]
    alone = [response_logprobs([one], **options)[0] for one in rollouts]
    encoded.clear()
    for one, other in zip(response_logprobs(rollouts, **options), alone, strict=True):
        assert_close(one, other, atol=1e-5, rtol=0)
    assert encoded.total() == 2
    response_logprobs(rollouts, **options, blind=True)
    assert encoded.total() == 3


def test_a_picture_that_is_gone_costs_its_own_answers_their_score(tmp_path: Path) -> None:
    model, processor = twin_of("Qwen2.5-VL")
    head, rollouts = Checkpoint("head", model, processor.tokenizer, processor), answers(tmp_path, ["red", "blue"])
    (tmp_path / "red.png").unlink()
    found = rows_or_verdicts(rollouts, head)
    kinds = [one.kind if isinstance(one, Verdict) else "read" for one in found]
    assert kinds[:6] == ["abstained", "read", "abstained", "read", "unparsed", "unparsed"]
