"""Packed rows: the completions of one prompt are scored in one row, so that the prompt and its media are read once
per group instead of once per rollout.

A packed row is the prompt without its last token, then for every completion the prompt's last token again and the
completion. A prompt `p1 p2 p3` with the completions `a1 a2` and `b1` becomes

    token      p1  p2 | p3  a1  a2 | p3  b1
    segment     0   0 |  1   1   1 |  2   2      0 is the prompt, -1 is padding
    position    0   1 |  2   3   4 |  2   3      as if each completion stood alone behind the prompt
    label       -   - |  -  a1  a2 |  -  b1      only completion tokens are scored

and each token (a row below) attends to the prompt and to its own segment, up to itself; `attention.py` computes this
without a mask.

               p1  p2 | p3  a1  a2 | p3  b1
         p1     x   . |  .   .   . |  .   .
         p2     x   x |  .   .   . |  .   .
         p3     x   x |  x   .   . |  .   .
         a1     x   x |  x   x   . |  .   .
         a2     x   x |  x   x   x |  .   .
         p3     x   x |  .   .   . |  x   .
         b1     x   x |  .   .   . |  x   x

The last prompt token is repeated because a causal model predicts a token at the place before it: with a single `p3` the
place before `b1` would belong to `a2`. Media tokens stand in the prompt and have rotary positions of their own (time,
height, width); completion tokens count on from the last of them.
Shapes: B rollouts, C completion tokens, R packed rows (distinct prompts), P prompt tokens, T packed tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmrl.core.families import family_of
from mmrl.grpo.shared_prefix.attention import carrier, installed
from mmrl.model.encoding import Encoded
from mmrl.model.inputs import along_inputs, collate, core, has_rope_index, media_inputs

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed rows as model inputs, labels on their completion tokens, and where each completion token landed.

    `place_BC` indexes the flattened [R * T] tokens; `valid_BC` is False for padding.
    """

    inputs: dict[str, Tensor]
    labels_RT: Tensor
    place_BC: Tensor
    valid_BC: Tensor

    def unpacked(self, predicted: Tensor) -> Tensor:
        """[B, C] values of the completion tokens, 0 at padding, from [R, T - 1] values of every token but the first."""
        values_RT = torch.nn.functional.pad(predicted, (1, 0))
        return values_RT.reshape(-1)[self.place_BC].masked_fill(~self.valid_BC, 0.0)

    def before(self, values_BC: Tensor) -> Tensor:
        """[R, T]: the value of each completion token at the place before it, where it is predicted; 1 elsewhere."""
        values_RT = torch.ones_like(self.labels_RT, dtype=values_BC.dtype)
        values_RT.view(-1)[self.place_BC[self.valid_BC] - 1] = values_BC[self.valid_BC]
        return values_RT


def packed(model: Any, rows: Sequence[Encoded], completion_BC: Tensor, valid_BC: Tensor, *, pad: int) -> Packed:
    """The rollouts of `rows` packed for `model`, the bare module; rollouts of one prompt have the same object there."""
    installed(model.config)
    device = completion_BC.device
    prompts = list({id(row): row for row in rows}.values())
    number = {id(prompt): r for r, prompt in enumerate(prompts)}
    lengths_B = valid_BC.sum(dim=1).tolist()
    ids = [prompt.input_ids[:-1] for prompt in prompts]
    segments = [[0] * len(row_ids) for row_ids in ids]
    steps = [list(range(len(row_ids))) for row_ids in ids]  # positions of text, as if the sequence stood alone
    place_BC = torch.zeros_like(completion_BC)
    for b, (row, completion) in enumerate(zip(rows, completion_BC.tolist(), strict=True)):
        r, prompt = number[id(row)], row.input_ids
        place_BC[b] = torch.arange(completion_BC.shape[1], device=device) + len(ids[r]) + 1
        segment = segments[r][-1] + 1 if segments[r] else 1
        ids[r] = [*ids[r], prompt[-1], *completion[: lengths_B[b]]]
        segments[r] = [*segments[r], *[segment] * (lengths_B[b] + 1)]
        steps[r] = [*steps[r], *range(len(prompt) - 1, len(prompt) + lengths_B[b])]
    input_RT, segment_RT = _padded(ids, pad).to(device), _padded(segments, -1).to(device)
    step_RT = _padded(steps, 0).to(device)
    row_B = torch.tensor([number[id(row)] for row in rows], device=device)
    place_BC = (place_BC + row_B.unsqueeze(1) * input_RT.shape[1]).clamp(max=input_RT.numel() - 1)
    labels_RT = torch.full_like(input_RT, IGNORED)
    labels_RT.view(-1)[place_BC[valid_BC]] = completion_BC[valid_BC]
    media = {key: value.to(device) for key, value in collate(prompts, model).items()}
    along = along_inputs(prompts, step_RT, model)
    inputs = {
        "input_ids": input_RT,
        "attention_mask": carrier(segment_RT, _blocks(model, along)),
        "position_ids": _positions(model, prompts, media, step_RT),
        **{key: value for key, value in media.items() if key != "second_per_grid_ts"},
        **along,
    }
    return Packed(inputs, labels_RT, place_BC, valid_BC)


def packed_tokens(rows: Sequence[Encoded], valid_BC: Tensor) -> int:
    """R * T: how many tokens the packed rows of `rows` have, with the padding to the longest."""
    length: dict[int, int] = {}
    for row, tokens in zip(rows, valid_BC.sum(dim=1).tolist(), strict=True):
        length[id(row)] = length.get(id(row), len(row.input_ids) - 1) + 1 + tokens
    return len(length) * max(length.values())


def _blocks(model: Any, along: dict[str, Tensor]) -> Tensor | None:
    """The numbers of the pictures whose tokens attend to each other both ways [R, T], 0 elsewhere; None for models
    that do not do so."""
    if family_of(model.config).both_ways != "pictures" or "token_type_ids" not in along:
        return None
    of_picture_RT = along["token_type_ids"] == 1
    begins_RT = of_picture_RT & ~torch.nn.functional.pad(of_picture_RT, (1, 0))[:, :-1]
    return begins_RT.long().cumsum(dim=1) * of_picture_RT


def _positions(model: Any, prompts: Sequence[Encoded], media: dict[str, Tensor], step_RT: Tensor) -> Tensor:
    """Position ids of the packed rows: [R, T], or [3, R, T] for models with multimodal rotary positions."""
    grids = {key: value for key, value in media.items() if key.endswith("_grid_thw") or key == "second_per_grid_ts"}
    if not has_rope_index(model) or not grids:
        return step_RT
    prompt_RP = _padded([prompt.input_ids for prompt in prompts], 0).to(step_RT)
    valid_RP = _padded([[1] * len(prompt.input_ids) for prompt in prompts], 0).to(step_RT)
    types_RP = media_inputs(prompts, prompt_RP, model, left=False)["mm_token_type_ids"].to(step_RT) * valid_RP
    position_3RP, _ = core(model).get_rope_index(
        prompt_RP, mm_token_type_ids=types_RP, attention_mask=valid_RP, **grids
    )
    last_R1 = valid_RP.sum(dim=1, keepdim=True) - 1
    last_3R1 = position_3RP.gather(2, last_R1.expand(3, -1, -1))
    beyond_RT = step_RT - last_R1  # > 0 for completion tokens: they are text and count on from the prompt's last one
    inside_3RT = position_3RP.gather(2, torch.minimum(step_RT, last_R1).expand(3, -1, -1))
    return torch.where(beyond_RT > 0, last_3R1 + beyond_RT, inside_3RT)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])
