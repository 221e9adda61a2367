"""Embeddings of texts, pictures and answers by checkpoints. Shapes: N inputs, T tokens, D dimensions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mmrl.core.config import InputError
from rewards.base import Rollout, Verdict
from rewards.heads.checkpoint_torch import Checkpoint, loaded
from rewards.heads.process_model_torch import step_rows
from rewards.heads.reading_torch import Row, padded
from rewards.heads.reward_model_torch import rows_or_verdicts

Vectors = NDArray[np.float64]


def text_embeddings(texts: Sequence[str], *, model: str, device: str, dtype: str, batch: int) -> Vectors:
    """Unit vectors [N, D] of texts: the mean over their tokens of the last hidden states of an encoder."""
    encoder = loaded("embedding", model, device, dtype)

    def embed(part: Sequence[str]) -> torch.Tensor:
        inputs = encoder.tokenizer(part, padding=True, truncation=True, max_length=_limit(encoder), return_tensors="pt")
        inputs = inputs.to(encoder.model.device)
        hidden_NTD = encoder.model(**inputs).last_hidden_state.float()
        mask_NT1 = inputs["attention_mask"][..., None].float()
        return (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)

    return _unit(embed, texts, batch)


def clip_texts(texts: Sequence[str], *, model: str, device: str, dtype: str, batch: int) -> Vectors:
    """Unit vectors [N, D] of texts in the space of a CLIP-like model; texts are cut at its context."""
    clip = _clip(model, device, dtype)
    padding = "max_length" if clip.model.config.model_type.startswith("siglip") else True  # as SigLIP was trained

    def embed(part: Sequence[str]) -> torch.Tensor:
        inputs = clip.tokenizer(part, padding=padding, truncation=True, max_length=_limit(clip), return_tensors="pt")
        return _features(clip.model.get_text_features(**inputs.to(clip.model.device)))

    return _unit(embed, texts, batch)


def clip_pictures(pictures: Sequence[Image.Image], *, model: str, device: str, dtype: str, batch: int) -> Vectors:
    """Unit vectors [N, D] of pictures in the space of a CLIP-like model."""
    clip = _clip(model, device, dtype)

    def embed(part: Sequence[Image.Image]) -> torch.Tensor:
        pixels = clip.processor.image_processor(images=list(part), return_tensors="pt")["pixel_values"]
        return _features(clip.model.get_image_features(pixel_values=pixels.to(clip.model.device, clip.model.dtype)))

    return _unit(embed, pictures, batch)


def pixel_vectors(pixels_N3HW: torch.Tensor, *, model: str, device: str, dtype: str) -> torch.Tensor:
    """Unit vectors [N, D] of pictures in [0, 1] in the space of a CLIP-like model, with a gradient."""
    clip = _clip(model, device, dtype)
    shown = clip.processor.image_processor(images=list(pixels_N3HW), do_rescale=False, return_tensors="pt")
    features = clip.model.get_image_features(pixel_values=shown["pixel_values"].to(clip.model.device, clip.model.dtype))
    return torch.nn.functional.normalize(_features(features).float(), dim=1)


@torch.inference_mode()
def last_states(rollouts: Sequence[Rollout], *, model: str, device: str, dtype: str, batch: int) -> list[Any]:
    """The last hidden state [D] of the last token of each answer behind its prompt, which a head on this checkpoint
    scores; the verdict where an answer cannot be read."""
    backbone = loaded("backbone", model, device, dtype)
    found: list[Any] = _answer_rows(rollouts, backbone)
    ready = [i for i, row in enumerate(found) if not isinstance(row, Verdict)]
    ready.sort(key=lambda i: len(found[i]["input_ids"]))
    for start in range(0, len(ready), batch):
        taken = ready[start : start + batch]
        rows = [found[i] for i in taken]
        inputs = {name: value.to(backbone.model.device) for name, value in padded(rows, backbone).items()}
        states_NTD = backbone.model.base_model(**inputs).last_hidden_state.float().cpu()
        for i, row, states_TD in zip(taken, rows, states_NTD, strict=True):
            found[i] = states_TD[len(row["input_ids"]) - 1].double().numpy()
    return found


def _answer_rows(rollouts: Sequence[Rollout], backbone: Checkpoint) -> list[Row | Verdict]:
    """Answers as the head of this checkpoint reads them: as turns, or as steps where it scores tokens."""
    if getattr(backbone.model.config, "scores", None) is None:
        return rows_or_verdicts(rollouts, backbone)
    made = step_rows(rollouts, [[(0, len(rollout.completion))] for rollout in rollouts], backbone)
    return [one if isinstance(one, Verdict) else one[0] for one in made]


@functools.lru_cache(maxsize=4)
def _clip(model: str, device: str, dtype: str) -> Any:
    clip = loaded("embedding", model, device, dtype)
    if clip.processor is None or not hasattr(clip.model, "get_image_features"):
        raise InputError(
            f"{model} is a {clip.model.config.model_type} model; embedding_similarity wants CLIP or SigLIP"
        )
    return clip


def _limit(checkpoint: Any) -> int:
    config = getattr(checkpoint.model.config, "text_config", None) or checkpoint.model.config
    return min(checkpoint.tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))


def _features(found: Any) -> torch.Tensor:
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def _unit(embed: Any, inputs: Sequence[Any], batch: int) -> Vectors:
    with torch.inference_mode():
        parts = [embed(inputs[i : i + batch]).float().cpu() for i in range(0, len(inputs), batch)]
    vectors_ND = torch.cat(parts).double().numpy()
    return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
