"""Generation for one step: encode the prompts, sample completions, insert gold answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from trl.models.utils import unwrap_model_for_generation

from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.context_length import context_of, refuse_long
from mmrl.grpo.injection import Injection, gold_answer_ids
from mmrl.grpo.shared_prefix.parity import Completions, PrefixSharing, gap_of_completions
from mmrl.grpo.shared_prefix.prefix_cache import generated
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.model.encoding import Encoded, encode, sized_pictures
from mmrl.model.sampling import RowSampler, vision_token_ids
from rewards.prompt_form import PromptForm

logger = logging.getLogger(__name__)


class RolloutGeneration:
    """Samples completions from one prefill per prompt, if that is exact, or with TRL's vLLM server (`stock`).

    The random numbers of a rollout depend on the seed, the step, the prompt and the rollout's place in its group. They
    do not depend on the batch, nor on the number of processes.
    """

    def __init__(
        self,
        trainer: Any,
        stock: Callable[..., Any],
        sharing: PrefixSharing,
        *,
        budget: VisionBudget,
        space: CoordinateSpace,
        form: PromptForm,
        schedule: TemperatureSchedule | None,
        inject: Injection | None,
        weighted: bool,
    ) -> None:
        self.trainer = trainer
        self.stock = stock
        self.sharing = sharing
        self.budget = budget
        self.space = space
        self.form = form
        self.schedule = schedule
        self.inject = inject
        self.weighted = weighted  # importance weights need the log-probs under which tokens were drawn
        policy: Any = trainer.accelerator.unwrap_model(trainer.model)
        self.context = context_of(policy)
        self.banned_tokens = vision_token_ids(policy.config, trainer.processing_class.tokenizer)

    def encode(self, sample: Mapping[str, Any]) -> Encoded:
        """The prompt of a row of the dataset with its media; refused if the context has no room for an answer."""
        asked = {"task": sample["task"], "form": self.form}
        encoded = encode(self.trainer.processing_class, sample["prompt"], sample["media"], self.budget, **asked)
        try:
            refuse_long(len(encoded.input_ids), self.trainer.max_completion_length, self.context)
        except InputError as error:
            raise InputError(f"sample {sample['id']}: {error}") from None
        return encoded

    def __call__(self, batch: RolloutBatch, group: int) -> tuple[list[list[int]], list[list[float]] | None]:
        """Token ids of a completion for each row, and the log-probs under which they were drawn, if anyone wants them.

        Sets `batch.injected_B`.
        """
        training, served = self.trainer.model.training, self.trainer.use_vllm
        drawn = self._served(batch, group) if served else self._sampled(batch, group)
        injected = [False] * len(drawn.ids)
        if self.inject is not None and training:
            for place, ids in self._gold_answers(batch, group, self.inject):
                drawn.ids[place], drawn.logprobs[place], injected[place] = ids, [float("nan")] * len(ids), True
        batch.injected_B = torch.tensor(injected, device=self.trainer.accelerator.device)
        return drawn.ids, drawn.logprobs if served or (self.weighted and training) else None

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

    def _sampled(self, batch: RolloutBatch, group: int) -> Completions:
        """Completions by the policy itself; on the first batch in both ways, to decide for one of them."""
        trainer = self.trainer
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
                generation_kwargs=trainer.generation_kwargs,
                gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
        ):
            if self.sharing.prefix_cache is not None:
                return self._completions_by(model, batch, group, shared=self.sharing.prefix_cache)
            plain, gap = self._completions_by(model, batch, group, shared=False), float("inf")
            try:
                shared = self._completions_by(model, batch, group, shared=True)
                gap = gap_of_completions(shared, plain, half=self.sharing.half)
            except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                # A cache of another kind cannot be copied, and models show it in any of these ways. Both ways draw the
                # same tokens, so that only time is lost, and the log says so.
                logger.warning("prompts are not prefilled once: %s: %s", type(error).__name__, error)
            self.sharing.prefix_cache = self.sharing.agreed("generation", gap)
            return plain

    def _completions_by(self, model: Any, batch: RolloutBatch, group: int, *, shared: bool) -> Completions:
        """Completions by `model.generate`, with the media of one micro-batch at a time on the device, as in the loss.

        A micro-batch is counted in prompts if they are shared, otherwise in rows. Under ZeRO-3 `generate` waits for all
        processes: each must call it equally often.
        """
        trainer, keys = self.trainer, self._sampling_keys(batch, group)
        micro_batch = trainer.args.per_device_train_batch_size
        size = len(keys) if shared else micro_batch
        drawn = Completions([], [])
        for start in range(0, len(keys), size):
            sampler = RowSampler(
                keys[start : start + size],
                max_new_tokens=trainer.max_completion_length,
                temperature=self.temperatures() or trainer.temperature,
                top_p=trainer.top_p,
                top_k=trainer.top_k or 0,
                min_p=trainer.min_p,
            )
            completions_BC = generated(
                model,
                batch.rows[start : start + size],
                trainer.media,
                pad=trainer._tokenizer.pad_token_id,
                device=trainer.accelerator.device,
                shared=shared,
                at_once=max(micro_batch // group, 1),
                max_new_tokens=trainer.max_completion_length,
                do_sample=False,  # the sampler has chosen
                suppress_tokens=self.banned_tokens,
                logits_processor=[sampler],
                eos_token_id=trainer.eos_token_ids,
                disable_compile=True,
            )
            ended = [until_end(ids, trainer.eos_token_ids) for ids in completions_BC.tolist()]
            drawn.ids.extend(ended)
            pairs = zip(sampler.log_probs().tolist(), ended, strict=True)
            drawn.logprobs.extend(logprobs[: len(ids)] for logprobs, ids in pairs)
        return drawn

    def _served(self, batch: RolloutBatch, group: int) -> Completions:
        """Completions by TRL's vLLM server, which gets the pictures in the size that the model is trained on."""
        pairs = zip(batch.samples, batch.rows, strict=True)
        pictures = {sample["id"]: sized_pictures(sample["media"], row.seen_size) for sample, row in pairs}
        images = [pictures[sample["id"]] or None for sample in batch.samples]
        ids = [row.input_ids for row in batch.rows]
        completions, logprobs = self.stock(ids, images if any(images) else None, {}, group)
        ended = [until_end(completion, self.trainer.eos_token_ids) for completion in completions]
        return Completions(ended, [list(row[: len(ids)]) for row, ids in zip(logprobs, ended, strict=True)])

    def _gold_answers(self, batch: RolloutBatch, group: int, inject: Injection) -> list[tuple[int, list[int]]]:
        """(row, token ids) of the gold answers, each in the last row of its group; too long ones are left out."""
        first = self.trainer.accelerator.process_index * len(batch.samples)
        longest, tokenizer = self.trainer.max_completion_length, self.trainer._tokenizer
        answers = []
        for i, (sample, encoded) in enumerate(zip(batch.samples, batch.rows, strict=True)):
            if (first + i) % group == group - 1:
                ids = gold_answer_ids(sample, inject, self.space, encoded.seen_size, tokenizer, longest=longest)
                answers += [(i, ids)] if ids is not None else []
        return answers

    def _sampling_keys(self, batch: RolloutBatch, group: int) -> list[tuple[int | str, ...]]:
        """The key of each row's random numbers: seed, step, prompt, place in the group and, if the batch has several
        groups of that prompt, which of them."""
        first = self.trainer.accelerator.process_index * len(batch.samples)
        step = (self.trainer.args.seed, self.trainer.state.global_step, self.micro_step)
        return [
            (*step, sample["id"], (first + i) % group) + ((copy,) if copy else ())
            for i, (sample, copy) in enumerate(zip(batch.samples, batch.copies, strict=True))
        ]


def until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """`ids` up to and including the first end token."""
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]
