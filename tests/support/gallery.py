"""A small run by hand: real pictures and clips, answers good and bad; a dataset, evaluations, a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.synthesis import digits_count, digits_grounding, digits_video
from eval.records import Record, RunInfo, replace_records
from eval.score import evaluation_suite, scored, suite_identity
from mmrl.core.canonical_json import digest
from mmrl.core.media.probe import probe
from mmrl.core.vision import CoordinateSpace, from_pixels
from mmrl.grpo.rollouts import columns_of, write_rollouts
from mmrl.model.encoding import Encoded
from rewards import Rollout

HOSTILE = "<script>alert('&')</script><img src=https://example.org/x.png>"
SEEN = (64, 64)
SPECS: dict[str, Any] = {
    "number": {"fn": "number_match", "tasks": ["number", "count"]},
    "grounding": {"fn": "box_iou", "tasks": ["grounding"]},
    "temporal": {"fn": "span_iou", "tasks": ["temporal"]},
    "format": {"fn": "think_format", "weight": 0.2},
}


def gallery(directory: Path) -> list[Sample]:
    """A dataset of every kind of prompt in `directory`; its samples, media on disk."""
    made = [
        *digits_grounding(n=4, split="test"),
        *digits_count(n=3, split="test"),
        *digits_video(n=3, split="test"),
        *digits_video(n=1, split="test", ask="which"),
    ]
    pictures = [sample.media[0] for sample in made[:2]]
    two = user_prompt("How many digits are in <image> and <image> together?", ["image", "image"])
    made += [
        Sample("", HOSTILE, "count", two, {"number": 3.0}, tuple(pictures)),
        Sample("", "hand", "number", user_prompt(f"{HOSTILE} 3 + 4?"), {"number": 7.0}),
    ]
    probed = (replace(sample, media=tuple(probe(media) for media in sample.media)) for sample in made)
    write_dataset(map(with_id, probed), directory)
    return list(read_samples(directory))


def answered(sample: Sample, quality: int) -> str:
    """A completion: right (0), close (1), wrong (2), without any answer (3)."""
    if quality == 3:
        return f"I cannot tell {HOSTILE}"
    if sample.task == "grounding":
        box = from_pixels(sample.answer["boxes"][0], "resized", (192, 192), SEEN) + (0, 4, -20)[quality]
        text = json.dumps([round(side) for side in box.tolist()])
    elif sample.task == "temporal":
        start, end = sample.answer["spans"][0]
        text = json.dumps([start + quality / 2, end + quality / 2])
    else:
        text = f"{sample.answer['number'] + quality:g}"
    return f"<think>{'I see it' if quality < 2 else ''}</think><answer>{text}</answer>"


def evaluation(out: Path, samples: list[Sample], qualities: list[int], *, draws: int = 1) -> Path:
    """An evaluation directory; the qualities of answers go round."""
    suite = evaluation_suite(SPECS)
    protocol = {"benchmark": "gallery", "split": "test", "decoding": "greedy", "space": "resized", "blind": False}
    if draws > 1:
        protocol |= {"decoding": "sampled", "temperature": 1.0}
    info = RunInfo(f"models/{out.name}", protocol, suite_identity(suite), {}, 0.1, planned=len(samples) * draws)
    records = [
        Record(
            key=info.key(sample.id, draw),
            protocol=info.protocol_id,
            benchmark="gallery",
            split="test",
            item_id=sample.id,
            draw=draw,
            task=sample.task,
            source=sample.source,
            prompt_id=digest(sample.prompt),
            prompt=sample.prompt,
            media=[media.row() for media in sample.media],
            seen_size=[list(SEEN) for _ in sample.media],
            response=answered(sample, qualities[(place + draw) % len(qualities)]),
            tokens=12,
            gold=sample.answer,
            meta={**sample.meta, "space": "resized"},
        )
        for place, sample in enumerate(samples)
        for draw in range(draws)
    ]
    out.mkdir(parents=True)
    replace_records(out, scored(records, suite, info.scorer), info)
    return out


def training(out: Path, samples: list[Sample], *, steps: int = 40, group: int = 4) -> Path:
    """A training output: rollouts of two steps, and metrics."""
    suite = evaluation_suite(SPECS)
    for step in (0, steps - 1):
        rollouts = [
            Rollout(
                completion=answered(sample, (draw + place) % 4),
                answer=sample.answer,
                task=sample.task,
                media=sample.media,
                seen_size=[SEEN] * len(sample.media),
                meta={"space": "resized"},
            )
            for place, sample in enumerate(samples)
            for draw in range(group)
        ]
        rows = [
            columns_of(
                _row(samples[place // group]),
                Encoded([], {}, tuple(rollout.seen_size)),
                (rollout.completion, len(rollout.completion) // 4),
                verdicts,
                0.5 - place % group / 2,
                False,
                step,
                space=CoordinateSpace.resized,
            )
            for place, (rollout, verdicts) in enumerate(zip(rollouts, suite.score(rollouts), strict=True))
        ]
        write_rollouts(rows, out, step=step, group=group)
    lines = [json.dumps(_metrics(step)) + "\n" for step in range(steps)]
    (out / "metrics.jsonl").write_text("".join(lines) + '{"step": 40, "rew')  # the last line was cut by a kill
    return out


def summary(difference: float = 0.1) -> list[dict[str, Any]]:
    """Summary rows by hand: the mix and two tasks, greedy and sampled."""
    pairs = [
        ("all", "total"),
        ("all", "format"),
        ("grounding", "grounding"),
        ("grounding", "format"),
        ("count", "format"),
        ("grounding", "total"),
        ("count", "total"),
    ]
    return [
        {
            "task": task,
            "reward": reward,
            "decoding": decoding,
            "before": 0.4,
            "after": 0.4 + difference - place * 0.05,
            "n": 100 - place,
            "difference": difference - place * 0.05,
            "low": difference - place * 0.05 - 0.04,
            "high": difference - place * 0.05 + 0.04,
            "prior": None if place == 3 else 0.2,
        }
        for decoding in ("greedy", "sampled")
        for place, (task, reward) in enumerate(pairs)
    ]


def _row(sample: Sample) -> Mapping[str, Any]:
    names = ("id", "task", "prompt", "answer", "media")
    return {name: getattr(sample, name) for name in names}


def _metrics(step: int) -> dict[str, float | None]:
    rise, noise = step / 80, (step * 7919 % 13) / 60
    named = {f"rewards/{name}/mean": 0.3 + rise + noise for name in SPECS}
    return {
        "step": step,
        "loss": 0.1,
        "reward": 0.5 + rise + noise,
        **named,
        "rewards/temporal/mean": None if step % 5 == 0 else 0.2 + noise,
        "completions/mean_length": 20 - rise * 10 + noise * 30,
    }
