"""The trainer of latent reasoning: a head learns thoughts behind which a frozen model answers better.

transformers owns the loop, the optimizer, the data order and the checkpoints. One step:

    states = frozen model at the end of each prompt     # P prompts
    thoughts ~ N(mean(states), deviation(states)^2)     # G of each
    answers = frozen model behind each thought          # greedy
    rewards_PGK = suite.score(answers)                  # NaN: no verdict
    advantages = estimator(rewards_PGK)                 # of all processes
    loss = policy + contrast - spread + prediction      # of the thoughts
    optimizer.step()                                    # skipped if no reward had a verdict

What is drawn depends on the seed, the step, the prompt and the place in its group, not on the layout of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from eval.answer.latent import LatentGenerator
from eval.answer.local import LocalGenerator
from mmrl.core.vision import CoordinateSpace
from mmrl.grpo.batch import gathered
from mmrl.grpo.batch_advantages import Estimation
from mmrl.latent.arguments import LatentArguments
from mmrl.latent.losses import contrastive_loss, policy_loss, prediction_loss, spread
from mmrl.latent.rollouts import Drawn, LatentRollouts
from mmrl.model.latent import LatentHead, Thoughts
from mmrl.trainers.evaluation import StepEvaluation, weights_fingerprint
from mmrl.trainers.rows import LearnsFromRollouts
from rewards import Suite


class LatentTrainer(LearnsFromRollouts):
    """Trains `head` by the rewards of what the frozen model of `generator` answers behind its thoughts.

    With `args.draws` more thoughts are drawn than answered. Those that are answered then have the largest predicted
    rewards, so that the gradient is that of a policy which was filtered; the paper's is too.
    """

    args: LatentArguments

    def __init__(
        self,
        head: LatentHead,
        *,
        generator: LocalGenerator,
        rewards: Suite,
        space: CoordinateSpace,
        args: LatentArguments,
        train_dataset: Any,
        advantages: str = "gdpo",
        advantage_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(head, args=args, train_dataset=train_dataset)
        generator.model.to(self.accelerator.device).requires_grad_(False).eval()
        self.generator = generator
        estimation = Estimation(rewards, advantages, advantage_options or {})
        self.rollouts = LatentRollouts(self, generator, rewards, estimation, space)

    def loss_of(self, model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum of the losses of `mmrl.latent.losses`; good are thoughts of a positive advantage."""
        drawn: Drawn = batch["drawn"]
        advantage_PG, good_PG = batch["advantage_PG"], batch["advantage_PG"] > 0
        thoughts: Thoughts = model(drawn.states_PH, drawn.noise_PGD)
        args = self.args
        parts = {
            "policy": policy_loss(thoughts.log_density_PG, advantage_PG),
            "contrast": args.contrast
            * contrastive_loss(thoughts.asked_PA, thoughts.meant_PGA, good_PG, args.contrast_temperature),
            "spread": -args.spread * spread(thoughts.latent_PGD, good_PG, args.spread_cap),
            "prediction": prediction_loss(thoughts.predicted_PG, batch["reward_PG"]),
        }
        values = torch.stack([*parts.values()])
        means = gathered(values.detach()[None]).mean(dim=0).tolist()
        return values.sum(), {f"latent/{name}": mean for name, mean in zip(parts, means, strict=True)}

    def measured(self, evaluation: StepEvaluation) -> dict[str, float]:
        """The metrics of the answers behind the thoughts of the head as it is."""
        head: Any = self.accelerator.unwrap_model(self.model)

        def answering(config: Any) -> LatentGenerator:
            return LatentGenerator(self.generator.under(config.sampling), head)

        return evaluation.measured(answering, weights_fingerprint(head), self.state.global_step)
