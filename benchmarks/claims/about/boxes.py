"""Claims about rewards for sets of boxes: actions are answers, scored by the rewards themselves."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.claims.claim import Claim
from benchmarks.claims.table_policy import Arm, Floats, World, earned
from rewards import Rollout, get

JUNK = (0, 1, 3, 8)  # boxes that match nothing, after the right ones


def answers(rng: np.random.Generator) -> World:
    """Three objects; an answer has one, two or three of them right, and junk behind.

    Rewards: mAP and odLength as VLM-R1 released them, and how many boxes are junk, which is only watched.
    """
    released = [get("box_set", mode="map", as_released=True), get("box_set", mode="od_length", as_released=True)]
    means_PAK = np.empty((16, 12, 3))
    for place in range(len(means_PAK)):
        corners = rng.integers(0, 900, size=(3 + max(JUNK), 2))
        boxes = [[int(x), int(y), int(x) + 60, int(y) + 60] for x, y in corners]
        gold = {"boxes": boxes[:3], "labels": ["cat"] * 3}
        kinds = [(right, junk) for right in (1, 2, 3) for junk in JUNK]
        said = [_answer([*boxes[:right], *boxes[3 : 3 + junk]]) for right, junk in kinds]
        rollouts = [Rollout(text, gold, "detection") for text in said]
        for k, reward in enumerate(released):
            means_PAK[place, :, k] = [verdict.score for verdict in reward(rollouts)]
        means_PAK[place, :, 2] = [junk for _, junk in kinds]
    return World(means_PAK=means_PAK, noise_K=[0, 0, 0], drawn_K=[False] * 3, tasks_P=["detection"] * 16)


def _answer(boxes: list[list[int]]) -> str:
    listed = json.dumps([{"bbox_2d": box, "label": "cat"} for box in boxes])
    return f"<answer>```json\n{listed}\n```</answer>"


def tidiness(world: World, policy_PA: Floats) -> float:
    """Minus the mean number of junk boxes in an answer."""
    return -float(earned(world, policy_PA)[:, 2].mean())


BOXES: dict[str, Claim] = {
    "od_length": Claim(
        paper="VLM-R1 (2504.07615)",
        claim="odLength removes the junk boxes that plain mAP leaves",
        setting="three objects, answers with 0 to 8 junk boxes behind the right ones; junk boxes fewer, odLength - mAP",
        world=answers,
        new=Arm(estimator="grpo", weights_K=[0, 1, 0]),
        old=Arm(estimator="grpo", weights_K=[1, 0, 0]),
        measure=tidiness,
        rollouts=10_000,
    ),
}
