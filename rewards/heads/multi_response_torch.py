"""YOJO: all responses to a prompt scored in one pass (2604.10966). Shapes: B rows, R responses, T tokens, H hidden."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from mmrl.core.config import InputError
from rewards.heads.checkpoint_torch import BY_TOKEN, dtype_of, place_of, plain, readers

SEPARATOR = "<|resp_sep|>"
HEAD = "response_head.safetensors"
MIDDLE = 1024


def best_of_loss(scores_BR: Tensor, best_B: Tensor) -> Tensor:
    """Cross-entropy of the index of the best response; with two responses, Bradley-Terry. -inf marks missing ones.

    A row without a single response, or whose best response is missing, says nothing and is left out.

    >>> round(best_of_loss(torch.tensor([[2.0, 1.0, -torch.inf]]), torch.tensor([0])).item(), 7)
    0.3132617
    """
    kept_B = scores_BR.gather(1, best_B[:, None])[:, 0].isfinite()
    if not kept_B.any():
        return scores_BR.new_zeros(())
    return functional.cross_entropy(scores_BR[kept_B], best_B[kept_B])


class ResponseHead(nn.Module):
    """Hidden states to scores: Linear(H, 1024), SiLU, Linear(1024, 1), over sqrt(H)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(hidden, MIDDLE), nn.Linear(MIDDLE, 1)
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """A score for each hidden state."""
        return self.down(functional.silu(self.up(hidden)))[..., 0] / math.sqrt(hidden.shape[-1])


