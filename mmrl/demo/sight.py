"""Sight before language: a vision tower learns what is where before a language model looks through it.

Published vision-language models begin with a tower that sees. Answers alone teach a random one to see too slowly: a
letter says little about a picture. Here each vision token tells, by a linear head that is thrown away afterwards, which
share of its area shows each digit, shape and colour, in each of the two frames that it spans; and then where the edges
of the thing in it are. The tower's own positions are relative, so without the second lesson a language model would have
to find out for itself in which row and column of the picture a token stands.

Shapes: N clips of two frames, h x w vision tokens of a frame, K things to see, E edges (left, top, right, bottom) by
thresholds between 0 and 1.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import binary_cross_entropy_with_logits

from data_engine.sources.easy_vqa import COLOURS, SHAPES
from data_engine.sources.synthesis import Box, Split, cropped, digit_tile, free_boxes, photographs, rng_of

THINGS = (*map(str, range(10)), *SHAPES, *COLOURS)
THRESHOLDS = np.arange(1, 16) / 16  # of the picture's side
Scene = tuple[np.ndarray, np.ndarray, np.ndarray]  # frames, shares and edges of one clip
STILL, CLIP = ([0, 1],), ([0], [1])  # the frames that show one and the same digit
BACKGROUNDS = 500


def sighted(
    model: Any,
    processor: Any,
    *,
    side: int,
    steps: int,
    rate: float,
    edges: bool = False,
    seed: int = 0,
    batch: int = 32,
) -> Linear:
    """Train the vision tower of `model`, a Qwen2.5-VL, on clips of `side` by `side` pixels; returns the head.

    `edges` teaches the edges of things as well as what they are. The language model stays as it is.
    """
    tower = model.model.visual
    cell = tower.patch_size * tower.spatial_merge_size
    torch.manual_seed(seed)
    told = len(THINGS) + 4 * len(THRESHOLDS) * edges
    head = Linear(model.config.text_config.hidden_size, 2 * told)
    torch.nn.init.constant_(head.bias, -3.0)  # most of a picture shows none of them
    weights = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    scenes = Scenes("train", side, cell, seed)
    tower.train()
    for step in range(1, steps + 1):
        frames_N2HW3, share_N2hwK, edge_N2hwE = scenes.drawn(batch)
        what_N2hwK, where_N2hwE = seen(tower, head, processor, frames_N2HW3).tensor_split([len(THINGS)], dim=-1)
        loss = binary_cross_entropy_with_logits(what_N2hwK, share_N2hwK)
        if edges:
            there = ~edge_N2hwE.isnan()
            loss = loss + 0.3 * binary_cross_entropy_with_logits(where_N2hwE[there], edge_N2hwE[there])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        pace.step()
        if step % 100 == 0:
            print(f"sight: step {step}/{steps}  loss {loss.item():.4f}", flush=True)
    tower.eval()
    return head


def seen(tower: Any, head: Linear, processor: Any, frames_N2HW3: np.ndarray) -> Tensor:
    """[N, 2, h, w, K or K + E] logits: the share of each thing in each token's area, and the edges of what is there."""
    clips = list(torch.from_numpy(frames_N2HW3).permute(0, 1, 4, 2, 3))
    inputs = processor.video_processor(videos=clips, do_sample_frames=False, return_tensors="pt")
    tokens = tower(inputs["pixel_values_videos"], grid_thw=inputs["video_grid_thw"]).pooler_output
    _, h, w = (inputs["video_grid_thw"][0] // tower.spatial_merge_size).tolist()
    return head(tokens).view(len(clips), h, w, 2, -1).permute(0, 3, 1, 2, 4)


class Scenes:
    """Clips of two frames and what is where in them: digits on photographs, and the pictures of easy-VQA."""

    def __init__(self, split: Split, side: int, cell: int, seed: int) -> None:
        self.split: Split = split
        self.side, self.cell = side, cell
        self.rng = rng_of("sight", split, seed)
        photos = photographs(split)
        self.backgrounds = [cropped(self.rng, photos, side, side) for _ in range(BACKGROUNDS)]
        self.shapes = list(easy_pictures(split))

    def drawn(self, n: int) -> tuple[np.ndarray, Tensor, Tensor]:
        """Frames [N, 2, H, W, 3], shares [N, 2, h, w, K], edges [N, 2, h, w, E] (NaN where nothing is).

        One in four shows a shape, the others digits.
        """
        drawn = [self._shape() if self.rng.random() < 0.25 else self._digits() for _ in range(n)]
        frames, shares, edges = zip(*drawn, strict=True)
        return np.stack(frames), torch.from_numpy(np.stack(shares)), torch.from_numpy(np.stack(edges))

    def _digits(self) -> Scene:
        """A photograph full of digits, since each of them teaches, or with a few."""
        rng, side = self.rng, self.side
        frames, share, edges = self._empty(self.backgrounds[int(rng.integers(BACKGROUNDS))])
        for x1, y1, x2, y2 in self._full() if rng.random() < 0.7 else self._sparse():
            for shown in STILL if rng.random() < 0.5 else CLIP:
                digit, mask = int(rng.integers(10)), np.zeros((side, side), bool)
                frames[shown, y1:y2, x1:x2] = digit_tile(rng, self.split, digit, x2 - x1)
                mask[y1:y2, x1:x2] = True
                self._note(share, edges, shown, [digit], mask)
        return frames, share, edges

    def _shape(self) -> Scene:
        place, words = self.shapes[int(self.rng.integers(len(self.shapes)))]
        with Image.open(place) as opened:
            picture = np.asarray(opened.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC))
        drawn_on = np.abs(picture.astype(int) - picture[0, 0]).sum(axis=-1) > 40
        frames, share, edges = self._empty(picture)
        self._note(share, edges, [0, 1], [THINGS.index(word) for word in words], drawn_on)
        return frames, share, edges

    def _empty(self, background: np.ndarray) -> Scene:
        """Two frames of a background on which nothing is."""
        n = self.side // self.cell
        share, edges = np.zeros((2, n, n, len(THINGS)), np.float32), np.full((2, n, n, 4 * len(THRESHOLDS)), np.nan)
        return np.stack([background] * 2), share, edges.astype(np.float32)

    def _note(
        self, share: np.ndarray, edges: np.ndarray, shown: list[int], things: list[int], mask: np.ndarray
    ) -> None:
        """Note that the area `mask` [H, W] of the frames `shown` shows some things."""
        n = self.side // self.cell
        part = mask.reshape(n, self.cell, n, self.cell).mean(axis=(1, 3))
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / self.side
        beyond = (box[:, None] > THRESHOLDS).astype(np.float32).reshape(-1)
        for frame in shown:
            main = part > np.maximum(0.2, share[frame].max(axis=-1))
            edges[frame][main] = beyond
            share[frame][..., things] += part[..., None]

    def _full(self) -> list[Box]:
        """A place in each of nine fields."""
        rng, field = self.rng, self.side // 3
        boxes = []
        for place in range(9):
            size = int(rng.integers(self.side // 4, field + 1))
            x, y = (int(rng.integers(field - size + 1)) + field * at for at in (place % 3, place // 3))
            boxes.append((x, y, x + size, y + size))
        return boxes

    def _sparse(self) -> list[Box]:
        sizes = self.rng.integers(self.side // 4, self.side * 3 // 8 + 1, size=int(self.rng.integers(1, 5)))
        return free_boxes(self.rng, self.side, sizes.tolist())


def easy_pictures(split: Split) -> Iterator[tuple[Path, list[str]]]:
    """The pictures of easy-VQA whose shape and colour its open questions name, with both words."""
    spec: Any = importlib.util.find_spec("easy_vqa")
    data = Path(spec.origin).parent / "data" / split
    named: dict[int, set[str]] = {}
    for _, answer, number in json.loads((data / "questions.json").read_text(encoding="utf-8")):
        if answer not in ("yes", "no"):
            named.setdefault(number, set()).add(answer)
    for number, words in sorted(named.items()):
        if len(words) == 2:
            yield data / "images" / f"{number}.png", sorted(words)
