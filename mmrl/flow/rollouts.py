"""Rollouts of policies that make pictures: drawn, scored by a suite, and written to files.

Shapes: N pictures of a micro-batch, B of all micro-batches of this process, K rewards, T steps (1 if all share an
advantage).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from transformers import TrainerState

from mmrl.advantages.arrays import as_array, mixed
from mmrl.core.canonical_json import dumps
from mmrl.core.media.item import Media
from mmrl.core.media.kept import kept_rows
from mmrl.core.media.pictures import as_media
from mmrl.flow.algorithms.base import TRAINED, Drawn
from mmrl.flow.monitor import MEASURES, measured
from mmrl.flow.policy_gradient import gains
from mmrl.grpo.batch import gathered
from mmrl.grpo.batch_advantages import Estimation, as_rewards, reward_means
from mmrl.grpo.rollouts import verdict_columns, write_rollouts
from mmrl.model.flow.pictures import condition_of, right_of, sources_of
from mmrl.model.flow.sampling import generator, sampled
from rewards import Rollout, Suite, Verdict

Row = Mapping[str, Any]


class Rollouts:
    """Turns the micro-batches of an optimizer step into pictures with advantages."""

    def __init__(self, trainer: Any, suite: Suite, estimation: Estimation) -> None:
        self.trainer, self.suite, self.estimation = trainer, suite, estimation

    def __call__(self, batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Each micro-batch with `drawn` and `advantage_TN`; all of them are scored together."""
        if not batches:
            return []
        algorithm, networks, group = self.trainer.algorithm, self.trainer.model, self.trainer.args.num_generations
        drawn = [self.drawn(batch["rows"]) for batch in batches]
        rows = [row for batch in batches for row in batch["rows"] for _ in range(group)]
        shots = [shot for each in drawn for shot in self.trainer.policy.shots(each.clean, each.condition)]
        made, verdicts, rewards_BK = self._scored(rows, shots)
        steps_TBK = self._gains(drawn, rows, rewards_BK) if algorithm.dense else rewards_BK[None]
        copies = len(steps_TBK)
        found = self.estimation.of_rows(rows * copies, list(verdicts) * copies, steps_TBK.flatten(0, 1), group)
        self.trainer.silent = found.silent
        if algorithm.dense and not found.silent:
            every_BTK = gathered(steps_TBK.transpose(0, 1))
            algorithm.learn(networks, torch.from_numpy(mixed(as_array(every_BTK), as_array(self.suite.weights))).T)
        self.trainer.keep(found.metrics | reward_means(self.suite, rewards_BK) | self._seen(shots, rows))
        own, first = steps_TBK[..., 0].numel(), self.trainer.accelerator.process_index
        advantage_TB = found.advantages_N[first * own : (first + 1) * own].view(len(steps_TBK), -1)
        self._write(rows, drawn, made, verdicts, advantage_TB.mean(dim=0).tolist())
        parts = advantage_TB.to(self.trainer.accelerator.device).split([len(each) for each in drawn], dim=1)
        return [
            {**batch, "drawn": each, "advantage_TN": part}
            for batch, each, part in zip(batches, drawn, parts, strict=True)
        ]

    def _scored(
        self, rows: Sequence[Row], shots: Sequence[Sequence[Image.Image]]
    ) -> tuple[list[Media], list[dict[str, Verdict]], Tensor]:
        """(what was made as media, the verdicts on it, its rewards [B, K] with NaN where there is no score)."""
        made = [self.trainer.policy.media(shot) for shot in shots]
        asked = [asked_of(row, self.trainer.state) for row in rows]
        verdicts = self.suite.score([replace(each, made=[m]) for each, m in zip(asked, made, strict=True)])
        return made, verdicts, as_rewards(verdicts).to(self.trainer.accelerator.device)

    @torch.no_grad()
    def _gains(self, drawn: Sequence[Drawn], rows: Sequence[Row], last_BK: Tensor) -> Tensor:
        """[T, B, K]: what each step adds to the rewards of the picture that the flow itself makes of its latent."""
        policy, rewards = self.trainer.policy, []
        for place in range(len(drawn[0].trajectory.levels)):
            shots = []
            for each in drawn:
                path = each.trajectory
                end = sampled(policy, each.condition, path.latents[place], path.times[place:], level=0).clean
                shots += policy.shots(end, each.condition)
            rewards.append(self._scored(rows, shots)[2])
        return gains(torch.stack([*rewards, last_BK]))

    @torch.no_grad()
    def drawn(self, rows: Sequence[Row]) -> Drawn:
        """`num_generations` pictures for each row, next to each other, as latents."""
        args, algorithm, networks = self.trainer.args, self.trainer.algorithm, self.trainer.model
        network = networks.trained if algorithm.draws_by == TRAINED else networks.copies[algorithm.draws_by]
        policy, group = self.trainer.policy.using(network), args.num_generations
        condition = condition_of(policy, rows).repeated(group)
        step = self.trainer.state.global_step
        keys = [(args.seed, step, row["id"], place) for row in rows for place in range(group)]
        draws = [generator("draw", *key) for key in keys]
        times = policy.times(args.sampling_steps, condition)
        noise = policy.noise(condition, draws)
        levels = algorithm.levels(networks, args.sampling_steps)
        trajectory = sampled(policy, condition, noise, times, level=levels, generator=draws)
        return Drawn(condition, trajectory, keys, group)

    def _seen(self, shots: Sequence[Sequence[Image.Image]], rows: Sequence[Row]) -> dict[str, float]:
        """What the pictures of all processes show beside their rewards, but for what no row tells."""
        values = torch.tensor(measured(shots, rows), device=self.trainer.accelerator.device)
        means = gathered(values).nanmean(dim=0).tolist()
        return {name: mean for name, mean in zip(MEASURES, means, strict=True) if not math.isnan(mean)}

    def _films(self, drawn: Sequence[Drawn], kept: bool) -> list[Media | None]:
        """The film of the first picture of each group, where pictures are `kept`."""
        film = self.trainer.policy.film
        return [
            as_media(film(each.trajectory.of(place), each.condition)) if kept and not place % each.group else None
            for each in drawn
            for place in range(len(each))
        ]

    def _write(
        self,
        rows: Sequence[Row],
        drawn: Sequence[Drawn],
        made: Sequence[Media],
        verdicts: Sequence[Mapping[str, Verdict]],
        advantage: list[float],
    ) -> None:
        args, step = self.trainer.args, self.trainer.state.global_step + 1
        kept = bool(args.save_pictures_steps) and not step % args.save_pictures_steps
        parts = zip(rows, made, self._films(drawn, kept), verdicts, advantage, strict=True)
        out = Path(str(args.output_dir))
        columns = gather_object([columns_of(*part, out, step=step, kept=kept) for part in parts])
        if self.trainer.accelerator.is_main_process:
            write_rollouts(columns, out, step=step, group=args.num_generations)


