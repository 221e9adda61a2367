"""One turn of generation: every prompt encoded once, completions sampled by row, gold answers put among them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from trl.models.utils import unwrap_model_for_generation

from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.grpo.context_length import refuse_long
from mmrl.grpo.injection import Injection, label_ids
from mmrl.grpo.logprobs import SharedForward
from mmrl.grpo.parity import Completions, gap_of_completions
from mmrl.grpo.prefix_cache import generated
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.model.encoding import Encoded, encode, sized_pictures
from mmrl.model.sampling import RowSampler

logger = logging.getLogger(__name__)


class SharedTurn(SharedForward):
    """TRL's GRPOTrainer whose completions are sampled from one prefill per prompt, if the model allows it."""

    max_completion_length: Any  # what TRL declares as possibly None
    budget: VisionBudget
    space: CoordinateSpace
    schedule: TemperatureSchedule | None
    inject: Injection | None
    importance_cap: float | None
    context: int | None  # tokens that the model has positions for
    banned_tokens: list[int]
    _inputs: Sequence[Mapping[str, Any]] = ()  # the rows of the data of this turn
    _copies: Sequence[int] = ()  # how many groups of the same prompt come before that of a row
    _injected: Sequence[bool] = ()  # which of them say the label

    def _encode(self, row: Mapping[str, Any]) -> Encoded:
        encoded = encode(self.processing_class, row["prompt"], row["media"], self.budget)
        try:
            refuse_long(len(encoded.input_ids), self.max_completion_length, self.context)
        except InputError as error:
            raise InputError(f"sample {row['id']}: {error}") from None
        return encoded

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [row.input_ids for row in self._rows], None, {}

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        said, drawn = self._served(num_generations) if self.use_vllm else self._sampled(num_generations)
        self._injected = [False] * len(said)
        if self.inject is not None and self.model.training:
            for place, ids in self._labels(num_generations):
                said[place], drawn[place], self._injected[place] = ids, [float("nan")] * len(ids), True
        weighed = self.importance_cap is not None and self.model.training
        return said, drawn if weighed or self.use_vllm else None

    def _sampled(self, num_generations: int) -> Completions:
        """Completions by the policy itself; on the first batch in both ways, to decide for one of them."""
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
        ):
            if self._prefilling is not None:
                return self._completions_by(model, num_generations, shared=self._prefilling)
            plain, gap = self._completions_by(model, num_generations, shared=False), float("inf")
            try:
                shared = self._completions_by(model, num_generations, shared=True)
                gap = gap_of_completions(shared, plain, half=self._half)
            except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                # a cache of another kind cannot be copied, and models show it in any of these ways; both ways draw the
                # same, so nothing is lost but time, and the log says so
                logger.warning("prompts are not prefilled once: %s: %s", type(error).__name__, error)
            self._prefilling = self._agreed("generation", gap)
            return plain

    def _completions_by(self, model: Any, num_generations: int, *, shared: bool) -> Completions:
        """Media are on the device for one micro-batch at a time, as in the loss: for its prompts where they are shared,
        else for its rows. Under ZeRO-3 `generate` waits for all processes: each calls it equally often."""
        keys, batch = self._sampling_keys(num_generations), self.args.per_device_train_batch_size
        size = len(keys) if shared else batch
        said: list[list[int]] = []
        drawn: list[list[float]] = []
        for start in range(0, len(keys), size):
            sampler = RowSampler(
                keys[start : start + size],
                max_new_tokens=self.max_completion_length,
                temperature=self._temperatures() or self.temperature,
                top_p=self.top_p,
                top_k=self.top_k or 0,
                min_p=self.min_p,
            )
            completions_BC = generated(
                model,
                self._rows[start : start + size],
                self._media,
                pad=self._tokenizer.pad_token_id,
                device=self.accelerator.device,
                shared=shared,
                at_once=max(batch // num_generations, 1),
                max_new_tokens=self.max_completion_length,
                do_sample=False,  # the sampler has chosen
                suppress_tokens=self.banned_tokens,
                logits_processor=[sampler],
                eos_token_id=self.eos_token_ids,
                disable_compile=True,
            )
            ended = [until_end(ids, self.eos_token_ids) for ids in completions_BC.tolist()]
            said += ended
            drawn += [row[: len(ids)] for row, ids in zip(sampler.log_probs().tolist(), ended, strict=True)]
        return said, drawn

    def _served(self, num_generations: int) -> Completions:
        """Completions by TRL's vLLM server, which gets the pictures in the size that the model is trained on."""
        shown = {
            row["id"]: sized_pictures(row["media"], one.seen_size)
            for row, one in zip(self._inputs, self._rows, strict=True)
        }
        pictures = [shown[row["id"]] or None for row in self._inputs]
        ids = [row.input_ids for row in self._rows]
        served: Any = super()._generate_single_turn(ids, pictures if any(pictures) else None, {}, num_generations)
        said = [until_end(one, self.eos_token_ids) for one in served[0]]
        return said, [list(row[: len(one)]) for row, one in zip(served[1], said, strict=True)]

    def _labels(self, num_generations: int) -> list[tuple[int, list[int]]]:
        """(row, token ids) of the gold answers, each in the last row of its group; one that is too long is left out."""
        first = self.accelerator.process_index * len(self._inputs)
        made = []
        for i, (row, encoded) in enumerate(zip(self._inputs, self._rows, strict=True)):
            if (first + i) % num_generations == num_generations - 1:
                longest, settings = self.max_completion_length, cast(Injection, self.inject)
                ids = label_ids(row, settings, self.space, encoded.seen_size, self._tokenizer, longest=longest)
                made += [(i, ids)] if ids is not None else []
        return made

    def _temperatures(self) -> list[float] | None:
        """The temperature of every new token at this step, if there is a schedule; an evaluation has none."""
        if self.schedule is None or not self.model.training:
            return None
        return self.schedule.temperatures(self.max_completion_length, self.state.global_step, self.state.max_steps)

    def _sampling_keys(self, num_generations: int) -> list[tuple[int | str, ...]]:
        """What each row's randomness hangs on: the seed, the step, the prompt and its place in the group, and which of
        the groups of that prompt it is where a batch has several."""
        first = self.accelerator.process_index * len(self._inputs)
        return [
            (self.args.seed, self.state.global_step, self._micro(), row["id"], (first + i) % num_generations)
            + ((copy,) if copy else ())
            for i, (row, copy) in enumerate(zip(self._inputs, self._copies, strict=True))
        ]

    def _micro(self) -> int:
        return self._step % max(self.args.gradient_accumulation_steps, 1)


def until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """`ids` up to and including the first end token."""
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]
