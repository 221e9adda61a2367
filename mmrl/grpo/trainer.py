"""TRL's GRPOTrainer for any mix of text, images and videos, with rewards that may abstain.

TRL 1.16 knows images only: it processes them again for every rollout, drops videos before scoring, and fails on batches
that mix prompts with and without images. Here the media never enter TRL. Each prompt is encoded once per generation
step, TRL gets the token ids, and every forward gets the media of its rows.

TRL and transformers own the loop; this class overrides the hooks that they call. The methods are thin: the work is done
by objects that the trainer holds, each in a file of its own. In the order in which they are called:

    called by TRL / transformers             our method does                           with
    ---------------------------------------  ----------------------------------------  -------------------------------
    once, when training begins
      train                                  ends the engine at the end                engines/
      _load_from_checkpoint                  restores every weight                     trainers/checkpoints.py
      _get_train_sampler                     order by seed and epoch; pairs together   epoch_sampler, pair_sampler
      _load_rng_state                        + where prompts are shared, drawn ahead   shared_prefix/parity.py, engines/
      _run_epoch                             stops if the checkpoint is the last step  trainers/checkpoints.py
    for every generation
      _prepare_inputs                        rollouts of a prompt in one micro-batch   rollout_step.by_prompt
      _generate_and_score_completions        rounds, advantages, rollout files         rollout_step.RolloutStep
        rollout_func                         completions, by the policy or by vLLM     generate, engines/, tool_turns
        _get_per_token_logps_and_entropies   old and reference log-probs               logprobs.LogProbs
        _calculate_rewards                   verdicts of the suite                     scoring.RolloutScoring
    for every micro-batch
      _compute_loss                          stops on NaN                              trainers/finite.py
        _get_per_token_logps_and_entropies   log-probs that are learned from           logprobs.LogProbs
    when it is time to
      evaluate                               `mmrl eval run` with these weights        trainers/evaluation.py
      _determine_best_metric                 a new best is saved                       trainers/evaluation.py
      _save_checkpoint, _get_output_dir      whole or not at all                       trainers/checkpoints.py
      _save_rng_state                        + where prompts are shared, drawn ahead   shared_prefix/parity.py, engines/
      _load_best_model                       restores every weight                     trainers/checkpoints.py
      create_model_card                      nothing: the run writes its own           trainers/checkpoints.py

`tests/mmrl/grpo/test_trl_contract.py` holds the signatures of all of them. One training step, as a loop that nobody
has to write:

    if a generation is due:                                 # every steps_per_generation * num_iterations micro-batches
        samples = next(sampler)                             # P prompts, G times each
        for _ in range(1 + refills):                        # dynamic sampling: again, for dead groups only
            rows = [encode(sample) for sample in samples]   # once per prompt, media included
            ids = sample_completions(rows)                  # from one prefill per prompt; gold answers inserted
            old_logprobs = score(rows, ids)                 # only if the weights change before the loss
            rewards_NK = suite.score(completions)           # NaN: no verdict
        advantages = estimator(rewards_PGK)                 # of all processes; spread over tokens if asked to
        micro_batches = shuffle_and_split(...)              # TRL; then sorted by prompt
    for micro_batch in micro_batches:
        logprobs = score(rows, ids)                         # one packed row per prompt
        ratio = exp(logprobs - old_logprobs)
        loss = -min(ratio * advantages, clip(ratio) * advantages) + beta * kl      # TRL's loss_type
        loss.backward()
    optimizer.step()                                        # skipped if no reward had a verdict
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Sampler
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from data_engine.dataset.pairs import pair_places
from mmrl.advantages import options_of
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.engine.settings import VllmSettings
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.batch_advantages import BatchAdvantages, Estimation
from mmrl.grpo.config_checks import check_method
from mmrl.grpo.credit import Credit, TokenCredit
from mmrl.grpo.engines.choice import rollout_engine
from mmrl.grpo.engines.tree import Tree
from mmrl.grpo.epoch_sampler import EpochSampler
from mmrl.grpo.estimator_data import check_demonstrations
from mmrl.grpo.generate import RolloutGeneration
from mmrl.grpo.injection import Injection
from mmrl.grpo.logprobs import LogProbs
from mmrl.grpo.pair_sampler import PairSampler
from mmrl.grpo.rollout_step import RolloutStep, by_prompt
from mmrl.grpo.rollouts import RolloutFiles
from mmrl.grpo.scoring import RolloutScoring
from mmrl.grpo.shared_prefix.parity import PrefixSharing
from mmrl.grpo.temperature import TemperatureSchedule, check_head
from mmrl.model.inputs import media_inputs
from mmrl.trainers import given
from mmrl.trainers.callbacks import quieten
from mmrl.trainers.dummy_media import DummyMedia
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.finite import FiniteNumbers, stop
from mmrl.trainers.monitor import SilentSteps
from rewards.composed.labels import settle
from rewards.prompt_form import PLAIN, PromptForm


class MultimodalGRPOTrainer(RecordedEvaluations, GRPOTrainer):
    """GRPO on prompts with images, several images, videos or none, mixed in one batch.

    `model` is a path, a hub id or a loaded model. `rewards`, which TRL calls `reward_funcs`, score the rollouts: a
    suite, names, functions (`Suite.of`). Their vector goes to the estimator `advantages`, a name of
    `mmrl.advantages.ADVANTAGES`, with `advantage_options`. `train_dataset` is what `mmrl.trainers.given.rows` takes.
    `space` is the coordinate space in which the model answers, `form` what is asked beside the questions.
    `engine`: vLLM draws the completions, with `ahead` 1 those of the next generation meanwhile. `tools`: those that the
    policy may call while it answers, settings or a list. `tree`: the rollouts of a group share beginnings.
    """

    model: Any  # TRL declares these as possibly None, or as one of many types
    args: Any
    num_generations: Any
    num_generations_eval: Any
    max_completion_length: Any
    max_steps: Any
    _tokenizer: Any
    batch: RolloutBatch  # set where a chain of hooks begins: in `_stock_step` and `_compute_loss`

    def __init__(
        self,
        model: Any,
        *,
        processing_class: Any = None,
        rewards: Any = None,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any,
        budget: VisionBudget | None = None,
        space: CoordinateSpace = CoordinateSpace.resized,
        form: PromptForm = PLAIN,
        advantages: str = "gdpo",
        advantage_options: Mapping[str, Any] | None = None,
        shared_prefix: bool = True,
        temperature: TemperatureSchedule | None = None,
        refills: int = 0,
        inject: Injection | None = None,
        importance_cap: float | None = None,
        credit: Credit | None = None,
        engine: VllmSettings | None = None,
        ahead: int = 0,
        tools: Any = None,
        tree: Tree | None = None,
        **kwargs: Any,
    ) -> None:
        args, budget = args or GRPOConfig(), budget or VisionBudget()
        model, processing_class = given.policy(model, processing_class, budget)
        rewards, tools = given.suite(rewards, reward_funcs, args), given.tools(tools, kwargs)
        train_dataset = given.rows(train_dataset)
        if kwargs.get("eval_dataset") is not None:
            kwargs["eval_dataset"] = given.rows(kwargs["eval_dataset"], "test")
        method = {"temperature": temperature, "refills": refills, "importance_cap": importance_cap, "credit": credit}
        method |= {"tools": tools, "ahead": ahead, "tree": tree}
        options = check_method(args, rewards.names, advantages, advantage_options or {}, inject=inject, **method)
        args.reward_weights = list(rewards.weights)
        processing_class.tokenizer.padding_side = "left"  # on the right TRL misplaces what belongs to the prompt
        text = model.config.get_text_config()
        if getattr(text, "output_router_logits", False):
            text.output_router_logits = False  # a warm-up leaves it on; TRL asks for it where the loss needs it
        self._pairs: list[tuple[int, int]] = []  # positions in the training set, if the estimator compares pairs
        if "pairs_P" in options_of(advantages):
            columns = train_dataset[:]
            self._pairs = pair_places(columns["id"], columns["meta"])
        if "gaps_PG" in options_of(advantages):
            check_demonstrations(rewards, train_dataset[:]["meta"])
        super().__init__(
            model=model,
            reward_funcs=[_named(name) for name in rewards.names],
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.rollout_func, self._trees = self._drawn, tree is not None
        if temperature is not None:
            check_head(self.accelerator.unwrap_model(self.model))
        self.sharing = PrefixSharing(self, allowed=shared_prefix)
        self.generation = RolloutGeneration(
            self,
            rollout_engine(self, self.sharing, engine, ahead=ahead, tree=tree),
            budget=budget,
            space=space,
            form=form,
            schedule=temperature,
            inject=inject,
            weighted=importance_cap is not None,
            tools=tools,
        )
        dummies = DummyMedia(self, processing_class, train_dataset, tools=tools is not None)
        self.logprobs = LogProbs(self, super()._get_per_token_logps_and_entropies, self.sharing, dummies)
        self.scoring = RolloutScoring(self, rewards, space, injects=inject is not None)
        rounds = {"refills": refills, "importance_cap": importance_cap}
        self.rollout_step = RolloutStep(self, self._stock_step, self.generation, self.logprobs, **rounds)
        self.advantages = BatchAdvantages(self, Estimation(rewards, advantages, options, inject))
        self.credit = TokenCredit(self, credit, rewards.names, self.logprobs.states)
        self.rollout_files = RolloutFiles(self, space)
        quieten(self)
        self.add_callback(FiniteNumbers(self))
        self.add_callback(SilentSteps(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, and end the engine that draws and the processes of tools, however the training ends."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self.generation.close()

    # The order of the data

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:  # pyright: ignore[reportIncompatibleMethodOverride]
        """TRL's, but in an order that a resumed run repeats, and with both sides of a pair in one batch."""
        sampler = super()._get_train_sampler(dataset)
        assert isinstance(sampler, RepeatSampler)
        sampler = PairSampler(sampler, self._pairs) if self._pairs else sampler
        self.order = EpochSampler(sampler, self.args.seed, epoch=lambda: int(self.state.epoch or 0))
        return self.order

    # A generation

    def _prepare_inputs(self, generation_batch: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """TRL's, but with the rollouts of a prompt in as few micro-batches as hold them: each of them reads the prompt,
        and TRL shuffles rollouts one by one."""
        buffered = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is buffered:  # nothing was generated, or in an evaluation
            return inputs
        self._buffered_inputs = by_prompt(self._buffered_inputs, alike=self._trees)
        return self._buffered_inputs[self._step % len(self._buffered_inputs)]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's, but with our advantages: TRL computes its own inline, so that they are replaced afterwards."""
        output, batch = self.rollout_step(inputs)
        advantages_N = self.advantages(batch)
        start = self.accelerator.process_index * len(inputs)
        advantages_B = advantages_N[start : start + len(inputs)]
        output["advantages"] = self.credit(batch, output, advantages_B)
        self.rollout_files(batch, advantages_B)
        return output

    def _stock_step(self, batch: RolloutBatch) -> dict[str, Any]:
        """TRL's own generation step for `batch`, through the hooks below."""
        self.batch = batch
        return super()._generate_and_score_completions(list(batch.samples))  # pyright: ignore[reportArgumentType]

    def _drawn(self, prompts: Any, trainer: Any) -> dict[str, Any]:
        """TRL's `rollout_func`, which gives token ids only: TRL would process and copy media, and lose videos."""
        group = self.num_generations if self.model.training else self.num_generations_eval
        ids, logprobs = self.generation(self.batch, group)
        prompt_ids = [row.input_ids for row in self.batch.rows]
        drawn = {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": logprobs}
        return drawn | ({"env_mask": self.batch.own} if self.batch.own else {})

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        """The suite's scores: TRL's own way has no deadline and no reason for a missing score."""
        return self.scoring(self.batch, completions, completion_ids_list)

    # Log-probs and loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Of the rows of `self.batch`: TRL's list of image tensors has no videos, so that its keywords are not used."""
        return self.logprobs(
            self.batch,
            model,
            input_ids,
            attention_mask,
            logits_to_keep,
            batch_size=batch_size,
            compute_entropy=compute_entropy,
            compute_aux_loss=compute_aux_loss,
        )

    def media(self, rows: Any, input_ids: Tensor, completion: int = 0) -> dict[str, Tensor]:
        """The media of `rows` as model inputs on the device; the last `completion` tokens are text."""
        inputs = media_inputs(rows, input_ids, self.accelerator.unwrap_model(self.model), completion=completion)
        return {key: value.to(self.accelerator.device) for key, value in inputs.items()}

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """TRL's, which passes on token ids only: the rows that belong to them are kept for the hook above."""
        self.batch = RolloutBatch(
            rows=inputs["rows"], temperatures_BC=inputs.get("temperatures"), injected_B=inputs["injected"]
        )
        self._loss_inputs = inputs
        loss = super()._compute_loss(model, inputs)
        if not loss.isfinite():
            self.stop_on_nan("the loss")
        return loss

    @property
    def silent(self) -> bool:
        """Whether no reward had a verdict on any rollout of this step."""
        return self.advantages.silent

    def stop_on_nan(self, what: str) -> None:
        """Save the micro-batch of the loss and stop."""
        rows = [
            {"prompt": self._tokenizer.decode(row.input_ids), "completion": self._tokenizer.decode(ids)}
            for row, ids in zip(self.batch.rows, self._loss_inputs["completion_ids"], strict=True)
        ]
        stop(Path(str(self.args.output_dir)), self.state.global_step + 1, what, self._loss_inputs, rows)

    # Checkpoints: those of `RecordedEvaluations`, with where prompts are shared and what is drawn ahead

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        settle()
        self.generation.engine.save(Path(output_dir))
        if self.args.should_save:
            self.sharing.save(Path(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            self.sharing.restore(Path(checkpoint))
            self.generation.engine.restore(Path(checkpoint))


def _named(name: str) -> Any:
    """A reward function for TRL that gives the name only; the scores come from the suite."""

    def reward(**_: Any) -> list[float]:
        raise RuntimeError(f"{name} is scored by the suite")

    reward.__name__ = name
    return reward
