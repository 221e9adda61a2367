"""Embeddings of texts and pictures by checkpoints. Shapes: N inputs, T tokens, D dimensions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mmrl.core.config import InputError
from rewards.heads.checkpoint_torch import loaded

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