class MultiResponseModel(nn.Module):
    """A causal language model without its language head, the separator in its vocabulary, and a response head.

    With a `processor`, whose tokenizer it then is, the backbone sees the pictures of the messages.
    """

    def __init__(self, backbone: Any, tokenizer: Any, processor: Any = None) -> None:
        super().__init__()
        if SEPARATOR not in tokenizer.get_vocab():
            tokenizer.add_special_tokens({"additional_special_tokens": [SEPARATOR]}, replace_extra_special_tokens=False)
        if len(tokenizer) > backbone.get_input_embeddings().num_embeddings:
            backbone.resize_token_embeddings(len(tokenizer))
        self.backbone, self.tokenizer, self.processor = backbone, tokenizer, processor
        self.head = ResponseHead(backbone.config.get_text_config().hidden_size)

    def forward(self, messages: Sequence[dict[str, Any]], responses: Sequence[str]) -> Tensor:
        """The scores [R] of responses to one prompt, from one pass; an empty response has -inf."""
        asked, device = self.asked(messages), self.backbone.device
        ids, ends = self._followed(asked.pop("input_ids")[0].tolist(), responses)
        inputs = {"input_ids": torch.tensor([ids]), **{key: self._whole(key, asked[key], len(ids)) for key in asked}}
        inputs = {key: value.to(device) for key, value in inputs.items()}
        hidden_TH = self.backbone(**inputs, use_cache=False).last_hidden_state[0]
        places_R = torch.tensor([0 if end is None else end for end in ends], device=device)
        empty_R = torch.tensor([end is None for end in ends], device=device)
        scores_R = self.head(hidden_TH[places_R].to(self.head.up.weight.dtype))
        return scores_R.masked_fill(empty_R, -torch.inf)

    def encoded(
        self, messages: Sequence[dict[str, Any]], responses: Sequence[str]
    ) -> tuple[list[int], list[int | None]]:
        """Token ids, prompt first, responses joined by the separator; and where each ends, None for an empty one."""
        return self._followed(self.asked(messages)["input_ids"][0].tolist(), responses)

    def asked(self, messages: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """The prompt alone as inputs of the backbone: `input_ids` [1, T], and what its pictures are."""
        reader = self.processor or self.tokenizer
        if reader.chat_template:
            made = reader.apply_chat_template(
                list(messages), tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        else:
            made = self.tokenizer("\n".join(one["content"] for one in messages), return_tensors="pt")
        kept = BY_TOKEN if self.processor is None else made
        return {key: made[key] for key in made if key in kept and key != "attention_mask"}

    def _whole(self, key: str, value: Tensor, length: int) -> Tensor:
        """An input of the prompt for the whole row: what has a value for each token is 0 in the responses."""
        if key in BY_TOKEN:
            return functional.pad(value, (0, length - value.shape[1]))
        return value.to(self.backbone.dtype) if value.is_floating_point() else value

    def _followed(self, ids: list[int], responses: Sequence[str]) -> tuple[list[int], list[int | None]]:
        separator = self.tokenizer.convert_tokens_to_ids(SEPARATOR)
        ends: list[int | None] = []
        for number, response in enumerate(responses):
            said = self.tokenizer(plain(response, self.tokenizer).strip(), add_special_tokens=False)["input_ids"]
            ids += [separator, *said] if number else said
            ends.append(len(ids) - 1 if said else None)
        room = getattr(self.backbone.config.get_text_config(), "max_position_embeddings", None)
        if room and len(ids) > room:  # a cut separator would give a score to the wrong response
            raise InputError(f"{len(responses)} responses take {len(ids)} tokens, the model {room}; lower at_once")
        return ids, ends

    def save(self, directory: str | Path) -> None:
        """Write the model, its tokenizer and its head to a directory."""
        place = Path(directory)
        self.backbone.save_pretrained(place)
        (self.processor or self.tokenizer).save_pretrained(place)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        save_file(weights, place / HEAD, {"separator": json.dumps(SEPARATOR)})

    @classmethod
    def load(cls, directory: str | Path, dtype: str = "float32") -> MultiResponseModel:
        """The model that `save` wrote."""
        place = Path(directory)
        if not (place / HEAD).is_file():
            raise InputError(f"multi_response: no {HEAD} in {directory}; write one with MultiResponseModel.save")
        backbone = transformers.AutoModel.from_pretrained(place, dtype=dtype_of(dtype), trust_remote_code=False)
        model = cls(backbone, *readers(str(place)))
        try:
            model.head.load_state_dict(load_file(place / HEAD))
        except RuntimeError as error:
            raise InputError(f"multi_response: {place / HEAD} is not the head of this model: {error}") from None
        return model


@functools.lru_cache(maxsize=4)
def loaded(directory: str, device: str = "auto", dtype: str = "float32") -> MultiResponseModel:
    """A saved model, ready to score; loaded once in a process."""
    return MultiResponseModel.load(directory, dtype).to(place_of(device)).eval()


def averaged_scores(
    model: MultiResponseModel, messages: Sequence[dict[str, Any]], responses: Sequence[str], orders: int, at_once: int
) -> list[float]:
    """The scores of responses, each the mean over `orders` rotations, as later ones see earlier ones.

    More than `at_once` go in chunks that share the first response, whose scores put the chunks on one scale.
    """
    size = len(responses)
    if size <= at_once:
        return _rotated(model, messages, responses, orders)
    step = at_once - 1
    chunks = [[0, *range(i, min(i + step, size))] for i in range(1, size, step)]
    scores = [_rotated(model, messages, [responses[i] for i in chunk], orders) for chunk in chunks]
    anchor = sum(one[0] for one in scores) / len(scores)
    found = [anchor] * size
    for chunk, one in zip(chunks, scores, strict=True):
        for i, score in zip(chunk[1:], one[1:], strict=True):
            found[i] = score - one[0] + anchor
    return found


def _rotated(
    model: MultiResponseModel, messages: Sequence[dict[str, Any]], responses: Sequence[str], orders: int
) -> list[float]:
    size = len(responses)
    turns = sorted({number * size // orders for number in range(orders)})
    totals = torch.zeros(size, dtype=torch.float64)
    with torch.inference_mode():
        for turn in turns:
            order = [(i + turn) % size for i in range(size)]
            totals[order] += model(messages, [responses[i] for i in order]).double().cpu()
    return (totals / len(turns)).tolist()
