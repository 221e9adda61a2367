"""Methods that make the picture of a draw by a reward: best of n, ReNO, DTS and DTS*. The weights stay the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.decode.canvas import Canvas, Key
from eval.decode.choosing import best_place
from eval.decode.config import BestOfN, NoiseSearch, TreeSearch
from eval.decode.policy import SuiteGuide
from eval.generation import Draw
from eval.pass_at_k import best_of_n_kl_bound
from mmrl.core.vision import CoordinateSpace
from mmrl.model.flow.noise_search import optimised
from mmrl.model.flow.pictures import resized
from mmrl.model.flow.policy import Condition, PicturePolicy
from mmrl.model.flow.tree_search import Tree
from rewards.gradients import gradient_of


def best_of_n(canvas: Canvas, spec: BestOfN) -> Tensor:
    """The picture with the largest reward, the first among ties; with `soft`, one drawn by softmax(reward / soft)."""
    made = canvas.made(spec.n)
    uniform = float(torch.rand(1, generator=canvas.stream("soft")))
    place = best_place(canvas.rewards(made), spec.soft, uniform)
    if spec.soft is None:
        canvas.spent["kl_bound"] = best_of_n_kl_bound(spec.n)
    return made[place : place + 1]


def reno(canvas: Canvas, spec: NoiseSearch) -> Tensor:
    """The picture of the best noise on the way (ReNO, 2406.04312); the paper's generator makes it in one step."""
    reward = canvas.reward_of(gradient_of(spec.rewards))
    clean, _, _ = optimised(
        canvas.flowed,
        lambda made: -reward(made).sum(),
        canvas.noise(canvas.stream()),
        steps=spec.steps,
        rate=spec.rate,
        weight=spec.weight,
        max_norm=spec.max_norm,
    )
    return clean


def dts(canvas: Canvas, spec: TreeSearch) -> Tensor:
    """A picture drawn from a tree (DTS), or its best one (DTS*), 2506.20701. Noises are the children of its root."""
    numbers, star = itertools.count(), spec.method == "dts_star"

    def moved(state: Tensor | None, depth: int) -> Tensor:
        stream = canvas.stream("tree", next(numbers))
        return canvas.noise(stream) if state is None else canvas.stepped(state, depth - 1, stream)

    rng = np.random.default_rng(canvas.stream("choice").initial_seed())
    options = {"sharpness": spec.sharpness, "search": star, "explore": spec.explore}
    tree = Tree(None, canvas.steps + 1, moved, canvas.reward, rng=rng, **options)
    while canvas.spent["evaluations"] + canvas.steps <= spec.evaluations:
        tree.grow()
    found = tree.best if star else tree.drawn()
    assert found is not None  # the budget is that of a picture or more
    return found.state


METHODS: dict[str, Callable[[Canvas, Any], Tensor]] = {
    "best_of_n": best_of_n,
    "reno": reno,
    "dts": dts,
    "dts_star": dts,
}


class GuidedPictures:
    """Makes the picture of each draw by the method of `spec`, with `level` of noise in stochastic steps; up to `batch`
    pictures of a draw go into one forward."""

    def __init__(self, spec: Any, *, level: float, batch: int) -> None:
        self._spec, self._level, self._batch = spec, level, batch
        self._guide = SuiteGuide(spec, CoordinateSpace.pixel)

    def __call__(
        self,
        policy: PicturePolicy,
        condition: Condition,
        times: list[float],
        draws: Sequence[Draw],
        keys: Sequence[Key],
        sizes: Sequence[tuple[int, int]],
    ) -> list[tuple[Image.Image, dict[str, float]]]:
        """(the picture in its size, its costs) of each draw; `condition` has a sample for each."""
        canvases = [
            Canvas(
                policy,
                condition.only(place),
                times,
                draw,
                key=keys[place],
                level=self._level,
                guide=self._guide,
                shown_size=sizes[place],
                batch=self._batch,
            )
            for place, draw in enumerate(draws)
        ]
        clean = torch.cat([METHODS[self._spec.method](canvas, self._spec) for canvas in canvases])
        pictures = map(resized, policy.pictures(clean, condition), sizes)
        return [(made, canvas.spent) for made, canvas in zip(pictures, canvases, strict=True)]
