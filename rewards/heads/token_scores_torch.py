"""Models that give a score at every token of a text, of which a reward reads some.

A vision-language or language model without its language head, under a small head of two layers. `config.scores` says
what it has learned to score: `multi_response`, `process` or `distilled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from rewards.base import Rollout, Verdict, abstain
from rewards.heads.checkpoint_torch import (
    BY_TOKEN,
    Checkpoint,
    chat,
    loaded,
    pictures_by_media,
    plain,
    question_of,
)
from rewards.heads.reading_torch import Row
from rewards.heads.scoring_classes_torch import ScoreHead, token_scores_class


def with_token_scores(backbone: Any, scores: str) -> Any:
    """`backbone`, a model without a language head, under a random ScoreHead that is to learn `scores`."""
    config = backbone.config
    config.scores, config.num_labels = scores, 1
    with torch.device("meta"):
        made = token_scores_class(type(config))(config)
    made.score = ScoreHead(config.get_text_config().hidden_size, backbone.dtype)
    setattr(made, made.base_model_prefix, backbone)
    return made.to(backbone.device)


def asked(head: Checkpoint, messages: Sequence[dict[str, Any]]) -> Row:
    """The prompt alone as inputs of the model, up to where an answer begins, without a dimension of rows."""
    reader = head.processor or head.tokenizer
    if reader.chat_template:
        made = reader.apply_chat_template(
            list(messages), tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
    else:
        made = head.tokenizer("\n".join(one["content"] for one in messages), return_tensors="pt")
    kept = BY_TOKEN if head.processor is None else made
    return {name: made[name][0] if name in BY_TOKEN else made[name] for name in made if name in kept}


def prompt_rows(rollouts: Sequence[Rollout], head: Checkpoint) -> list[Row | Verdict]:
    """The prompt of each rollout as inputs of the head, or the verdict where its media cannot be read.

    A prompt is encoded once for all answers to it.
    """
    questions = [question_of(rollout) for rollout in rollouts]
    known = {question: _prompt_row(one, head) for question, one in dict(zip(questions, rollouts, strict=True)).items()}
    return [known[question] for question in questions]


def _prompt_row(rollout: Rollout, head: Checkpoint) -> Row | Verdict:
    try:
        return asked(head, chat(rollout, head.tokenizer, pictures_by_media(rollout) if head.processor else None))
    except MediaError as error:
        return abstain(str(error))


def behind(prompt: Row, parts: Sequence[Sequence[int]], head: Checkpoint) -> tuple[Row, list[int]]:
    """The prompt with the tokens of all parts behind it, and the place of the last token of each.

    What has a value for each token is 0 in the parts. InputError if the model does not take as many tokens.
    """
    ids, ends = prompt["input_ids"].tolist(), []
    for part in parts:
        ids += part
        ends.append(len(ids) - 1)
    if len(ids) > head.room:  # what is cut would not be scored, or for something else
        raise InputError(f"{len(ids)} tokens are more than the {head.room:.0f} that {head.name} takes")
    row = {
        name: functional.pad(value, (0, len(ids) - len(value))) if name in BY_TOKEN else value
        for name, value in prompt.items()
    }
    return row | {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(len(ids), dtype=torch.long)}, ends


def tokens_of(text: str, head: Checkpoint) -> list[int]:
    """The tokens of a text, whose special tokens are blanks; none where nothing else is left."""
    said = plain(text, head.tokenizer)
    return head.tokenizer(said, add_special_tokens=False)["input_ids"] if said.strip() else []


def token_scores(name: str, kinds: Sequence[str], device: str, dtype: str) -> Checkpoint:
    """The checkpoint at a path; InputError if it has learned to give scores of another kind than `kinds`."""
    head = loaded("tokens", name, device, dtype)
    if (has := getattr(head.model.config, "scores", None)) not in kinds:
        raise InputError(f"{name} is a head of the kind {has}, wanted {' or '.join(kinds)}")
    return head
