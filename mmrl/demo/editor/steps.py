"""The steps of the demo of editors: its dataset, its training, the edits before and after, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_engine.schema import Sample
from data_engine.sources.editing.edit_pairs import versions
from eval.metrics import paired_estimate
from mmrl.core.config import read_yaml
from mmrl.core.media.image import load_image
from mmrl.core.media.pictures import as_media
from rewards import Rollout, get

HERE = Path(__file__).parent
CHECKPOINT = HERE / "checkpoint"
BATCH = 100  # edits that are made at once
RIGHT = "right"
METRICS = (RIGHT, "edit_match", "distance_to_real")


@dataclass(frozen=True, slots=True)
class Edit:
    """A picture that was made of a sample, and what is found of it.

    `kind` is that of the nearest picture of the source, the right edit and the faulty ones; `distance` is how far that
    is, the mean difference of a channel in [0, 1]; `score` is the rule's, which is the reward.
    """

    sample: Sample
    made: Image.Image
    kind: str
    distance: float
    score: float

    def values(self) -> dict[str, float]:
        """Its number for each of METRICS."""
        return dict(zip(METRICS, (float(self.kind == RIGHT), self.score, self.distance), strict=True))


def edited(model: Path, samples: Sequence[Sample], steps: int) -> list[Edit]:
    """What the editor in `model` makes of the samples, without noise in its steps and with the same noise to begin."""
    from mmrl.flow.algorithms.base import generator
    from mmrl.model.flow.loading import load_editor
    from mmrl.model.flow.sampling import sampled

    policy, pictures = load_editor(model), []
    for start in range(0, len(samples), BATCH):
        some = samples[start : start + BATCH]
        condition = policy.condition(
            [sample.answer["instruction"] for sample in some], [load_image(sample.media[0]) for sample in some]
        )
        noise = policy.noise(condition, [generator("demo", sample.id) for sample in some])
        made = sampled(policy, condition, noise, policy.times(steps, condition), level=0)
        pictures += policy.pictures(made.clean, condition)
    rollouts = [
        Rollout("", media=sample.media[:1], gold_media=sample.media[1:], made=[as_media(picture)])
        for sample, picture in zip(samples, pictures, strict=True)
    ]
    scores = [verdict.score or 0.0 for verdict in get("edit_match")(rollouts)]
    return [found(*each) for each in zip(samples, pictures, scores, strict=True)]


def found(sample: Sample, made: Image.Image, score: float) -> Edit:
    """What a picture is nearest to; the reward has no part in it."""
    source = load_image(sample.media[0])
    changes = read_yaml(HERE / "recipe.yaml")["sources"][0]["args"]["changes"]
    known = {**versions(source, sample.meta["change"], sample.meta["place"], changes), "unchanged": source}
    gaps = {kind: float(np.abs(_pixels(made) - _pixels(picture)).mean()) for kind, picture in known.items()}
    kind = min(gaps, key=lambda name: gaps[name])
    return Edit(sample, made, kind, gaps[kind], score)


def summarised(before: Sequence[Edit], after: Sequence[Edit]) -> list[dict[str, Any]]:
    """A row for each metric, `right` first: before, after and the paired difference with its interval over pictures."""
    rows = []
    for metric in METRICS:
        old, new = ([edit.values()[metric] for edit in edits] for edits in (before, after))
        change = asdict(paired_estimate(old, new))
        means = {"metric": metric, "before": float(np.mean(old)), "after": float(np.mean(new)), "n": len(old)}
        rows.append({**means, "difference": change["mean"], "low": change["low"], "high": change["high"]})
    return rows


def _pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
