"""Log-probs of completions by a model that is handed the media of its rows, with prompts shared where that holds.

Shapes: B rows, C completion tokens, R packed rows, T their tokens.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather
from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer

from mmrl.grpo.injection import own_entropy
from mmrl.grpo.packing import packed, takes_trees
from mmrl.grpo.parity import agree, gap_of
from mmrl.grpo.temperature import before_completion, tempered
from mmrl.model.encoding import Encoded, collate, media_token_types
from mmrl.trainers.dummy_media import Blanks
from mmrl.trainers.evaluation import RecordedEvaluations

logger = logging.getLogger(__name__)

DECIDED = "shared_prefix.json"  # in a checkpoint: whether prompts are shared; decided anew, the last digits may differ


class SharedForward(RecordedEvaluations, GRPOTrainer):
    """TRL's GRPOTrainer whose forwards see media of any kind, one packed row per prompt if the model allows it."""

    model: Any  # what TRL declares as possibly None, or as one of many types
    model_wrapped: Any
    args: Any
    _tokenizer: Any
    _blanks: Blanks
    _sharing: bool | None  # None: not decided yet
    _prefilling: bool | None
    _rows: Sequence[Encoded] = ()  # the encoded prompts of the rows that a forward is about to see
    _temperature_BC: Tensor | None = None  # of the completion tokens that a forward is about to score
    _strange_B: Tensor | None = None  # which of those rows the policy has not said itself

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
        """TRL's own, chunk by chunk, with a model that is handed the media of the chunk's rows; or, where it holds to
        the same numbers, one packed row per prompt (`mmrl.grpo.packing`)."""
        size = batch_size or len(input_ids)
        chunks = []
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            here = (model, *self._in_step(self._rows[rows], input_ids[rows], attention_mask[rows], logits_to_keep))
            warm_BC = self._warm(rows, here[2], logits_to_keep)
            if self._shares(here) and not compute_aux_loss:
                chunks.append((*self._packed_logps(*here, warm_BC), None))
                continue
            seeing = functools.partial(model, **self._media(here[1], here[2], logits_to_keep))
            options = {"compute_entropy": compute_entropy, "compute_aux_loss": compute_aux_loss}
            with self._tempered(model, None if warm_BC is None else before_completion(warm_BC, here[2].shape[1])):
                chunks.append(super()._get_per_token_logps_and_entropies(seeing, *here[2:], **options))
        logps, entropies, aux = zip(*chunks, strict=True)
        lengths = [min(size, len(input_ids) - start) for start in range(0, len(input_ids), size)]  # without blanks
        return (
            torch.cat([one[:length] for one, length in zip(logps, lengths, strict=True)]),
            self._own(torch.cat([one[:length] for one, length in zip(entropies, lengths, strict=True)]), attention_mask)
            if compute_entropy
            else None,
            torch.stack(aux).mean() if compute_aux_loss else None,
        )

    def _own(self, entropy_BC: Tensor, attention_mask: Tensor) -> Tensor:
        if self._strange_B is None or len(self._strange_B) != len(entropy_BC):
            return entropy_BC
        return own_entropy(entropy_BC, attention_mask[:, -entropy_BC.shape[1] :], self._strange_B)

    @torch.no_grad()
    def _states(
        self, rows: Sequence[Encoded], input_ids: Tensor, attention_mask: Tensor, keep: int, warm_BC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """([B, C, D] states before the head, [B, C, V] log-probs) where the completion tokens are predicted."""
        seen, ids, mask, _ = self._in_step(rows, input_ids, attention_mask, keep)
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            **self._media(seen, ids, keep),
            logits_to_keep=keep + 1,
            output_hidden_states=True,
            use_cache=False,
        )
        here = slice(-keep - 1, -1)
        logits_BCV = output.logits[: len(rows), here].float() / self.temperature
        if warm_BC is not None:
            logits_BCV /= warm_BC[:, :keep, None].to(logits_BCV.device)
        return output.hidden_states[-1][: len(rows), here], logits_BCV.log_softmax(dim=-1)

    def _in_step(
        self, rows: Sequence[Encoded], input_ids: Tensor, attention_mask: Tensor, keep: int
    ) -> tuple[Sequence[Encoded], Tensor, Tensor, int]:
        """The rows, and what `mmrl.trainers.dummy_media` adds to them at their end."""
        for one in self._blanks.beside(rows):
            room = max(input_ids.shape[1] - keep, len(one.input_ids))
            width = (room + keep - input_ids.shape[1], 0)
            around = (room - len(one.input_ids), keep)
            ids, mask = (
                torch.tensor([one.input_ids]).to(input_ids),
                torch.ones(1, len(one.input_ids)).to(attention_mask),
            )
            pad, token = torch.nn.functional.pad, self._tokenizer.pad_token_id
            input_ids = torch.cat([pad(input_ids, width, value=token), pad(ids, around, value=token)])
            attention_mask = torch.cat([pad(attention_mask, width), pad(mask, around)])
            rows = [*rows, one]
        return rows, input_ids, attention_mask, keep

    def _warm(self, rows: slice, input_ids: Tensor, keep: int) -> Tensor | None:
        """[B, C] temperatures of the tokens of `rows` and of the blanks after them, if there is a schedule."""
        if self._temperature_BC is None:
            return None
        warm_BC = self._temperature_BC[rows, :keep].to(input_ids.device)
        return torch.nn.functional.pad(warm_BC, (0, 0, 0, len(input_ids) - len(warm_BC)), value=1.0)

    def _tempered(self, model: Any, temperature_RT: Tensor | None) -> AbstractContextManager[None]:
        return nullcontext() if temperature_RT is None else tempered(self._bare(model), temperature_RT)

    def _bare(self, model: Any) -> Any:
        return self.accelerator.unwrap_model(model)

    def _packed_logps(
        self,
        model: Any,
        rows: Sequence[Encoded],
        input_ids: Tensor,
        attention_mask: Tensor,
        keep: int,
        warm_BC: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        completion, valid = input_ids[:, -keep:], attention_mask[:, -keep:].bool()
        batch = packed(self._bare(model), rows, completion, valid, pad=self._tokenizer.pad_token_id)
        divisors = None if warm_BC is None else batch.before(warm_BC)
        with self._tempered(model, divisors), self.accelerator.autocast():
            output = model(**batch.inputs, labels=batch.labels_RT, fused_lm_head=True)
        entropy = None if output.entropy is None else batch.unpacked(output.entropy)  # a reference model has none
        return batch.unpacked(output.log_probs), entropy

    def _shares(self, here: tuple[Any, Sequence[Encoded], Tensor, Tensor, int]) -> bool:
        """Whether prompts are shared: decided once, by comparing with plain scoring on the first rows seen."""
        if self._sharing is None and not takes_trees(self._bare(here[0])):
            logger.warning("shared-prefix scoring off: FlashAttention takes no tree mask; attention: sdpa does")
            self._sharing = False
        if self._sharing is None:
            model, rows, input_ids, attention_mask, keep = here
            seeing = functools.partial(model, **self._media(rows, input_ids, keep))
            with torch.no_grad():
                plain, _, _ = super()._get_per_token_logps_and_entropies(seeing, input_ids, attention_mask, keep)
                gap, valid = float("inf"), attention_mask[:, -keep:].bool()
                try:
                    gap = gap_of(self._packed_logps(*here)[0], plain, valid, half=self._half)
                except (IndexError, RuntimeError, TypeError, ValueError) as error:  # a model that takes no tree mask
                    logger.warning("prompts are not shared: %s", error)
            self._sharing = self._agreed("scoring", gap)
        return self._sharing

    def _agreed(self, what: str, gap: float) -> bool:
        """Whether log-probs that are `gap` apart in this process are the same in all of them; says so."""
        worst = float(gathered(torch.tensor([gap], device=self.accelerator.device)).max())
        same = agree(worst, half=self._half)
        logger.info("shared-prefix %s %s: log-probs differ by %.1e", what, "on" if same else "off", worst)
        return same

    @property
    def _half(self) -> bool:
        return self.args.bf16 or self.args.fp16 or self._bare(self.model).dtype != torch.float32

    def _media(self, rows: Sequence[Encoded], input_ids: Tensor, completion: int = 0) -> dict[str, Tensor]:
        """The media tensors of `rows` as model inputs; the last `completion` tokens are text whatever their ids."""
        bare: Any = self.accelerator.unwrap_model(self.model)
        media = collate(rows)
        if any(key.endswith("_grid_thw") for key in media):
            types = media_token_types(input_ids, bare.config)
            if completion:
                types[:, -completion:] = 0
            media["mm_token_type_ids"] = types
        return {key: value.to(self.accelerator.device) for key, value in media.items()}

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.args.should_save:
            decided = {"sharing": self._sharing, "prefilling": self._prefilling}
            (Path(output_dir) / DECIDED).write_text(json.dumps(decided))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and (place := Path(checkpoint) / DECIDED).exists():
            decided = json.loads(place.read_text())
            self._sharing, self._prefilling = decided["sharing"], decided["prefilling"]


def gathered(tensor: Tensor) -> Tensor:
    """`tensor` of all processes, concatenated along its first dimension."""
    return cast(Tensor, gather(tensor))
