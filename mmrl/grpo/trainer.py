"""TRL's GRPOTrainer for any mix of text, images and videos, with rewards that may abstain.

TRL 1.16 knows images only: it re-processes them for every rollout, drops videos before scoring and breaks on batches
that mix prompts with and without images. Here the media never enter TRL. Each prompt is encoded once per generation
step; TRL sees the ready token ids, and every forward is handed the media of its rows. What is overridden of TRL's
private methods is here and, from the bottom up, in `mmrl.grpo.logprobs` (log-probs), `mmrl.grpo.generate`
(completions) and `mmrl.grpo.rollout_step` (rewards); `tests/mmrl/grpo/test_trl_contract.py` holds their signatures.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.utils import RepeatSampler

from mmrl.advantages import ADVANTAGES, dead_groups, options_of, statistics
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.grpo.config_checks import check_method, check_served
from mmrl.grpo.context_length import context_of
from mmrl.grpo.credit import Credit, by_spans, thr_weights_of
from mmrl.grpo.injection import Injection
from mmrl.grpo.logprobs import gathered
from mmrl.grpo.pair_sampler import PairSampler, logged_of_pairs, pair_places, told_of_pairs, unread
from mmrl.grpo.rollout_step import Rounds
from mmrl.grpo.rollouts import columns_of, write_rollouts
from mmrl.grpo.temperature import TemperatureSchedule, check_head
from mmrl.model.sampling import vision_token_ids
from mmrl.trainers.dummy_media import Blanks, media_kinds
from mmrl.trainers.monitor import FiniteGradients, SilentSteps, stop
from rewards import Suite, Verdict

logger = logging.getLogger(__name__)


class MultimodalGRPOTrainer(Rounds):
    """GRPO on prompts with images, several images, videos or none, mixed in one batch.

    `rewards` is the suite that scores the rollouts; its reward vector goes to `advantages`, a name of
    `mmrl.advantages.ADVANTAGES` with its options. `space` is the coordinate space that the model speaks.
    """

    num_generations: Any  # what TRL declares as possibly None
    num_generations_eval: Any
    max_steps: Any

    def __init__(
        self,
        model: Any,
        *,
        processing_class: Any,
        rewards: Suite,
        args: GRPOConfig,
        train_dataset: Dataset,
        budget: VisionBudget,
        space: CoordinateSpace = CoordinateSpace.resized,
        advantages: str = "gdpo",
        advantage_options: Mapping[str, Any] | None = None,
        shared_prefix: bool = True,
        temperature: TemperatureSchedule | None = None,
        refills: int = 0,
        inject: Injection | None = None,
        importance_cap: float | None = None,
        credit: Credit | None = None,
        **kwargs: Any,
    ) -> None:
        method = {"temperature": temperature, "refills": refills, "importance_cap": importance_cap, "credit": credit}
        options = check_method(args, rewards.names, advantages, advantage_options or {}, inject=inject, **method)
        if args.use_vllm:
            check_served(media_kinds(train_dataset))
            banned = dict.fromkeys(map(str, vision_token_ids(model.config, processing_class.tokenizer)), -100)
            args.generation_kwargs = {"logit_bias": banned, **cast(dict[str, Any], args.generation_kwargs or {})}
        args.reward_weights = list(rewards.weights)
        processing_class.tokenizer.padding_side = "left"  # on the right TRL misplaces what belongs to the prompt
        self.suite = rewards
        self.budget = budget
        self.space = space
        self.estimator = functools.partial(ADVANTAGES[advantages], **options)
        self.asked = options_of(advantages)  # what the estimator can be told of a batch
        self._compared_K = options.get("compared_K")
        self._pairs: list[tuple[int, int]] = []  # places in the training set, where the estimator compares pairs
        if "pairs_P" in self.asked:
            columns = train_dataset[:]
            self._pairs = pair_places(columns["id"], columns["meta"])
        self.credit = credit
        self.importance_cap = importance_cap
        self.inject = inject
        self._sharing = self._prefilling = None if shared_prefix else False  # None: not decided yet
        self.refills = refills
        self.schedule = temperature
        self._rewards_NK = torch.empty(0)
        self._batch: Mapping[str, Any] = {}
        self.silent = False  # no reward had a verdict on any rollout of this step
        super().__init__(
            model=model,
            reward_funcs=[_named(name) for name in rewards.names],
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        unwrapped: Any = self.accelerator.unwrap_model(self.model)
        self.context = context_of(unwrapped)
        self.banned_tokens = vision_token_ids(unwrapped.config, processing_class.tokenizer)
        if temperature is not None:
            check_head(unwrapped)
        self.add_callback(FiniteGradients(self))
        self.add_callback(SilentSteps(self))
        self._blanks = Blanks(self, processing_class, train_dataset)

    # One generation step

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = self._round(inputs)
        if self.model.training:
            output = self._refilled(output)
        told = {key: output.pop(key) for key in ("inputs", "completions", "verdicts", "rewards")}
        told["injected"] = output["injected"]
        self._rewards_NK = gathered(told["rewards"])
        advantages_N = self._advantages(told["inputs"], told["injected"], told["verdicts"])
        start = self.accelerator.process_index * len(inputs)
        told["advantages"] = advantages_N[start : start + len(inputs)]
        output["advantages"] = self._per_token(told, output)
        self._record(told, output)
        return output

    def _per_token(self, told: Mapping[str, Any], output: Mapping[str, Any]) -> Tensor:
        """[B] advantages of this process's rollouts, or [B, C] where something tells their tokens apart."""
        advantages_B, mask_BC, ids_BC = told["advantages"], output["completion_mask"], output["completion_ids"]
        keep, credit = mask_BC.shape[1], self.credit or Credit()
        if not self.model.training or (credit == Credit() and "importance" not in output):
            return advantages_B
        advantages_BC = advantages_B.unsqueeze(1).repeat(1, keep)
        if credit.spans is not None:
            said = [row[:count].tolist() for row, (_, count) in zip(ids_BC, told["completions"], strict=True)]
            advantages_BC = by_spans(advantages_BC, credit.spans, told["verdicts"], said, self._tokenizer)
        if credit.thr is not None:
            scores_B = told["rewards"][:, self.suite.names.index(credit.thr.reward)]
            scores_B = scores_B.masked_fill(told["injected"], float("nan"))  # not the policy's own answer
            input_ids = torch.cat([output["prompt_ids"], ids_BC], dim=1)
            attention_mask = torch.cat([output["prompt_mask"], mask_BC], dim=1)
            warm_BC = output.get("temperatures")

            def states(rows: slice) -> tuple[Tensor, Tensor]:
                warm = None if warm_BC is None else warm_BC[rows]
                return self._states(output["rows"][rows], input_ids[rows], attention_mask[rows], keep, warm)

            weights_BC = thr_weights_of(credit.thr, scores_B, ids_BC, mask_BC, self.num_generations, states)
            advantages_BC = advantages_BC * weights_BC.to(advantages_BC)
            self._metrics["train"]["thr/kept"].append(float((weights_BC[mask_BC.bool()] > 0).float().mean()))
        if "importance" in output:
            advantages_BC = advantages_BC * output["importance"].to(advantages_BC)
        return advantages_BC

    def _advantages(
        self, inputs: Sequence[Mapping[str, Any]], injected_N: Tensor, verdicts: Sequence[Mapping[str, Verdict]]
    ) -> Tensor:
        """[N] advantages of all processes' rows; replaces what TRL logged of its own."""
        mode = "train" if self.model.training else "eval"
        group = self.num_generations if mode == "train" else self.num_generations_eval
        rewards_PGK = self._rewards_NK.view(-1, group, len(self.suite.names))
        tasks_P = gather_object([row["task"] for row in inputs])[::group]
        options: dict[str, Any] = {"tasks_P": tasks_P} if "tasks_P" in self.asked else {}
        if "injected_PG" in self.asked and self.inject is not None:
            options["injected_PG"] = gathered(injected_N).view(-1, group)
            options["thinking_K"] = [name in self.inject.unrewarded for name in self.suite.names]
        if self._pairs:
            failed = [unread(said, self.suite.names, self._compared_K) for said in verdicts]
            metas = gather_object([row["meta"] for row in inputs])
            options |= told_of_pairs(metas, gather_object(failed), group, whole=mode == "train")
        advantages_PG = self.estimator(rewards_PGK, self.reward_weights.to(rewards_PGK), **options)
        counted_PGK = rewards_PGK[
            ..., self.reward_weights.to(rewards_PGK) != 0
        ]  # a reward of weight 0 is only looked at
        silent, metrics = bool(counted_PGK.isnan().all()), self._metrics[mode]
        metrics["steps_without_verdict"].append(float(silent))
        if mode == "train":
            self.silent = silent
        metrics["frac_reward_zero_std"][-1] = dead_groups(counted_PGK).all(dim=1).float().mean().item()
        own_PGK = rewards_PGK.masked_fill(gathered(injected_N).view(-1, group, 1), float("nan"))
        said = statistics(own_PGK, advantages_PG, self.suite.names, tasks_P, weights_K=self.suite.weights)
        if self._pairs:
            said |= logged_of_pairs(rewards_PGK, advantages_PG, options, self._compared_K)
            metrics["frac_reward_zero_std"][-1] = (advantages_PG == 0).all(dim=1).float().mean().item()
        for name, value in said.items():
            metrics[name].append(value)
        advantages_N = advantages_PG.flatten()
        for _ in range(min(len(advantages_N), len(self._logs["advantages"]))):
            self._logs["advantages"].pop()
        self._logs["advantages"].extend(advantages_N.tolist())
        return advantages_N

    def _record(self, told: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Write this step's rollouts of all processes to `OUT/rollouts`."""
        if not self.model.training:
            return
        told_of_rows = zip(
            told["inputs"],
            output["rows"],
            told["completions"],
            told["verdicts"],
            told["advantages"].tolist(),
            told["injected"].tolist(),
            strict=True,
        )
        rows = gather_object([columns_of(*row, space=self.space) for row in told_of_rows])
        if self.accelerator.is_main_process:
            out, step = Path(str(self.args.output_dir)), self.state.global_step
            write_rollouts(rows, out, step=step, group=self.num_generations)

    # Scoring

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._rows, self._temperature_BC = inputs["rows"], inputs.get("temperatures")
        self._batch, self._strange_B = inputs, inputs["injected"] if self.inject is not None else None
        loss = super()._compute_loss(model, inputs)
        if not loss.isfinite():
            self.stop_on_nan("the loss")
        return loss

    def stop_on_nan(self, what: str) -> None:
        """Save the batch at hand and stop."""
        rows = [
            {"prompt": self._tokenizer.decode(row.input_ids), "completion": self._tokenizer.decode(ids)}
            for row, ids in zip(self._rows, self._batch["completion_ids"], strict=True)
        ]
        stop(Path(str(self.args.output_dir)), self.state.global_step, what, self._batch, rows)

    # Data order

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:  # pyright: ignore[reportIncompatibleMethodOverride]
        sampler = super()._get_train_sampler(dataset)
        assert isinstance(sampler, RepeatSampler)
        sampler = PairSampler(sampler, self._pairs) if self._pairs else sampler
        return _EpochSampler(sampler, self.args.seed, epoch=lambda: int(self.state.epoch or 0))


class _EpochSampler(Sampler[int]):
    """TRL's RepeatSampler whose order depends on the seed and the epoch alone, so that a resumed run finds it again.

    The epoch is asked for: `set_epoch` does not reach the sampler of a resumed run with several processes.
    """

    def __init__(self, repeat: RepeatSampler, seed: int, *, epoch: Callable[[], int]) -> None:
        self.repeat = repeat
        self.seed = seed
        self.epoch = epoch

    def __iter__(self) -> Any:
        if self.repeat.shuffle:
            self.repeat.generator.manual_seed(self.seed + self.epoch())
        return iter(self.repeat)

    def __len__(self) -> int:
        return len(self.repeat)


def _named(name: str) -> Any:
    """What TRL wants as a reward function: it takes the name; the scores come from the suite."""

    def reward(**_: Any) -> list[float]:
        raise RuntimeError(f"{name} is scored by the suite")

    reward.__name__ = name
    return reward
