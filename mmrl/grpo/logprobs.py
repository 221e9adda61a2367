"""Log-probs of completions by a model that gets the media of its rows, with shared prompts where that is exact.

Shapes: B rows, P prompt tokens (left-padded), C completion tokens (right-padded), R packed rows, T their tokens, D
hidden size, V vocabulary.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mmrl.core.config import InputError
from mmrl.grpo.batch import RolloutBatch, gathered
from mmrl.grpo.injection import own_entropy
from mmrl.grpo.shared_prefix.attention import takes_packed_rows
from mmrl.grpo.shared_prefix.packing import packed, packed_tokens
from mmrl.grpo.shared_prefix.parity import NOTHING, PrefixSharing, gap_of
from mmrl.grpo.temperature import before_completion, tempered
from mmrl.model.encoding import Encoded
from mmrl.model.inputs import bare, media_inputs
from mmrl.model.loading import load_checkpoint, local
from mmrl.trainers.dummy_media import DummyMedia

logger = logging.getLogger(__name__)

Scored = tuple[Tensor, Tensor | None, Tensor | None]  # log-probs [B, C], entropies [B, C], auxiliary loss (MoE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of one forward pass: prompts and completions [B, P + C], of which the last `keep` = C are scored."""

    rows: Sequence[Encoded]
    input_ids: Tensor
    attention_mask: Tensor
    keep: int
    temperatures_BC: Tensor | None = None

    @property
    def completion_ids(self) -> Tensor:
        """[B, C]: the completions, with padding."""
        return self.input_ids[:, -self.keep :]

    @property
    def completion_mask(self) -> Tensor:
        """[B, C]: which completion tokens are not padding."""
        return self.attention_mask[:, -self.keep :].bool()

    def only(self, *, behind: bool) -> Chunk | None:
        """The rows to which tools have shown media behind the prompt, or the others; None if there are none."""
        kept = [place for place, row in enumerate(self.rows) if bool(row.behind) is behind]
        if not kept:
            return None
        rows = [self.rows[place] for place in kept]
        return replace(self, rows=rows, input_ids=self.input_ids[kept], attention_mask=self.attention_mask[kept])


