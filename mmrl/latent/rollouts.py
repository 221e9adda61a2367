"""Thoughts are drawn, the frozen model answers behind them, and a suite scores the answers.

Shapes: P prompts of a micro-batch, C thoughts of each that are drawn, G that are answered, D numbers of a thought, H
those of a state, B answers of this process, K rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from scipy.stats import spearmanr
from torch import Tensor

from eval.answer.latent import answers_behind, noise
from eval.answer.local import LocalGenerator
from mmrl.advantages.arrays import as_array, mixed
from mmrl.core.media.kept import kept
from mmrl.core.vision import CoordinateSpace
from mmrl.grpo.batch import gathered
from mmrl.grpo.batch_advantages import Estimation, as_rewards, reward_means
from mmrl.grpo.rollouts import columns_of, rollout_of, write_rollouts
from mmrl.model.encoding import Encoded, encode, naming
from rewards import Rollout, Suite, Verdict

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The prompts of a micro-batch, their states [P, H], the noise of the thoughts that were answered [P, G, D], the
    rewards predicted of these [P, G], and the answers as token ids."""

    rows: Sequence[Encoded]
    states_PH: Tensor
    noise_PGD: Tensor
    predicted_PG: Tensor
    answers: Sequence[list[int]]


class LatentRollouts:
    """Turns the micro-batches of an optimizer step into thoughts with advantages."""

    def __init__(
        self, trainer: Any, generator: LocalGenerator, suite: Suite, estimation: Estimation, space: CoordinateSpace
    ) -> None:
        self.trainer, self.generator, self.suite = trainer, generator, suite
        self.estimation, self.space = estimation, space

    def __call__(self, batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Each micro-batch with `drawn`, `advantage_PG` and `reward_PG`; all of them are scored together."""
        if not batches:
            return []
        trainer, group = self.trainer, self.trainer.args.num_generations
        drawn = [self.drawn(batch["rows"]) for batch in batches]
        rows = [row for batch in batches for row in batch["rows"] for _ in range(group)]
        asked = [encoded for each in drawn for encoded in each.rows for _ in range(group)]
        answers = [self.generator.answer(ids, (), {}) for each in drawn for ids in each.answers]
        rollouts = [self._rollout(*part) for part in zip(rows, (a.response for a in answers), asked, strict=True)]
        verdicts = self.suite.score(rollouts)
        rewards_BK = as_rewards(verdicts).to(trainer.accelerator.device)
        found = self.estimation.of_rows(rows, verdicts, rewards_BK, group)
        trainer.silent = found.silent
        total_B = torch.from_numpy(mixed(as_array(rewards_BK), as_array(self.suite.weights))).to(rewards_BK)
        trainer.keep(found.metrics | reward_means(self.suite, rewards_BK))
        trainer.keep(lengths(gather_object([(answer.tokens, answer.truncated) for answer in answers])))
        predicted_PG = torch.cat([each.predicted_PG for each in drawn])
        trainer.keep(foresight(gathered(predicted_PG), gathered(total_B.view(-1, group))))
        first = trainer.accelerator.process_index * len(rows)
        advantage_B = found.advantages_N[first : first + len(rows)]
        self._write(rows, asked, [(a.response, a.tokens) for a in answers], verdicts, advantage_B.tolist())
        parts = [values.view(-1, group).split([len(each.rows) for each in drawn]) for values in (advantage_B, total_B)]
        return [
            {**batch, "drawn": each, "advantage_PG": advantage.to(trainer.accelerator.device), "reward_PG": reward}
            for batch, each, advantage, reward in zip(batches, drawn, *parts, strict=True)
        ]

    @torch.no_grad()
    def drawn(self, rows: Sequence[Row]) -> Drawn:
        """The thoughts of each row, and the answers behind them: those of a row next to each other."""
        args, head = self.trainer.args, self.trainer.accelerator.unwrap_model(self.trainer.model)
        asked = [self._encoded(row) for row in rows]
        states_PH = self.generator.last_states(asked).float()
        count = args.draws or args.num_generations
        step = self.trainer.state.global_step
        keys = [("thought", args.seed, step, row["id"], place) for row in rows for place in range(count)]
        noise_PCD = noise(head, keys).unflatten(0, (len(rows), count))
        thoughts = head(states_PH, noise_PCD)
        place_PG = thoughts.predicted_PG.topk(args.num_generations).indices.sort(dim=1).values
        chosen = torch.arange(len(rows), device=place_PG.device)[:, None], place_PG
        repeated = [encoded for encoded in asked for _ in range(args.num_generations)]
        answers = answers_behind(self.generator, repeated, head, thoughts.latent_PGD[chosen].flatten(0, 1))
        return Drawn(asked, states_PH, noise_PCD[chosen], thoughts.predicted_PG[chosen], answers)

    def _encoded(self, row: Row) -> Encoded:
        generator = self.generator
        with naming(row["id"]):
            return encode(
                generator.processor,
                row["prompt"],
                row["media"],
                generator.budget,
                task=row["task"],
                form=generator.form,
            )

    def _rollout(self, row: Row, completion: str, asked: Encoded) -> Rollout:
        state = self.trainer.state
        return rollout_of(row, completion, asked, self.space, state.global_step, state.max_steps)

    def _write(
        self,
        rows: Sequence[Row],
        asked: Sequence[Encoded],
        completions: Sequence[tuple[str, int]],
        verdicts: Sequence[Mapping[str, Verdict]],
        advantages: Sequence[float],
    ) -> None:
        out, step = Path(str(self.trainer.args.output_dir)), self.trainer.state.global_step + 1
        written = [{**row, "media": [kept(media, out) for media in row["media"]]} for row in rows]
        parts = zip(written, asked, completions, verdicts, advantages, strict=True)
        columns = gather_object([columns_of(*part, injected=False, drawn_at=step, space=self.space) for part in parts])
        if self.trainer.accelerator.is_main_process:
            write_rollouts(columns, out, step=step, group=self.trainer.args.num_generations)


def lengths(answers: Sequence[tuple[int, bool]]) -> dict[str, float]:
    """Of answers as (tokens, whether the limit has ended them): as TRL logs them.

    >>> lengths([(3, False), (8, True)])
    {'completions/mean_length': 5.5, 'completions/clipped_ratio': 0.5}
    """
    tokens, cut = np.mean(answers, axis=0)
    return {"completions/mean_length": float(tokens), "completions/clipped_ratio": float(cut)}


def foresight(predicted_PG: Tensor, reward_PG: Tensor) -> dict[str, float]:
    """The rank correlation (Spearman) of predicted and true rewards within groups, over those that both tell apart;
    none if there are no such groups.

    >>> predicted = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    >>> foresight(predicted, torch.tensor([[0.0, 0.5, 0.2], [1.0, 1.0, 1.0]]))
    {'latent/rank_correlation': 0.5}
    """
    pairs = zip(as_array(predicted_PG), as_array(reward_PG), strict=True)
    told = [
        _rank_correlation(one[known], other[known])
        for one, other in pairs
        if (known := np.isfinite(other)).any() and np.ptp(one[known]) > 0 and np.ptp(other[known]) > 0
    ]
    return {"latent/rank_correlation": float(np.mean(told))} if told else {}


def _rank_correlation(one: Any, other: Any) -> float:
    found: Any = spearmanr(one, other)
    return float(found.statistic)
