"""Trainers of policies that make pictures: flow matching on edits, and reinforcement learning on pictures they make.

transformers owns the loop, the optimizer, the data order and the checkpoints. One step of reinforcement learning:

    rows = next(batches)                                # P prompts
    drawn = sampled(rows, times G)                      # whole groups, each source encoded once
    rewards_PGK = suite.score(pictures)                 # NaN: no verdict
    advantages = estimator(rewards_PGK)                 # of all processes
    loss = algorithm.loss(drawn, advantages)            # for each micro-batch
    optimizer.step()                                    # skipped if no reward had a verdict
    copies follow                                       # as the algorithm says

What is drawn depends on the seed, the step, the prompt and the place in its group, not on the layout of processes.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import TrainingArguments

from mmrl.core.config import InputError, validate
from mmrl.flow.algorithms import algorithm_of
from mmrl.flow.algorithms.base import Drawn
from mmrl.flow.algorithms.consistency import Consistency
from mmrl.flow.arguments import FlowArguments
from mmrl.flow.consistency import consistency_loss
from mmrl.flow.networks import MovingAverage, Networks, Snapshots
from mmrl.flow.rollouts import Rollouts, asked_of
from mmrl.grpo.batch_advantages import Estimation
from mmrl.model.flow.pictures import condition_of, opened, right_of
from mmrl.model.flow.policy import Condition, PicturePolicy
from mmrl.model.flow.process import clean_from, gaussian, noised, squared_error
from mmrl.model.flow.sampling import generator
from mmrl.trainers.evaluation import StepEvaluation, weights_fingerprint
from mmrl.trainers.rows import LearnsFromRollouts, Row, RowTrainer
from rewards import Rollout, Suite
from rewards.gradients import check_gradients, gradient_of
from rewards.rules.edits import pixels_of


class PictureTrainer(RowTrainer, ABC):
    """What both stages share: the policy, whose network learns."""

    def __init__(
        self, policy: PicturePolicy, *, args: TrainingArguments, train_dataset: Any, copies: Sequence[str] = ()
    ) -> None:
        self.policy = policy
        average = args if isinstance(args, FlowArguments) and args.ema_decay else None
        networks: Any = Networks(policy.transformer, copies, averaged=average is not None)
        super().__init__(networks, args=args, train_dataset=train_dataset)
        self.policy.pipeline.to(self.accelerator.device)
        if average:
            self.add_callback(MovingAverage(networks, average.ema_decay, average.ema_steps))

    def measured(self, evaluation: StepEvaluation) -> dict[str, float]:
        """The metrics of the pictures that the network makes as it is, or by the average of its weights."""
        from eval.answer.backends import picture_generator

        network = self.model.trained
        policy = self.policy.using(network)
        with self.model.averaged():
            return evaluation.measured(
                lambda config: picture_generator(config, policy, evaluation.samples),
                weights_fingerprint(network),
                self.state.global_step,
            )


@dataclass(frozen=True, slots=True)
class Denoised:
    """Noised pictures at a time of their own [N], |v - (e - x_0)|^2 of each [N], and the clean latents that the
    velocities point at."""

    condition: Condition
    time_N: Tensor
    error_N: Tensor
    clean: Tensor


class FlowMatchingTrainer(PictureTrainer):
    """Supervised: the velocity from a noised picture must be that to the right one which the sample shows."""

    draws: ClassVar[str] = "sft"  # the name of its random numbers

    def __init__(self, policy: PicturePolicy, **settings: Any) -> None:
        if policy.mixes:
            raise InputError(f"guidance={policy.guidance:g} mixes two velocities, and this loss is of one; set it to 1")
        super().__init__(policy, **settings)

    def loss_of(self, model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The mean squared error of velocities."""
        return self.denoised(self.policy.using(model), batch["rows"]).error_N.mean(), {}

    def denoised(self, policy: PicturePolicy, rows: Sequence[Row], copies: int = 1) -> Denoised:
        """The velocities from noised `copies` of each right picture, those of a picture next to each other."""
        condition = condition_of(policy, rows)
        clean = policy.latents(opened([right for row in rows for right in right_of(row)]), condition)
        condition, clean = condition.repeated(copies), clean.repeat_interleave(copies, dim=0)
        keys = [(row["id"], *([copy] if copy else [])) for row in rows for copy in range(copies)]
        draws = [generator(self.draws, self.args.seed, self.state.global_step, *key) for key in keys]
        time = torch.cat([torch.rand(1, generator=each) for each in draws]).to(clean)
        noise = gaussian(clean, draws)
        noisy = noised(clean, noise, time)
        velocity = policy.velocity(noisy, time, condition)
        return Denoised(condition, time, squared_error(velocity, noise - clean), clean_from(noisy, velocity, time))