class LogProbs:
    """Scores completions as TRL does (`stock`), but shows the model the media of the rows.

    TRL passes a closed list of image tensors to the forward: no videos, and no batches that mix rows with and without
    images. Here `stock` gets a model to which the media of the chunk are bound already.
    """

    def __init__(self, trainer: Any, stock: Callable[..., Scored], sharing: PrefixSharing, dummies: DummyMedia) -> None:
        self.trainer = trainer
        self.stock = stock
        self.sharing = sharing
        self.dummies = dummies

    def __call__(
        self,
        batch: RolloutBatch,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        keep: int,
        *,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
    ) -> Scored:
        """Log-probs of the last `keep` tokens of the rows of `batch`, in chunks of `batch_size` rows."""
        size = batch_size or len(input_ids)
        logprobs: list[Tensor] = []
        entropies: list[Any] = []
        losses: list[Any] = []
        for start in range(0, len(input_ids), size):
            part = slice(start, start + size)
            chunk = self._chunk(batch, part, input_ids[part], attention_mask[part], keep)
            if self._packs(model, chunk) and not compute_aux_loss:
                scored = (*self._packed(model, chunk), None)
            else:
                scored = self._plain(model, chunk, compute_entropy=compute_entropy, compute_aux_loss=compute_aux_loss)
            count = len(input_ids[part])  # dummy rows come after it
            logprobs.append(scored[0][:count])
            entropies.append(scored[1][:count] if compute_entropy and scored[1] is not None else None)
            losses.append(scored[2])
        return (
            torch.cat(logprobs),
            _of_the_policy(torch.cat(entropies), attention_mask, batch.injected_B) if compute_entropy else None,
            torch.stack(losses).mean() if compute_aux_loss else None,
        )

    @torch.no_grad()
    def states(
        self, rows: Sequence[Encoded], ids: Tensor, mask: Tensor, keep: int, temperatures_BC: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """([B, C, D] states before the head, [B, C, V] log-probs) at the positions that predict the completion
        tokens, under their temperatures."""
        chunk = self._with_dummies(Chunk(rows, ids, mask, keep))
        output = self.trainer.model(
            input_ids=chunk.input_ids,
            attention_mask=chunk.attention_mask,
            **self.trainer.media(chunk.rows, chunk.input_ids, keep),
            logits_to_keep=keep + 1,
            output_hidden_states=True,
            use_cache=False,
        )
        predicting = slice(-keep - 1, -1)
        logits_BCV = output.logits[: len(rows), predicting].float() / self.trainer.temperature
        if temperatures_BC is not None:
            logits_BCV /= temperatures_BC[:, :keep, None].to(logits_BCV.device)
        return output.hidden_states[-1][: len(rows), predicting], logits_BCV.log_softmax(dim=-1)

    def _chunk(self, batch: RolloutBatch, part: slice, ids: Tensor, mask: Tensor, keep: int) -> Chunk:
        chunk = self._with_dummies(Chunk(batch.rows[part], ids, mask, keep))
        if batch.temperatures_BC is None:
            return chunk
        temperatures_BC = batch.temperatures_BC[part, :keep].to(ids.device)
        dummies = len(chunk.input_ids) - len(temperatures_BC)
        return replace(chunk, temperatures_BC=torch.nn.functional.pad(temperatures_BC, (0, 0, 0, dummies), value=1.0))

    def _with_dummies(self, chunk: Chunk) -> Chunk:
        """`chunk` with the rows behind it that show the media it lacks (`mmrl.trainers.dummy_media`)."""
        rows, input_ids, attention_mask, keep = chunk.rows, chunk.input_ids, chunk.attention_mask, chunk.keep
        for dummy in self.dummies.lacking(rows):
            prompt = max(input_ids.shape[1] - keep, len(dummy.input_ids))  # tokens, with padding
            wider = (prompt + keep - input_ids.shape[1], 0)
            around = (prompt - len(dummy.input_ids), keep)
            ids = torch.tensor([dummy.input_ids]).to(input_ids)
            mask = torch.ones(1, len(dummy.input_ids)).to(attention_mask)
            pad, token = torch.nn.functional.pad, self.trainer._tokenizer.pad_token_id
            input_ids = torch.cat([pad(input_ids, wider, value=token), pad(ids, around, value=token)])
            attention_mask = torch.cat([pad(attention_mask, wider), pad(mask, around)])
            rows = [*rows, dummy]
        return Chunk(rows, input_ids, attention_mask, keep)

    def _plain(self, model: Any, chunk: Chunk, **options: bool) -> Scored:
        """TRL's own way, one row per rollout."""
        media = self.trainer.media(chunk.rows, chunk.input_ids, chunk.keep)
        seeing = functools.partial(model, **media)
        temperatures_BC, length = chunk.temperatures_BC, chunk.input_ids.shape[1]
        divisors = None if temperatures_BC is None else before_completion(temperatures_BC, length)
        with self._tempered(model, divisors):
            return self.stock(seeing, chunk.input_ids, chunk.attention_mask, chunk.keep, **options)

    def _packed(self, model: Any, chunk: Chunk) -> tuple[Tensor, Tensor | None]:
        """Log-probs and entropies from one row per prompt (`mmrl.grpo.shared_prefix.packing`)."""
        bare, pad = self.trainer.accelerator.unwrap_model(model), self.trainer._tokenizer.pad_token_id
        batch = packed(bare, chunk.rows, chunk.completion_ids, chunk.completion_mask, pad=pad)
        divisors = None if chunk.temperatures_BC is None else batch.before(chunk.temperatures_BC)
        with self._tempered(model, divisors), self.trainer.accelerator.autocast():
            output = model(**batch.inputs, labels=batch.labels_RT, fused_lm_head=True)
        entropy = None if output.entropy is None else batch.unpacked(output.entropy)  # a reference model has none
        return batch.unpacked(output.log_probs), entropy

    def _tempered(self, model: Any, divisors_RT: Tensor | None) -> AbstractContextManager[None]:
        if divisors_RT is None:
            return nullcontext()
        return tempered(self.trainer.accelerator.unwrap_model(model), divisors_RT)

    def _packs(self, model: Any, chunk: Chunk) -> bool:
        """Whether rows are packed: if that agrees with plain scoring, which the first chunk that can be packed decides,
        and if this chunk then has no more tokens. Packed rows are padded to the longest, and may have more where
        prompts have unequal numbers of long completions.

        Rows to which tools have shown media behind the prompt are compared apart.
        """
        sharing = self.sharing
        if sharing.packing is None and not takes_packed_rows(self.trainer.accelerator.unwrap_model(model)):
            logger.info("shared-prefix scoring off: layers of this architecture carry a state from token to token")
            sharing.packing = False
        if sharing.packing is None:
            sharing.packing = sharing.agreed("scoring", self._gap(model, chunk, behind=False))
        if sharing.packing and sharing.behind is None and self._anything_shown(chunk):
            sharing.behind = sharing.agreed("scoring of what tools have shown", self._gap(model, chunk, behind=True))
        if not sharing.packing or (not sharing.behind and any(row.behind for row in chunk.rows)):
            return False
        return packed_tokens(chunk.rows, chunk.completion_ids, chunk.completion_mask) <= chunk.input_ids.numel()

    def _anything_shown(self, chunk: Chunk) -> bool:
        """Whether tools have shown media to a row of any process."""
        if self.trainer.generation.tools is None:
            return False
        here = torch.tensor([any(row.behind for row in chunk.rows)], device=chunk.input_ids.device)
        return bool(gathered(here).any())

    @torch.no_grad()
    def _gap(self, model: Any, chunk: Chunk, *, behind: bool) -> float:
        """How far the log-probs of packed rows are from those of plain ones; infinite if the model takes none.

        Compared are the rows to which tools have shown media `behind` the prompt, or the others. A process without such
        rows reads all of its rows for nothing: all processes make the same forwards.
        """
        compared = chunk.only(behind=behind)
        chunk = replace(self._with_dummies(compared or chunk), temperatures_BC=None)
        plain, _, _ = self._plain(model, chunk)
        try:
            shared, _ = self._packed(model, chunk)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            logger.warning("prompts are not shared: %s", error)
            shared = torch.full_like(plain, torch.inf)
        return NOTHING if compared is None else gap_of(shared, plain, chunk.completion_mask, half=self.sharing.half)


def _of_the_policy(entropy_BC: Tensor, attention_mask: Tensor, injected_B: Tensor) -> Tensor:
    """`entropy_BC` without what injected rows would add to its mean."""
    if not injected_B.any():
        return entropy_BC
    return own_entropy(entropy_BC, attention_mask[:, -entropy_BC.shape[1] :], injected_B)


@torch.no_grad()
def log_probs_of(model: Any, rows: Sequence[Encoded], ids: Tensor, mask: Tensor, keep: int) -> Tensor:
    """[B, C] under a model that is not trained: of the last `keep` tokens of `ids` behind the prompts `rows`."""
    media = {name: value.to(ids.device) for name, value in media_inputs(rows, ids, model, completion=keep).items()}
    output = model(input_ids=ids, attention_mask=mask, **media, logits_to_keep=keep + 1, use_cache=False)
    return output.logits[:, -keep - 1 : -1].float().log_softmax(dim=-1).gather(2, ids[:, -keep:, None])[..., 0]


def frozen_like(trainer: Any, place: str) -> Any:
    """The checkpoint at a path or of a hub id on the trainer's device; InputError if it is of another kind than the
    policy."""
    policy = trainer.accelerator.unwrap_model(trainer.model)
    model, _ = load_checkpoint(local(place), dtype="auto")
    kinds = [(one.config.model_type, one.get_input_embeddings().num_embeddings) for one in (bare(policy), model)]
    if kinds[0] != kinds[1]:
        (own, count), (other, found) = kinds
        raise InputError(f"{place} is a {other} with {found:,} tokens, and the policy a {own} with {count:,}")
    return model.to(trainer.accelerator.device, policy.dtype).eval().requires_grad_(False)
