"""Generation for one step: encode the prompts, sample completions, insert gold answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.context_length import refuse_long
from mmrl.grpo.engines.base import RolloutEngine
from mmrl.grpo.injection import Injection, gold_answer_ids
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.grpo.tool_turns import ToolTurns
from mmrl.model.encoding import Encoded, encode, naming
from mmrl.model.inputs import context_of
from mmrl.tools.settings import ToolSettings
from mmrl.trainers.targets import Answers
from rewards.prompt_form import PromptForm


class RolloutGeneration:
    """Completions by `engine`: the policy in this process, or vLLM with its weights.

    The random numbers of a rollout depend on the seed, the step, the prompt and the rollout's place in its group. They
    do not depend on the batch, nor, if the policy draws itself, on the number of processes.
    """

    def __init__(
        self,
        trainer: Any,
        engine: RolloutEngine,
        *,
        budget: VisionBudget,
        space: CoordinateSpace,
        form: PromptForm,
        schedule: TemperatureSchedule | None,
        inject: Injection | None,
        weighted: bool,
        tools: ToolSettings | None,
    ) -> None:
        self.trainer = trainer
        self.engine = engine
        self.budget = budget
        self.space = space
        self.tools = None if tools is None else ToolTurns(trainer, engine, tools, form, space)
        self.form = form if self.tools is None else self.tools.form
        self.schedule = schedule
        self.inject = inject
        self.weighted = weighted  # importance weights need the log-probs under which tokens were drawn
        self._remembered: dict[str, Encoded] = {}
        policy: Any = trainer.accelerator.unwrap_model(trainer.model)
        self.context = context_of(policy)
        self.gold = Answers(trainer.processing_class, policy)

    def close(self) -> None:
        """End what draws, and the processes of the tools."""
        self.engine.close()
        if self.tools is not None:
            self.tools.close()

    def encode(self, sample: Mapping[str, Any]) -> Encoded:
        """The prompt of a row of the dataset with its media; refused if the context has no room for an answer."""
        if sample["id"] in self._remembered:
            return self._remembered[sample["id"]]
        asked = {"task": sample["task"], "form": self.form}
        with naming(sample["id"]):
            encoded = encode(self.trainer.processing_class, sample["prompt"], sample["media"], self.budget, **asked)
            refuse_long(len(encoded.input_ids), self.trainer.max_completion_length, self.context)
        return encoded

    def remember(self, batch: RolloutBatch) -> None:
        """Keep the encoded prompts of a batch that comes next."""
        self._remembered = {sample["id"]: row for sample, row in zip(batch.samples, batch.rows, strict=True)}

    def __call__(self, batch: RolloutBatch, group: int) -> tuple[list[list[int]], list[list[float]] | None]:
        """Token ids of a completion for each row, and the log-probs under which they were drawn, if anyone wants them.

        Sets `batch.injected_B` and `batch.drawn_at`; with tools also `batch.rows`, `batch.own` and `batch.turns`.
        """
        training, temperature = self.trainer.model.training, self.temperatures() or self.trainer.temperature
        draws = self.engine.completions if self.tools is None else self.tools.completions
        drawn = draws(batch, self.sampling_keys(batch, group), group, temperature)
        injected = [False] * len(drawn.ids)
        if self.inject is not None and training:
            for place, ids in self._gold_answers(batch, group, self.inject):
                drawn.ids[place], drawn.logprobs[place], injected[place] = ids, [float("nan")] * len(ids), True
        batch.drawn_at = [drawn.step] * len(drawn.ids)
        batch.injected_B = torch.tensor(injected, device=self.trainer.accelerator.device)
        return drawn.ids, drawn.logprobs if self.weighted and training else None

    def temperatures(self) -> list[float] | None:
        """The temperature of every new token at this step, if there is a schedule; an evaluation has none."""
        state = self.trainer.state
        if self.schedule is None or not self.trainer.model.training:
            return None
        return self.schedule.temperatures(self.trainer.max_completion_length, state.global_step, state.max_steps)

    @property
    def micro_step(self) -> int:
        """The number of the micro-batch within the optimizer step."""
        return self.trainer._step % max(self.trainer.args.gradient_accumulation_steps, 1)

    def _gold_answers(self, batch: RolloutBatch, group: int, inject: Injection) -> list[tuple[int, list[int]]]:
        """(row, token ids) of the gold answers, each in the last row of its group; too long ones are left out."""
        first = self.trainer.accelerator.process_index * len(batch.samples)
        longest = self.trainer.max_completion_length
        answers = []
        for i, (sample, encoded) in enumerate(zip(batch.samples, batch.rows, strict=True)):
            if (first + i) % group == group - 1:
                ids = gold_answer_ids(sample, inject, self.space, encoded, self.gold, longest=longest)
                answers += [(i, ids)] if ids is not None else []
        return answers

    def sampling_keys(self, batch: RolloutBatch, group: int, *, step: int | None = None) -> list[tuple[int | str, ...]]:
        """The key of each row's random numbers: seed, step (default: this one), prompt, place in the group and, if the
        batch has several groups of that prompt, which of them."""
        first = self.trainer.accelerator.process_index * len(batch.samples)
        now = (self.trainer.state.global_step, self.micro_step) if step is None else (step, 0)
        return [
            (self.trainer.args.seed, *now, sample["id"], (first + i) % group) + ((copy,) if copy else ())
            for i, (sample, copy) in enumerate(zip(batch.samples, batch.copies, strict=True))
        ]
