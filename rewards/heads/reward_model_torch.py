"""The raw scores of a sequence classifier with one output, for prompts and completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from rewards.base import BRIEF, Rollout, Verdict, abstain, failed, unparsed
from rewards.heads.checkpoint_torch import BY_TOKEN, Checkpoint, chat, loaded, pictures_by_media, plain

Row = dict[str, Any]


def raw_scores(
    rollouts: Sequence[Rollout], *, model: str, device: str, dtype: str, batch: int
) -> list[float | Verdict]:
    """The bare output of the head for each rollout, or the verdict where there is none."""
    head = loaded("score", model, device, dtype)
    if head.model.config.num_labels != 1:
        raise InputError(f"reward_model {model}: its head has {head.model.config.num_labels} outputs, wanted 1")
    found: list[float | Verdict] = [row_or_verdict(one, head) for one in rollouts]  # pyright: ignore[reportAssignmentType]
    ready = [i for i, row in enumerate(found) if not isinstance(row, Verdict)]
    ready.sort(key=lambda i: len(found[i]["input_ids"]))  # pyright: ignore[reportIndexIssue, reportArgumentType]
    step = batch if head.model.config.get_text_config().pad_token_id is not None else 1  # else padding would be read
    for start in range(0, len(ready), step):
        taken = ready[start : start + step]
        rows: list[Any] = [found[i] for i in taken]
        with torch.inference_mode():
            inputs = {name: value.to(head.model.device) for name, value in padded(rows, head).items()}
            scores = head.model(**inputs).logits[:, 0].float().tolist()
        for i, score in zip(taken, scores, strict=True):
            found[i] = score
    return found


def row_or_verdict(rollout: Rollout, head: Checkpoint) -> Row | Verdict:
    """A rollout as inputs of the head, tensors without a dimension of rows, or the verdict where it cannot be read."""
    if not plain(rollout.completion, head.tokenizer).strip() and not (rollout.made and head.processor):
        return unparsed("empty completion")
    try:
        row = _row(rollout, head)
    except MediaError as error:
        return abstain(str(error))
    if len(row["input_ids"]) > head.room:  # cutting would remove a part that is judged
        why = f"{len(row['input_ids'])} tokens are more than the {head.room} that {head.name} takes"
        fits = len(_row(replace(rollout, completion=BRIEF), head)["input_ids"]) <= head.room
        return unparsed(why) if fits else failed(why)  # the completion must not escape a verdict by its length
    return row


def _row(rollout: Rollout, head: Checkpoint) -> Row:
    response = plain(rollout.answered, head.tokenizer)
    if head.processor is not None:
        messages = chat(rollout, head.tokenizer, pictures_by_media(rollout))
        as_made = not response.strip()  # the pictures stand in the question, and the head reads where an answer begins
        if not as_made:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": response}]})
        encoded = head.processor.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=as_made
        )
        return {name: value[0] if name in BY_TOKEN else value for name, value in encoded.items()}
    messages = chat(rollout, head.tokenizer)
    if head.tokenizer.chat_template:
        turn = {"role": "assistant", "content": response}
        encoded = head.tokenizer.apply_chat_template(
            [*messages, turn], tokenize=True, return_dict=True, return_tensors="pt"
        )
    else:
        encoded = head.tokenizer("\n".join(one["content"] for one in messages), response, return_tensors="pt")
    return {name: value[0] for name, value in encoded.items()}


def padded(rows: Sequence[Row], head: Checkpoint) -> Row:
    """Rows as one batch, padded on the right; tensors of pictures are concatenated."""
    joined: Row = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        if name in BY_TOKEN:
            fill = head.tokenizer.pad_token_id or 0 if name == "input_ids" else 0
            joined[name] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill)
        else:
            joined[name] = torch.cat(values)
        if joined[name].is_floating_point():
            joined[name] = joined[name].to(head.model.dtype)
    return joined