class ConsistencyTrainer(FlowMatchingTrainer):
    """Flow matching, and rewards of the clean pictures that early velocities point at (ControlNet++, 2404.07987)."""

    draws: ClassVar[str] = "consistency"
    args: FlowArguments

    def __init__(self, policy: PicturePolicy, *, rewards: Suite, args: FlowArguments, train_dataset: Any) -> None:
        self.options = validate(Consistency, args.options, where="flow.options of consistency")
        check_gradients(rewards.specs, where="rewards", follower="consistency", others="crd or flow_grpo")
        self.names, self.weights_K = rewards.names, torch.tensor(rewards.weights)
        plain = [spec.model_copy(update={"weight": 1.0}) for spec in rewards.specs.values()]
        self.scores = [gradient_of({"alone": spec}) for spec in plain]
        super().__init__(policy, args=args, train_dataset=train_dataset)
        self._check_followed(train_dataset[0])

    def loss_of(self, model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The flow's loss and the weighted one of the rewards, of early times."""
        policy, rows, options = self.policy.using(model), batch["rows"], self.options
        made = self.denoised(policy, rows, options.times)
        early_N = made.time_N <= options.latest
        flow, lacking_N = made.error_N.mean(), torch.zeros_like(made.error_N)
        logs = {"consistency/flow_matching": flow.item(), "consistency/early": early_N.float().mean().item()}
        if early_N.any():
            asked = [asked_of(row, self.state) for row in rows for _ in range(options.times)]
            pixels = policy.pixels(made.clean[early_N], made.condition).float()
            scores_NK = self._scored(pixels, [asked[place] for place in early_N.nonzero().flatten().tolist()])
            weights_K = self.weights_K.to(scores_NK)
            lacking_N[early_N] = (1 - scores_NK) @ weights_K
            means_K = scores_NK.detach().mean(dim=0)
            logs |= {f"rewards/{name}/mean": mean for name, mean in zip(self.names, means_K.tolist(), strict=True)}
            logs["reward"] = (means_K @ weights_K).item()
        return consistency_loss(flow, lacking_N, made.time_N, latest=options.latest, weight=options.weight), logs

    def _scored(self, pixels: Tensor, asked: Sequence[Rollout]) -> Tensor:
        """[N, K]: the score of each picture by each reward."""
        pairs = list(zip(pixels.split(1), asked, strict=True))
        return torch.stack([torch.cat([score(*pair) for pair in pairs]) for score in self.scores], dim=1)

    def _check_followed(self, row: Row) -> None:
        """InputError for rewards that give numbers without a gradient: an extractor of the user's may."""
        pixels = torch.from_numpy(pixels_of(right_of(row)[0])).float().permute(2, 0, 1)[None].requires_grad_(True)
        for name, score in zip(self.names, self.scores, strict=True):
            if not score(pixels, asked_of(row, self.state)).requires_grad:
                raise InputError(
                    f"rewards.{name} has no gradient on sample {row['id']}; what it reads from pixels must be "
                    "differentiable, without torch.no_grad() and numpy"
                )


class FlowTrainer(LearnsFromRollouts, PictureTrainer):
    """Reinforcement learning of an editor: `args.algorithm` on the advantages of the pictures that it makes."""

    args: FlowArguments

    def __init__(
        self,
        policy: PicturePolicy,
        *,
        rewards: Suite,
        args: FlowArguments,
        train_dataset: Any,
        advantages: str = "gdpo",
        advantage_options: Mapping[str, Any] | None = None,
    ) -> None:
        algorithm = algorithm_of(args.algorithm, args.options)
        if isinstance(algorithm, Consistency):
            raise InputError("flow.algorithm=consistency makes no pictures to learn from; use ConsistencyTrainer")
        self.algorithm = algorithm
        super().__init__(policy, args=args, train_dataset=train_dataset, copies=self.algorithm.copies)
        self.algorithm.prepare(self.model, args.sampling_steps)
        self.rollouts = Rollouts(self, rewards, Estimation(rewards, advantages, advantage_options or {}))
        self.add_callback(Snapshots(self.model, self.algorithm))

    def loss_of(self, model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The algorithm's."""
        drawn: Drawn = batch["drawn"]
        return self.algorithm.loss(self.policy.using(model), self.model, drawn, batch["advantage_TN"])
