"""Rollouts of policies that make pictures: drawn, scored by a suite, and written to files.

Shapes: N pictures of a micro-batch, B of all micro-batches of this process, K rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from PIL import Image

from mmrl.core.canonical_json import dumps
from mmrl.core.media.item import Media
from mmrl.core.media.pictures import as_media
from mmrl.flow.algorithms.base import TRAINED, Drawn, generator
from mmrl.flow.pictures import edit_of, instruction_of, opened, source_of
from mmrl.flow.sampling import sampled
from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.batch_advantages import Estimated, Estimation
from mmrl.grpo.rollouts import verdict_columns, write_rollouts
from rewards import Rollout, Suite, Verdict

FLAT = 2 / 255  # a picture whose channels spread less is constant
FULL = 0.95  # of the values of a saturated picture lie at an end of the range

Row = Mapping[str, Any]


class Rollouts:
    """Turns the micro-batches of an optimizer step into pictures with advantages."""

    def __init__(self, trainer: Any, suite: Suite, estimation: Estimation) -> None:
        self.trainer, self.suite, self.estimation = trainer, suite, estimation

    def __call__(self, batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Each micro-batch with `drawn` and `advantage_N`; all of them are scored together."""
        if not batches:
            return []
        group = self.trainer.args.num_generations
        drawn = [self.drawn(batch["rows"]) for batch in batches]
        rows = [row for batch in batches for row in batch["rows"] for _ in range(group)]
        pictures = [picture for each in drawn for picture in self.trainer.policy.pictures(each.clean, each.condition)]
        made = [as_media(picture) for picture in pictures]
        verdicts = self.suite.score([self._rollout(row, media) for row, media in zip(rows, made, strict=True)])
        found = self._estimated(rows, verdicts, group)
        self.trainer.silent = found.silent
        self.trainer.keep(found.metrics | collapse(pictures))
        first = self.trainer.accelerator.process_index * len(rows)
        advantage_B = found.advantages_N[first : first + len(rows)]
        self._write(rows, made, verdicts, advantage_B.tolist())
        parts = advantage_B.to(self.trainer.accelerator.device).split([len(each) for each in drawn])
        return [
            {**batch, "drawn": each, "advantage_N": part}
            for batch, each, part in zip(batches, drawn, parts, strict=True)
        ]

    @torch.no_grad()
    def drawn(self, rows: Sequence[Row]) -> Drawn:
        """`num_generations` pictures for each row, next to each other, as latents."""
        args, algorithm, networks = self.trainer.args, self.trainer.algorithm, self.trainer.model
        network = networks.trained if algorithm.draws_by == TRAINED else networks.copies[algorithm.draws_by]
        policy, group = self.trainer.policy.using(network), args.num_generations
        condition = policy.condition([instruction_of(row) for row in rows], opened([source_of(row) for row in rows]))
        condition = condition.repeated(group)
        step = self.trainer.state.global_step
        keys = [(args.seed, step, row["id"], place) for row in rows for place in range(group)]
        draws = [generator("draw", *key) for key in keys]
        times = policy.times(args.sampling_steps, condition)
        noise = policy.noise(condition, draws)
        trajectory = sampled(policy, condition, noise, times, level=algorithm.level, generator=draws)
        return Drawn(condition, trajectory, keys, group)

    def _rollout(self, row: Row, made: Media) -> Rollout:
        state, gold = self.trainer.state, edit_of(row)
        return Rollout(
            completion="",
            answer=row["answer"],
            task=row["task"],
            prompt=row["prompt"],
            media=[source_of(row)],
            meta=row["meta"],
            group=row["id"],
            step=state.global_step,
            total_steps=state.max_steps,
            made=[made],
            gold_media=[gold] if gold else [],
        )

    def _estimated(self, rows: Sequence[Row], verdicts: Sequence[Mapping[str, Verdict]], group: int) -> Estimated:
        """The advantages of all processes; the means of rewards are among the metrics."""
        device = self.trainer.accelerator.device
        scores = [[verdict.score for verdict in row.values()] for row in verdicts]
        rewards_BK = torch.tensor([[float("nan") if s is None else s for s in row] for row in scores], device=device)
        injected_B = torch.zeros(len(rows), dtype=torch.bool, device=device)
        batch = RolloutBatch(rows=(), samples=rows, verdicts=verdicts, rewards_BK=rewards_BK, injected_B=injected_B)
        found = self.estimation(batch, group, self.suite.weights)
        means = gathered(rewards_BK).nanmean(dim=0).tolist()
        for name, mean in zip(self.suite.names, means, strict=True):
            found.metrics[f"rewards/{name}/mean"] = mean
        found.metrics["reward"] = float(np.nansum(np.multiply(means, self.suite.weights)))
        return found

    def _write(
        self,
        rows: Sequence[Row],
        made: Sequence[Media],
        verdicts: Sequence[Mapping[str, Verdict]],
        advantage: list[float],
    ) -> None:
        args, step = self.trainer.args, self.trainer.state.global_step + 1
        kept = args.save_pictures_steps and not step % args.save_pictures_steps
        parts = zip(rows, made, verdicts, advantage, strict=True)
        columns = gather_object([columns_of(*part, step=step, kept=bool(kept)) for part in parts])
        if self.trainer.accelerator.is_main_process:
            write_rollouts(columns, Path(str(args.output_dir)), step=step, group=args.num_generations)


def columns_of(
    row: Row, made: Media, verdicts: Mapping[str, Verdict], advantage: float, *, step: int, kept: bool
) -> dict[str, Any]:
    """A picture as one row of a rollout file: the columns of `mmrl.grpo.rollouts.columns_of`, and the picture itself
    in `made` if it is `kept`."""
    gold = edit_of(row)
    return {
        "id": row["id"],
        "task": row["task"],
        "prompt": dumps(row["prompt"]),
        "answer": dumps(row["answer"]),
        "media": [source_of(row).row()],
        "gold_media": [gold.row()] if gold else [],
        "made": [{"kind": made.kind, "bytes": made.bytes, "width": made.width, "height": made.height}] if kept else [],
        "seen_size": [],
        "opened": "",
        "completion": "",
        "tokens": 0,
        "advantage": advantage,
        "injected": False,
        "drawn_at": step,
        **verdict_columns(verdicts),
        "space": "pixel",
    }


def collapse(pictures: Sequence[Image.Image]) -> dict[str, float]:
    """The shares of pictures that show nothing: constant ones, and those with nearly all values at an end."""
    pixels = [np.asarray(picture, dtype=np.float32) / 255 for picture in pictures]
    constant = [bool(values.std(axis=(0, 1)).max() < FLAT) for values in pixels]
    saturated = [bool(((values == 0) | (values == 1)).mean() > FULL) for values in pixels]
    return {"pictures/constant": float(np.mean(constant)), "pictures/saturated": float(np.mean(saturated))}
