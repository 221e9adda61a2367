"""How heads read rows: the beginning that answers to a question have in common is read once.

Shapes: B rows, T tokens, N places of a row, H hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from rewards.heads.checkpoint_torch import BY_TOKEN, Checkpoint

Row = dict[str, Any]
Places = Sequence[int]
EXACT, HALF = 1e-4, 0.05  # how far scores of rows read in both ways may be apart, in float32 and in half precision
READS_ONCE = "reads a beginning once"


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


@torch.inference_mode()
def scores_at(
    rows: Sequence[Row], places: Sequence[Places], questions: Sequence[Hashable], head: Checkpoint, batch: int
) -> list[Tensor]:
    """[N] of each row: the scores of the head at its places, in rising order; up to `batch` rows are read together.

    Rows with the same question begin alike. Their beginning is read once, with a cache that all of them go on from,
    where the scores are the same as those of rows read in whole. The first rows of a head are read in both ways.
    """
    found: list[Any] = [None] * len(rows)
    for taken in _batches(rows, questions, batch):
        own, ends = [rows[i] for i in taken], [places[i] for i in taken]
        shared = len({questions[i] for i in taken}) < len(taken)
        for i, scores in zip(taken, _scores(own, ends, _beginning(own, ends) if shared else 0, head), strict=True):
            found[i] = scores
    return found


def _batches(rows: Sequence[Row], questions: Sequence[Hashable], batch: int) -> Iterator[list[int]]:
    """The rows that are read together: those of a question, and rows that are alone with theirs by length."""
    same: dict[Hashable, list[int]] = defaultdict(list)
    for i, question in enumerate(questions):
        same[question].append(i)
    groups = [group for group in same.values() if len(group) > 1]
    groups.append([i for group in same.values() if len(group) == 1 for i in group])
    for group in groups:
        group.sort(key=lambda i: len(rows[i]["input_ids"]))
        yield from (group[start : start + batch] for start in range(0, len(group), batch))


def _scores(rows: Sequence[Row], places: Sequence[Places], same: int, head: Checkpoint) -> list[Tensor]:
    """The scores of rows of which the first `same` tokens are alike."""
    once = _read_once(rows, places, same, head) if same and head.decided.get(READS_ONCE, True) else []
    if once and READS_ONCE in head.decided:
        return once
    whole = _read_whole(rows, places, head)
    if same and READS_ONCE not in head.decided:
        head.decided[READS_ONCE] = bool(once) and _agree(once, whole, head)
    return once if once and head.decided[READS_ONCE] else whole


def _beginning(rows: Sequence[Row], places: Sequence[Places]) -> int:
    """How many tokens all rows begin with, up to the first place; 0 where they cannot be read apart from the rest."""
    if spanned(rows[0]):
        return 0
    first, *others = [row["input_ids"].tolist() for row in rows]
    return min(*(alike(first, other) for other in others), *(own[0] for own in places if own))


def _agree(once: Sequence[Tensor], whole: Sequence[Tensor], head: Checkpoint) -> bool:
    reach = EXACT if head.model.dtype == torch.float32 else HALF
    return all(torch.allclose(one, other, rtol=reach, atol=reach) for one, other in zip(once, whole, strict=True))


def _read_whole(rows: Sequence[Row], places: Sequence[Places], head: Checkpoint) -> list[Tensor]:
    states_BTH = head.model.base_model(**_there(padded(rows, head), head), use_cache=False).last_hidden_state
    return _scored(states_BTH, places, head)


def _read_once(rows: Sequence[Row], places: Sequence[Places], same: int, head: Checkpoint) -> list[Tensor]:
    """The same, by a cache of the first `same` tokens; empty where a layer does not keep the keys of all of them."""
    backbone, cache = head.model.base_model, DynamicCache(config=head.model.config)
    if hasattr(backbone, "rope_deltas"):
        backbone.rope_deltas = None  # those of the prompt that it read last
    beginning = {name: value[:same] if name in BY_TOKEN else value for name, value in rows[0].items()}
    backbone(**_there(padded([beginning], head), head), past_key_values=cache, use_cache=True)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return []
    cache.batch_repeat_interleave(len(rows))
    rest = padded([{"input_ids": row["input_ids"][same:]} for row in rows], head)
    states_BTH = backbone(**_there(rest, head), past_key_values=cache, use_cache=True).last_hidden_state
    return _scored(states_BTH, [[place - same for place in own] for own in places], head)


def _scored(states_BTH: Tensor, places: Sequence[Places], head: Checkpoint) -> list[Tensor]:
    states = [states_TH[list(own)] for states_TH, own in zip(states_BTH, places, strict=True)]
    return [head.model.score(states_NH).flatten().float() for states_NH in states]


def spanned(row: Row) -> bool:
    """Whether anything but what is known by token has a value for each token, such as which pictures it sees."""
    sizes = {size for name, value in row.items() if name not in BY_TOKEN for size in value.shape[1:]}
    return len(row["input_ids"]) in sizes


def alike(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with.

    >>> alike([1, 2, 3], [1, 2, 4, 5])
    2
    """
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))


def _there(inputs: Row, head: Checkpoint) -> Row:
    return {name: value.to(head.model.device) for name, value in inputs.items()}
