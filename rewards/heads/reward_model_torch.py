"""The raw scores of a sequence classifier with one output, for prompts and completions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional
from transformers.modeling_layers import GenericForSequenceClassification

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from rewards.base import BRIEF, Rollout, Verdict, abstain, failed, unparsed
from rewards.heads.checkpoint_torch import BY_TOKEN, Checkpoint, chat, loaded, pictures_by_media, plain, question_of
from rewards.heads.reading_torch import Row, alike, padded, scores_at, spanned


@dataclass(frozen=True)
class FirstAnswer:
    """The first answer to a question: the chat before it, the row, and the tokens of its text, in which a picture is
    what the chat template writes for it."""

    messages: list[dict[str, Any]]
    row: Row
    ids: list[int]


Known = dict[Hashable, FirstAnswer]


def raw_scores(
    rollouts: Sequence[Rollout], *, model: str, device: str, dtype: str, batch: int
) -> list[float | Verdict]:
    """The bare output of the head for each rollout, or the verdict where there is none."""
    head = loaded("score", model, device, dtype)
    if head.model.config.num_labels != 1:
        raise InputError(f"reward_model {model}: its head has {head.model.config.num_labels} outputs, wanted 1")
    found: list[Any] = rows_or_verdicts(rollouts, head)
    ready = [i for i, row in enumerate(found) if not isinstance(row, Verdict)]
    rows, questions = [found[i] for i in ready], [question_of(rollouts[i]) for i in ready]
    generic = isinstance(head.model, GenericForSequenceClassification)
    scores = _generic(rows, questions, head, batch) if generic else _by_class(rows, head, batch)
    for i, score in zip(ready, scores, strict=True):
        found[i] = score
    return found


def _generic(rows: Sequence[Row], questions: Sequence[Hashable], head: Checkpoint, batch: int) -> list[float]:
    """The scores of transformers' generic class, whose score is that of the last token that is not padding."""
    pad = head.model.config.get_text_config().pad_token_id
    said = [[at for at, token in enumerate(row["input_ids"].tolist()) if token != pad] for row in rows]
    return [score.item() for score in scores_at(rows, [own[-1:] for own in said], questions, head, batch)]


@torch.inference_mode()
def _by_class(rows: Sequence[Row], head: Checkpoint, batch: int) -> list[float]:
    """The scores of any other class."""
    step = batch if head.model.config.get_text_config().pad_token_id is not None else 1  # else padding would be read
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    scores = [0.0] * len(rows)
    for start in range(0, len(order), step):
        taken = order[start : start + step]
        inputs = {name: value.to(head.model.device) for name, value in padded([rows[i] for i in taken], head).items()}
        for i, score in zip(taken, head.model(**inputs).logits[:, 0].float().tolist(), strict=True):
            scores[i] = score
    return scores


def rows_or_verdicts(rollouts: Sequence[Rollout], head: Checkpoint) -> list[Row | Verdict]:
    """Each rollout as inputs of the head, tensors without a dimension of rows, or the verdict where it cannot be read.

    A prompt and its pictures are encoded once for all answers to them.
    """
    known: Known = {}
    return [_row_or_verdict(rollout, head, known) for rollout in rollouts]


def _row_or_verdict(rollout: Rollout, head: Checkpoint, known: Known) -> Row | Verdict:
    if not plain(rollout.completion, head.tokenizer).strip() and not (rollout.made and head.processor):
        return unparsed("empty completion")
    try:
        row = _row(rollout, head, known)
    except MediaError as error:
        return abstain(str(error))
    if len(row["input_ids"]) > head.room:  # cutting would remove a part that is judged
        why = f"{len(row['input_ids'])} tokens are more than the {head.room} that {head.name} takes"
        fits = len(_row(replace(rollout, completion=BRIEF), head, known)["input_ids"]) <= head.room
        return unparsed(why) if fits else failed(why)  # the completion must not escape a verdict by its length
    return row


def _row(rollout: Rollout, head: Checkpoint, known: Known) -> Row:
    response = plain(rollout.answered, head.tokenizer)
    if head.processor is not None:
        return _shown(rollout, response, head, known)
    messages = chat(rollout, head.tokenizer)
    if head.tokenizer.chat_template:
        turn = {"role": "assistant", "content": response}
        encoded = head.tokenizer.apply_chat_template(
            [*messages, turn], tokenize=True, return_dict=True, return_tensors="pt"
        )
    else:
        encoded = head.tokenizer("\n".join(one["content"] for one in messages), response, return_tensors="pt")
    return {name: value[0] for name, value in encoded.items()}


def _shown(rollout: Rollout, response: str, head: Checkpoint, known: Known) -> Row:
    """The row of an answer to a prompt with pictures, which are encoded unless an answer to them is `known`."""
    question = question_of(rollout)
    first = known.get(question)
    messages = first.messages if first else chat(rollout, head.tokenizer, pictures_by_media(rollout))
    as_made = not response.strip()  # the pictures stand in the question, and the head reads where an answer begins
    turn = [] if as_made else [{"role": "assistant", "content": [{"type": "text", "text": response}]}]

    def written(**options: Any) -> Any:
        return head.processor.apply_chat_template([*messages, *turn], add_generation_prompt=as_made, **options)

    ids = head.tokenizer(written(tokenize=False), add_special_tokens=False)["input_ids"]
    row = _ended_otherwise(first, ids) if first else None
    if row is None:
        encoded = written(tokenize=True, return_dict=True, return_tensors="pt")
        row = {name: value[0] if name in BY_TOKEN else value for name, value in encoded.items()}
        known.setdefault(question, FirstAnswer(messages, row, ids))
    return row


def _ended_otherwise(first: FirstAnswer, ids: list[int]) -> Row | None:
    """The row of a text that begins as the `first` one does and has the tokens `ids`; None where more than the end of
    the row depends on it."""
    same = alike(first.ids, ids)
    known = first.row["input_ids"]
    kept = len(known) - len(first.ids) + same
    if known[kept:].tolist() != first.ids[same:] or spanned(first.row):
        return None
    row = {
        name: functional.pad(value[:kept], (0, len(ids) - same)) if name in BY_TOKEN else value
        for name, value in first.row.items()
    }
    ids_T = torch.cat([known[:kept], torch.tensor(ids[same:], dtype=known.dtype)])
    return row | {"input_ids": ids_T, "attention_mask": torch.ones_like(ids_T)}
