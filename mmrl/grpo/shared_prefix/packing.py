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
Media that tools have returned stand in a completion; its tokens have the positions that they have in the whole row.

Completions that begin alike share their beginning as they share the prompt, at every level (`beginnings.py`). If the
first completion goes on by `c1 c2`, and a third one is `a1 a2 d1`:

    token      p1  p2 | p3  a1  a2 | a2  c1  c2 | a2  d1 | p3  b1
    segment     0   0 |  1   1  -1 |  2   2   2 |  3   3 |  4   4
    parent      0   0 |  0   0   0 |  1   1   1 |  1   1 |  0   0      the segment that this one goes on from
    label       -   - |  -  a1  a2 |  -  c1  c2 |  -  d1 |  -  b1

The last token of a beginning is repeated, as that of the prompt is. Where it stands first it is scored, and none sees
it.
Shapes: B rollouts, C completion tokens, R packed rows (distinct prompts), P prompt tokens, T packed tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmrl.core.families import family_of
from mmrl.grpo.shared_prefix.attention import PADDING, carrier, installed
from mmrl.grpo.shared_prefix.beginnings import Line, parts_by_prompt
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
    prompts = list({id(row.asked): row.asked for row in rows}.values())
    completions = _unpadded(completion_BC, valid_BC)
    parts = parts_by_prompt(rows, completions)
    lines = [Line(prompt.input_ids, parts[id(prompt)]) for prompt in prompts]
    input_RT = _padded([line.ids for line in lines], pad).to(device)
    segment_RT = _padded([line.segments for line in lines], PADDING).to(device)
    parent_RT = _padded([line.parents for line in lines], 0).to(device)
    step_RT = _padded([line.steps for line in lines], 0).to(device)
    places = torch.zeros_like(completion_BC).tolist()
    shown: list[Encoded] = []  # all that shows media, in the order of the tokens
    grown: list[Grown] = []
    for r, (prompt, line) in enumerate(zip(prompts, lines, strict=True)):
        shown.append(prompt)
        for b, first, place, count in line.places:
            places[b][first : first + count] = range(
                r * input_RT.shape[1] + place, r * input_RT.shape[1] + place + count
            )
            if rows[b].behind:
                shown += rows[b].behind
                grown.append(Grown(rows[b], completions[b], r, place))
    place_BC, labels_RT = torch.tensor(places, device=device), torch.full_like(input_RT, IGNORED)
    labels_RT.view(-1)[place_BC[valid_BC]] = completion_BC[valid_BC]
    media = {key: value.to(device) for key, value in collate(shown, model).items()}
    along = _along(model, prompts, step_RT, grown)
    inputs = {
        "input_ids": input_RT,
        "attention_mask": carrier(segment_RT, _blocks(model, along), parent_RT),
        "position_ids": _positions(model, prompts, step_RT, grown),
        **{key: value for key, value in media.items() if key != "second_per_grid_ts"},
        **along,
    }
    return Packed(inputs, labels_RT, place_BC, valid_BC)


def packed_tokens(rows: Sequence[Encoded], completion_BC: Tensor, valid_BC: Tensor) -> int:
    """R * T: how many tokens the packed rows of `rows` have, with the padding to the longest."""
    parts = parts_by_prompt(rows, _unpadded(completion_BC, valid_BC))
    prompts = {id(row.asked): len(row.input_ids) - 1 for row in rows}
    return len(parts) * max(prompts[prompt] + sum(part.tokens for part in of) for prompt, of in parts.items())


def _unpadded(completion_BC: Tensor, valid_BC: Tensor) -> list[list[int]]:
    lengths = valid_BC.sum(dim=1).tolist()
    return [ids[:length] for ids, length in zip(completion_BC.tolist(), lengths, strict=True)]


class Grown(NamedTuple):
    """A rollout that was shown media behind its prompt: its completion begins at place `start` of packed row `r`."""

    row: Encoded
    completion: list[int]
    r: int
    start: int

    @property
    def places(self) -> tuple[int, slice]:
        """The packed row, and its part that is the completion."""
        return self.r, slice(self.start, self.start + len(self.completion))


def _along(model: Any, prompts: Sequence[Encoded], step_RT: Tensor, grown: Sequence[Grown]) -> dict[str, Tensor]:
    """The tensors with a value per token [R, T, ...]."""
    along = along_inputs(prompts, step_RT, model)
    for one in grown:
        for key, values in along_inputs([one.row], step_RT[one.places][None], model).items():
            whole = along.setdefault(key, values.new_zeros(*step_RT.shape, *values.shape[2:]))
            whole[one.places] = values[0]
    return along


def _blocks(model: Any, along: dict[str, Tensor]) -> Tensor | None:
    """The numbers of the pictures whose tokens attend to each other both ways [R, T], 0 elsewhere; None for models
    that do not do so."""
    if family_of(model.config).both_ways != "pictures" or "token_type_ids" not in along:
        return None
    of_picture_RT = along["token_type_ids"] == 1
    begins_RT = of_picture_RT & ~torch.nn.functional.pad(of_picture_RT, (1, 0))[:, :-1]
    return begins_RT.long().cumsum(dim=1) * of_picture_RT


def _positions(model: Any, prompts: Sequence[Encoded], step_RT: Tensor, grown: Sequence[Grown]) -> Tensor:
    """Position ids of the packed rows: [R, T], or [3, R, T] for models with multimodal rotary positions."""
    position_3RT = _of_prompts(model, prompts, step_RT)
    if not has_rope_index(model) or not grown:
        return position_3RT
    position_3RT = position_3RT.expand(3, -1, -1).clone()  # of prompts without media there is one row
    for row, completion, r, start in grown:
        ids_1L = torch.tensor([[*row.input_ids, *completion]]).to(step_RT)
        types_1L = media_inputs([row], ids_1L, model, left=False)["mm_token_type_ids"].to(step_RT)
        grids, seen = _grids([row], model, step_RT.device), torch.ones_like(ids_1L)
        own_31L, _ = core(model).get_rope_index(ids_1L, mm_token_type_ids=types_1L, attention_mask=seen, **grids)
        position_3RT[:, r, start : start + len(completion)] = own_31L[:, 0, len(row.input_ids) :]
    return position_3RT


def _grids(rows: Sequence[Encoded], model: Any, device: Any) -> dict[str, Tensor]:
    """What multimodal positions are made of."""
    return {
        key: value.to(device)
        for key, value in collate(rows, model).items()
        if key.endswith("_grid_thw") or key == "second_per_grid_ts"
    }


def _of_prompts(model: Any, prompts: Sequence[Encoded], step_RT: Tensor) -> Tensor:
    """Position ids of prompts, and of completions that are text."""
    grids = _grids(prompts, model, step_RT.device)
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