def asked_of(row: Row, state: TrainerState) -> Rollout:
    """What rewards see of a row beside the picture that is made of it."""
    return Rollout(
        completion="",
        answer=row["answer"],
        task=row["task"],
        prompt=row["prompt"],
        media=sources_of(row),
        meta=row["meta"],
        group=row["id"],
        step=state.global_step,
        total_steps=state.max_steps,
        gold_media=right_of(row),
    )


def columns_of(
    row: Row,
    made: Media,
    film: Media | None,
    verdicts: Mapping[str, Verdict],
    advantage: float,
    out: Path,
    *,
    step: int,
    kept: bool,
) -> dict[str, Any]:
    """A picture as one row of a rollout file in `out`: the columns of `mmrl.grpo.rollouts.columns_of`, the picture
    itself in `made` if it is `kept`, and in `film` how it came about."""
    return {
        "id": row["id"],
        "task": row["task"],
        "prompt": dumps(row["prompt"]),
        "answer": dumps(row["answer"]),
        "media": kept_rows(sources_of(row), out),
        "gold_media": kept_rows(right_of(row), out),
        "made": [_content(made)] if kept else [],
        "film": [_content(film)] if film else [],
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


def _content(media: Media) -> dict[str, Any]:
    """A picture in memory as a value of a column."""
    return {"kind": media.kind, "bytes": media.bytes, "width": media.width, "height": media.height}
