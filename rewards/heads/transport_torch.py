"""The model of the reward `transport`. Shapes: B pictures, N tokens of one text, M patches, H heads, D dimensions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.messages import user_text
from rewards.heads.checkpoint_torch import Checkpoint, loaded
from rewards.heads.transport_plan import costs, plan
from rewards.rollout_files import read_gold

REGULAR = 1e-3  # added to the variances of the Gaussians: a dataset may have fewer pictures than dimensions
Pictures = Sequence[Image.Image] | Tensor


class Matching:
    """A BLIP checkpoint with a matching head, and how it scores: the options are those of `transport`."""

    def __init__(
        self,
        model: str,
        device: str = "auto",
        dtype: str = "float32",
        *,
        part: Literal["tokens", "distribution"] = "tokens",
        real: str | None = None,
        mass: float = 0.9,
        smoothing: float = 0.1,
        place: float = 0.2,
    ) -> None:
        self.checkpoint: Checkpoint = loaded("matching", model, device, dtype)
        self.map = None if real is None else _map(real, model, device, dtype)
        self.mass, self.smoothing, self.place = mass, smoothing, place

    @torch.no_grad()
    def scores(self, pictures: Pictures, text: str) -> list[float]:
        """The score of each picture for the text."""
        return self.of(pictures, text).tolist()

    def of(self, pictures: Pictures, text: str) -> Tensor:
        """[B]: the same, with a gradient where the pictures are pixels [B, 3, H, W] in [0, 1]."""
        values = _values(self.checkpoint, pictures)
        return self._by_tokens(values, text) if self.map is None else self._by_distribution(values, text)

    def _by_tokens(self, values: Tensor, text: str) -> Tensor:
        model, inputs = self.checkpoint.model, _read(self.checkpoint, text)
        seen_BMD = model.vision_model(pixel_values=values).last_hidden_state
        said_ND = normalize(model.text_proj(model.text_encoder(**inputs).last_hidden_state[0]), dim=-1)
        cosine_BNM = (normalize(model.vision_proj(seen_BMD[:, 1:]), dim=-1) @ said_ND.T).transpose(1, 2)
        together = {name: part.expand(len(values), -1) for name, part in inputs.items()}
        layers: list[Tensor] = []
        with _attention(model, layers.append):
            model.text_encoder(**together, encoder_hidden_states=seen_BMD)
        attention_BNM = torch.stack(layers).mean(dim=(0, 2))[..., 1:]
        attention_BNM = attention_BNM / attention_BNM.sum(dim=-1, keepdim=True)
        plans_BNM = self._plans(cosine_BNM, attention_BNM)
        with _attention(model, lambda probs_BHNM: fused(probs_BHNM, plans_BNM)):
            read_BND = model.text_encoder(**together, encoder_hidden_states=seen_BMD).last_hidden_state
        return model.itm_head(read_BND[:, 0]).float().softmax(dim=-1)[:, 1]

    @torch.no_grad()
    def _plans(self, cosine_BNM: Tensor, attention_BNM: Tensor) -> Tensor:
        """[B, N, M + 1]: the plans, as constants; the first place of a picture is not a patch and gets nothing."""
        places_M2, plans = _places(cosine_BNM.shape[-1]), []
        for cosine_NM, attention_NM in zip(cosine_BNM.cpu().float(), attention_BNM.cpu().float(), strict=True):
            cost_NM = costs(cosine_NM, attention_NM, places_M2, place=self.place)
            plans.append(np.pad(plan(cost_NM, mass=self.mass, smoothing=self.smoothing), ((0, 0), (1, 0))))
        return torch.from_numpy(np.stack(plans)).to(cosine_BNM)

    def _by_distribution(self, values: Tensor, text: str) -> Tensor:
        assert self.map is not None
        matrix_DD, shift_D = self.map
        carried_D = (_text_vector(self.checkpoint, text) @ matrix_DD + shift_D).reshape(-1)
        made_BD = _picture_vectors(self.checkpoint, values)
        return made_BD @ normalize(torch.from_numpy(carried_D).to(made_BD), dim=-1)


def fused(attention: Tensor, plans_BNM: Tensor) -> Tensor:
    """Attention [B, N, M], or [B, H, N, M] of several heads, times the plan, with rows that sum to 1."""
    plans = plans_BNM[:, None] if attention.dim() == 4 else plans_BNM
    product = attention * plans
    return product / product.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(product.dtype).tiny)


@contextmanager
def _attention(model: Any, see: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Show `see` the attention of each layer to the picture, [B, H, N, M + 1]; what it returns takes its place."""
    places = [layer.crossattention.self.dropout for layer in model.text_encoder.encoder.layer]
    hooks = [place.register_forward_hook(lambda _, inputs, __: see(inputs[0])) for place in places]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _places(count: int) -> NDArray[np.float64]:
    """[M, 2]: the middles of the patches of a square picture, in [0, 1]."""
    side = round(count**0.5)
    steps = (np.arange(side) + 0.5) / side
    return np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)


def _values(checkpoint: Checkpoint, pictures: Pictures) -> Tensor:
    given: dict[str, Any] = {"do_rescale": False} if isinstance(pictures, Tensor) else {}
    shown = checkpoint.processor.image_processor(images=list(pictures), return_tensors="pt", **given)
    return shown["pixel_values"].to(checkpoint.model.device, checkpoint.model.dtype)


def _read(checkpoint: Checkpoint, text: str) -> dict[str, Tensor]:
    limit = checkpoint.model.config.text_config.max_position_embeddings
    inputs = checkpoint.tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
    return {name: inputs[name].to(checkpoint.model.device) for name in ("input_ids", "attention_mask")}


@torch.no_grad()
def _text_vector(checkpoint: Checkpoint, text: str) -> NDArray[np.float64]:
    said_ND = checkpoint.model.text_encoder(**_read(checkpoint, text)).last_hidden_state[0]
    return normalize(checkpoint.model.text_proj(said_ND[0]).float(), dim=-1).double().cpu().numpy()


def _picture_vectors(checkpoint: Checkpoint, values: Tensor) -> Tensor:
    seen_BMD = checkpoint.model.vision_model(pixel_values=values).last_hidden_state
    return normalize(checkpoint.model.vision_proj(seen_BMD[:, 0]).float(), dim=-1)


@functools.lru_cache(maxsize=4)
def _map(real: str, model: str, device: str, dtype: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(A [D, D], b [D]): the optimal map x A + b from the vectors of texts to those of real pictures, as Gaussians."""
    import ot

    checkpoint, place = loaded("matching", model, device, dtype), Path(real)
    rows = [(user_text(row.prompt), row.media[-1]) for row in read_gold(place) if row.media]
    if len(rows) < 2:
        raise InputError(f"transport: real {real} has {len(rows)} samples with a picture; it needs at least 2")
    texts_BD = np.stack([_text_vector(checkpoint, text) for text, _ in rows])
    pictures_BD = np.concatenate([_real_vector(checkpoint, media) for _, media in rows])
    found: Any = ot.gaussian.empirical_bures_wasserstein_mapping(texts_BD, pictures_BD, reg=REGULAR)
    return found


@torch.no_grad()
def _real_vector(checkpoint: Checkpoint, media: Media) -> NDArray[np.float64]:
    return _picture_vectors(checkpoint, _values(checkpoint, [load_image(media)])).double().cpu().numpy()
