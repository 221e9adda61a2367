"""A prompt's media as vLLM's token endpoint takes them: the trainer's own ids and tensors, no second processor.

`features` of a request to `/inference/v1/generate`: for each media item a hash, the range of its tokens in the ids, and
its tensors as base64 of msgpack. Shapes: n patches, C channels, T frames of a patch, P its side.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import torch
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.model.encoding import Encoded

RAW = 3  # the msgpack extension under which vLLM reads the bytes of a tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """How an architecture's media are laid out for vLLM.

    `seconds`: a video comes with the seconds between its grids. `steps`: a video is shown as its time steps, with
    stamps between them; each goes as a picture, which gives the same numbers, since it attends within itself.
    """

    seconds: bool = False
    steps: bool = False


LAYOUTS = {"qwen2_5_vl": Layout(seconds=True), "qwen3_vl": Layout(steps=True)}
MEDIA = {"image": ("pixel_values", "image_grid_thw"), "video": ("pixel_values_videos", "video_grid_thw")}


class FeatureWriter:
    """Writes the `features` of prompts for the model with this `config` and processor.

    vLLM rescales and normalises the pixels itself, with the numbers of the picture processor: pixels go as the whole
    numbers that they were before, a quarter of the bytes.
    """

    def __init__(self, config: Any, processor: Any) -> None:
        if config.model_type not in LAYOUTS:
            raise InputError(
                f"how vLLM takes the media of a {config.model_type} is not known; known: {', '.join(sorted(LAYOUTS))}; "
                "use engine: local"
            )
        self.layout = LAYOUTS[config.model_type]
        self.tokens = {"image": config.image_token_id, "video": config.video_token_id}
        self.merged = config.vision_config.spatial_merge_size**2
        self.norms = {
            "image": _normalisation(processor.image_processor),
            "video": _normalisation(processor.video_processor),
        }

    def __call__(self, prompt: Encoded) -> dict[str, Any] | None:
        """The `features` of a prompt; None if it has no media."""
        items = sorted(self._items(prompt), key=lambda item: item[1])
        if not items:
            return None
        content: dict[str, Any] = {"mm_hashes": {}, "mm_placeholders": {}, "kwargs_data": {}}
        for kind, offset, length, tensors in items:
            data: Any = msgpack.packb(tensors)
            content["mm_hashes"].setdefault(kind, []).append(hashlib.sha256(data).hexdigest())
            content["mm_placeholders"].setdefault(kind, []).append({"offset": offset, "length": length})
            content["kwargs_data"].setdefault(kind, []).append(base64.b64encode(data).decode())
        return content

    def _items(self, prompt: Encoded) -> Iterator[tuple[str, int, int, dict[str, Any]]]:
        """(kind for vLLM, place of the first token, number of tokens, tensors) of each media item or time step."""
        for kind, (pixels, grid) in MEDIA.items():
            if grid not in prompt.tensors:
                continue
            if self.norms[kind] != self.norms["image"]:
                raise InputError(
                    "the processor normalises videos and pictures by other numbers, and vLLM uses those of pictures "
                    "for both; set image_mean, image_std and rescale_factor of the two to the same, or use engine local"
                )
            steps = kind == "video" and self.layout.steps
            grids_N3 = _time_steps(prompt.tensors[grid]) if steps else prompt.tensors[grid]
            seconds = prompt.tensors.get("second_per_grid_ts") if kind == "video" and self.layout.seconds else None
            raw = raw_pixels(prompt.tensors[pixels], *self.norms[kind])
            runs = _runs(prompt.input_ids, self.tokens[kind], [int(g.prod()) // self.merged for g in grids_N3])
            start = 0
            for number, (grid_3, (offset, length)) in enumerate(zip(grids_N3, runs, strict=True)):
                patches, start = raw[start : start + int(grid_3.prod())], start + int(grid_3.prod())
                as_kind = "image" if steps else kind
                names = MEDIA[as_kind]
                tensors = {names[0]: _cut_along_rows(patches), names[1]: _one_each(grid_3)}
                if seconds is not None:
                    tensors["second_per_grid_ts"] = _one_each(torch.as_tensor(seconds[number]).float())
                yield as_kind, offset, length, tensors


def raw_pixels(pixels: Tensor, mean: Sequence[float], std: Sequence[float], rescale: float) -> Tensor:
    """Normalised patches [n, C*T*P*P] as the uint8 they were before."""
    shaped = pixels.float().reshape(len(pixels), len(mean), -1)
    back = (shaped * torch.tensor(std)[:, None] + torch.tensor(mean)[:, None]) / rescale
    whole = back.round()
    if len(pixels) and (float((whole - back).abs().max()) > 0.05 or whole.min() < 0 or whole.max() > 255):
        raise InputError(
            "the pixels of a prompt are not whole numbers from 0 to 255 before the processor rescales and normalises "
            "them, as vLLM wants them; set do_rescale and do_normalize of the processor to true, or use engine: local"
        )
    return whole.to(torch.uint8).reshape(pixels.shape)


def _normalisation(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    return tuple(processor.image_mean), tuple(processor.image_std), float(processor.rescale_factor)


def _time_steps(grids_N3: Tensor) -> Tensor:
    rows = [[1, int(height), int(width)] for steps, height, width in grids_N3 for _ in range(int(steps))]
    return torch.tensor(rows)


def _runs(ids: Sequence[int], token: int, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(place, length) of each run of `token`, of these lengths.

    >>> _runs([5, 9, 9, 5, 9], 9, [2, 1])
    [(1, 2), (4, 1)]
    """
    places = [place for place, one in enumerate(ids) if one == token]
    runs, start = [], 0
    for length in lengths:
        own = places[start : start + length]
        if len(own) != length or own[-1] - own[0] != length - 1:
            raise InputError(f"a media item of {length} tokens has no {length} tokens {token} in a row in its prompt")
        runs.append((own[0], length))
        start += length
    if start != len(places):
        raise InputError(f"a prompt has {len(places)} media tokens {token}, its media make {start}")
    return runs


def _cut_along_rows(tensor: Tensor) -> dict[str, Any]:
    options = {"keep_on_cpu": False, "slices": [[0, len(tensor), None]], "dim": 0}
    return {"data": _tensor(tensor), "field": ["flat", options]}


def _one_each(tensor: Tensor) -> dict[str, Any]:
    return {"data": _tensor(tensor), "field": ["batched", {"keep_on_cpu": True}]}


def _tensor(tensor: Tensor) -> list[Any]:
    whole = tensor.detach().cpu().contiguous()
    name = str(whole.dtype).removeprefix("torch.")
    return [name, list(whole.shape), msgpack.ExtType(RAW, whole.numpy().tobytes())]


def packed_items(data: bytes) -> dict[str, tuple[str, Tensor]]:
    """The tensors of an item that `FeatureWriter` has packed, each with the kind of its field."""
    content: Any = msgpack.unpackb(data, strict_map_key=False)
    return {name: (value["field"][0], _read(*value["data"])) for name, value in content.items()}


def _read(dtype: str, shape: Sequence[int], raw: Any) -> Tensor:
    return torch.frombuffer(bytearray(raw.data), dtype=getattr(torch, dtype)).reshape(list(shape))
