"""How near pictures are to texts, in the space of a CLIP-like model. Shapes: B states, P prompts, D dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from mmrl.core.media.item import Media
from mmrl.core.media.pictures import pictures_of
from rewards.base import Rollout, Verdict, abstain, unparsed
from rewards.heads.reward_model import Batch, ModelName
from rewards.parse.extract import answer_text


def embedding_similarity(
    rollouts: Sequence[Rollout],
    *,
    model: ModelName,
    goal: str | list[str] | None = None,
    baseline: str | list[str] | None = None,
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.0,
    batch: Batch = 16,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """How near the last picture of a rollout is to a goal text, at least 0; for a video the mean over frames (VLM-RM).

    R = 1 - |P (s - g)|^2 / 2 with P = alpha d d^T / |d|^2 + (1 - alpha) I and d = g - b, for unit embeddings s of the
    picture, g of the `goal` and b of a neutral `baseline` description (2310.12921); of several texts each, the mean. At
    `alpha` 0 it is the cosine. `model` is a CLIP or SigLIP checkpoint. A `goal` scores pictures, such as an edited
    image, as in the paper. Without one the answer of the completion is the goal: does the picture show what it says?
    That use is ours. A high `alpha` is easily fooled, because a picture orthogonal to d looks good. Texts are cut at
    the model's context (77 tokens for CLIP).

    >>> g, b = np.array([1, 0, 0]), np.array([0.6, 0.8, 0])
    >>> goal_baseline(np.array([[0.8, 0.36, 0.48]]), g, b, 0.5).round(5).item()
    0.88652
    """
    goals, baselines = _listed(goal), _listed(baseline)
    if alpha and not baselines:
        raise InputError(f"embedding_similarity: alpha {alpha:g} needs a baseline, a neutral description")
    if baselines and len(baselines) != (len(goals) or 1):
        raise InputError(f"embedding_similarity: {len(goals) or 1} goals, {len(baselines)} baselines; as many of each")
    from rewards.heads.checkpoint_torch import FRAMES
    from rewards.heads.embeddings_torch import clip_pictures, clip_texts

    options: dict[str, Any] = {"model": model, "batch": batch, "device": device, "dtype": dtype}
    states_BD: dict[Media, NDArray[Any]] = {}  # rollouts of a group share their pictures
    base_D = clip_texts(baselines, **options).mean(axis=0) if baselines else None
    wanted_D = clip_texts(goals, **options).mean(axis=0) if goals else None
    verdicts: list[Verdict] = []
    for rollout in rollouts:
        answer = answer_text(rollout.answered)
        if not rollout.all_media:
            verdicts.append(abstain("no picture"))
            continue
        if wanted_D is None and not (answer and answer.strip()):
            verdicts.append(unparsed("empty answer"))
            continue
        last = rollout.all_media[-1]
        try:
            if last not in states_BD:
                states_BD[last] = clip_pictures(pictures_of(last, FRAMES), **options)
        except MediaError as error:
            verdicts.append(abstain(str(error)))
            continue
        goal_D = wanted_D if wanted_D is not None else clip_texts([answer or ""], **options)[0]
        value = float(goal_baseline(states_BD[last], goal_D, goal_D if base_D is None else base_D, alpha).mean())
        verdicts.append(Verdict(max(value, 0.0) if np.isfinite(value) else value, f"similarity {value:.4f}"))
    return verdicts


def goal_baseline(
    states_BD: NDArray[Any], goal_D: NDArray[Any], baseline_D: NDArray[Any], alpha: float
) -> NDArray[np.float64]:
    """VLM-RM's goal-baseline regularised reward of unit states [B]; a goal that is the baseline means alpha 0.

    >>> goal_baseline(np.array([[0, 0, 1]]), np.array([1, 0, 0]), np.array([0.6, 0.8, 0]), 1.0).round(7).item()
    0.9
    """
    off_BD = np.asarray(states_BD, dtype=np.float64) - goal_D
    d_D = np.asarray(goal_D, dtype=np.float64) - baseline_D
    length = float(d_D @ d_D)
    if length <= 1e-12:
        alpha, length = 0.0, 1.0
    kept_BD = alpha * (off_BD @ d_D / length)[:, None] * d_D + (1 - alpha) * off_BD
    return 1 - 0.5 * (kept_BD**2).sum(axis=1)


def _listed(texts: str | list[str] | None) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts or ())
