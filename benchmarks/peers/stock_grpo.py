"""Stock TRL on the demo's questions about pictures: its GRPOTrainer as its users call it, with the demo's rewards.

Videos are left out: TRL 1.16 scores their rollouts without their frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_engine.schema import Sample
from mmrl.core.messages import user_text
from mmrl.train.config import TrainConfig
from rewards import Suite


def logged(model: Path, samples: Sequence[Sample], config: TrainConfig, out: Path) -> list[dict[str, Any]]:
    """What TRL logs of each step of its training on the samples, with the settings of `config.grpo`."""
    from datasets import Dataset, Features, Image, List, Value
    from transformers import set_seed
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from mmrl.grpo.rollouts import rollout_of
    from mmrl.model.encoding import encode
    from mmrl.model.policy import load_policy
    from mmrl.model.sampling import vision_token_ids
    from mmrl.trainers.dataset import as_dataset

    set_seed(config.seed)
    policy, processor = load_policy(str(model), config.vision)
    suite = Suite(config.rewards)
    rows = list(as_dataset(samples))
    encodings = [encode(processor, sample.prompt, sample.media, config.vision) for sample in samples]

    def total(completions: list[Any], number: list[int], **_: Any) -> list[float]:
        """The weighted sum of the verdicts."""
        rollouts = [
            rollout_of(dict(rows[place]), completion, encodings[place], config.space, 0, 1)
            for place, completion in zip(number, completions, strict=True)
        ]
        return [
            sum(weight * (vector[name].score or 0.0) for name, weight in zip(suite.names, suite.weights, strict=True))
            for vector in suite.score(rollouts)
        ]

    rewards: Any = [total]
    message = List({"role": Value("string"), "content": Value("string")})
    columns = {
        "prompt": [[{"role": "user", "content": user_text(sample.prompt)}] for sample in samples],
        "image": [sample.media[0].path for sample in samples],
        "number": list(range(len(samples))),
    }
    banned = {"suppress_tokens": list(vision_token_ids(policy.config, processor))}
    trainer = GRPOTrainer(
        policy,
        reward_funcs=rewards,
        args=GRPOConfig(
            str(out), **(config.grpo or {}), seed=config.seed, use_cpu=True, report_to="none", generation_kwargs=banned
        ),
        train_dataset=Dataset.from_dict(
            columns, features=Features({"prompt": message, "image": Image(), "number": Value("int64")})
        ),
        processing_class=processor,
    )
    trainer.train()
    return [line for line in trainer.state.log_history if "reward" in line]
