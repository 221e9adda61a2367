"""The reward for naming only objects that are in the picture, by rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from rewards.base import Rollout, Verdict, abstain, per_answer, unparsed
from rewards.parse.coco_objects import objects_named
from rewards.parse.extract import answer_text
from rewards.parse.strings import gold_texts

Mode = Literal["chair_i", "chair_s", "f1"]


@per_answer
def object_hallucination(rollout: Rollout, *, mode: Mode = "f1") -> Verdict:
    """How far a caption names only the COCO objects that are in the picture (CHAIR, 1809.02156).

    Gold: `objects` or `labels`, names of objects, together with the objects that the gold texts name. `mode`: `chair_i`
    is the share of mentions that are right, `chair_s` is 1 if all are; both favour a caption that names little. `f1`,
    the default, is the harmonic mean of `chair_i` and the share of gold objects that are named. A caption that names
    none of the 80 objects scores 0 where the gold has some.

    >>> completions = [Rollout("A dog catches a frisbee near a man.", {"objects": ["dog", "frisbee"]})]
    >>> [round(object_hallucination(completions, mode=mode)[0].score, 3) for mode in ("chair_i", "chair_s", "f1")]
    [0.667, 0.0, 0.8]
    >>> object_hallucination([Rollout("A bus and a dog.", {"objects": ["bus", "dog"]})])[0].score
    1.0
    """
    truth = _truth(rollout)
    if truth is None:
        return abstain("no gold objects, and no gold text that would name them")
    text = answer_text(rollout.answered)
    if not text:
        return unparsed("no caption")
    named = objects_named(text)
    if not named:
        return unparsed("no object named") if truth else Verdict(1.0, "no object named, none there")
    wrong = [name for name in named if name not in truth]
    right = 1 - len(wrong) / len(named)
    covered = len(truth & set(named)) / len(truth) if truth else 0.0
    f1 = 2 * right * covered / (right + covered) if right and covered else 0.0
    score = {"chair_i": right, "chair_s": float(not wrong), "f1": f1}[mode]
    return Verdict(score, f"{len(wrong)} of {len(named)} mentions wrong {sorted(set(wrong))}, covers {covered:.2f}")


def _truth(rollout: Rollout) -> set[str] | None:
    """The COCO names of the objects in the picture, None where the gold has none."""
    answer: Mapping[str, Any] = rollout.answer if isinstance(rollout.answer, Mapping) else {}
    listed = answer.get("labels") if answer.get("objects") is None else answer["objects"]
    texts = gold_texts(rollout)
    if not isinstance(listed, list | tuple) and not texts:
        return None
    labels = [label for label in listed if isinstance(label, str)] if isinstance(listed, list | tuple) else []
    return {name for text in [*labels, *texts] for name in objects_named(text)}
