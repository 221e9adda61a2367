"""Completions by the policy itself, in this process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from trl.models.utils import unwrap_model_for_generation

from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.engines.base import Completions, Keys
from mmrl.grpo.shared_prefix.parity import PrefixSharing, gap_of_completions
from mmrl.grpo.shared_prefix.prefix_cache import generated, takes_prefill, within_window
from mmrl.model.sampling import RowSampler, until_end
from mmrl.trainers.sharding import gathered_by_fsdp

logger = logging.getLogger(__name__)


class LocalRollouts:
    """Samples completions from one prefill per prompt, if that is exact. `banned` tokens are never drawn."""

    apart = False  # the last digits of a log-prob depend on the batch

    def __init__(self, trainer: Any, sharing: PrefixSharing, banned: Sequence[int]) -> None:
        self.trainer, self.sharing, self.banned = trainer, sharing, banned

    def completions(
        self, batch: RolloutBatch, keys: Keys, group: int, temperature: Any, *, length: int | None = None
    ) -> Completions:
        """A completion for each row of `batch`, drawn with the random numbers of its key; on the first batch in both
        ways, to decide for one of them."""
        trainer = self.trainer
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
                generation_kwargs=trainer.generation_kwargs,
                gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
            ) as model,
            gathered_by_fsdp(model),
            torch.no_grad(),
        ):
            asked = (model, batch, keys, group, temperature, length or trainer.max_completion_length)
            if self.sharing.prefix_cache is None and not takes_prefill(model):
                logger.info("shared-prefix generation off: the layers of this architecture do not allow it")
                self.sharing.prefix_cache = False
            within = within_window(model, batch.rows)
            if self.sharing.prefix_cache is not None or not within:
                return self._completions_by(*asked, shared=bool(self.sharing.prefix_cache and within))
            plain, gap = self._completions_by(*asked, shared=False), float("inf")
            try:
                shared = self._completions_by(*asked, shared=True)
                gap = gap_of_completions(shared, plain, half=self.sharing.half)
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
                # A cache of another kind cannot be copied, and models show it in any of these ways. Both ways draw the
                # same tokens, so that only time is lost, and the log says so.
                logger.warning("prompts are not prefilled once: %s: %s", type(error).__name__, error)
            self.sharing.prefix_cache = self.sharing.agreed("generation", gap)
            return plain

    def push(self) -> None:
        """Nothing to do: the policy itself draws."""

    def close(self) -> None:
        """Nothing to do: nothing was started."""

    def save(self, checkpoint: Path) -> None:
        """Nothing to write: a resumed run draws again."""

    def restore(self, checkpoint: Path) -> None:
        """Nothing to read."""

    def _completions_by(
        self, model: Any, batch: RolloutBatch, keys: Keys, group: int, temperature: Any, length: int, *, shared: bool
    ) -> Completions:
        """Completions by `model.generate`, with the media of one micro-batch at a time on the device, as in the loss.

        A micro-batch is counted in prompts if they are shared, otherwise in rows.
        """
        trainer = self.trainer
        micro_batch = trainer.args.per_device_train_batch_size
        size = len(keys) if shared else micro_batch
        drawn = Completions([], [], trainer.state.global_step)
        for start in range(0, len(keys), size):
            sampler = RowSampler(
                keys[start : start + size],
                max_new_tokens=length,
                temperature=temperature,
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
                max_new_tokens=length,
                do_sample=False,  # the sampler has chosen
                suppress_tokens=self.banned,
                logits_processor=[sampler],
                eos_token_id=trainer.eos_token_ids,
                disable_compile=True,
            )
            ended = [until_end(ids, trainer.eos_token_ids) for ids in completions_BC.tolist()]
            drawn.ids.extend(ended)
            pairs = zip(sampler.log_probs().tolist(), ended, strict=True)
            drawn.logprobs.extend(logprobs[: len(ids)] for logprobs, ids in pairs)
        return drawn
