"""Whether the engine and the trainer give the same tokens the same log-probs, for each kind of media.

Another picture size, position, weight, dtype or order of the media shows here, and nowhere else: the engine answers
fluently all the same. Compared are log-probs under the temperature of the training and without banned tokens.
Shapes: B rows, C completion tokens, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eval.answer.local import evaluating
from mmrl.core.config import InputError
from mmrl.grpo.batch import gathered
from mmrl.grpo.engines.base import Completions
from mmrl.grpo.shared_prefix.parity import agree, gap_of
from mmrl.grpo.shared_prefix.prefix_cache import left_padded
from mmrl.model.encoding import Encoded
from mmrl.model.sampling import banned as without

logger = logging.getLogger(__name__)

KINDS = ("text", "a picture", "several pictures", "a video", "pictures and a video")


class Agreement:
    """Compares one prompt of every kind at the start and every `every` steps; `probed` asks the engine."""

    def __init__(
        self, trainer: Any, probed: Callable[[Sequence[Encoded]], Completions], banned: Sequence[int], every: int
    ) -> None:
        self.trainer, self.probed, self.banned, self.every = trainer, probed, banned, every
        self.gaps: dict[str, float] = {}  # of the last comparison, by kind
        self._last: dict[str, int] = {}  # the step of the last comparison, by kind

    def __call__(self, rows: Sequence[Encoded]) -> None:
        """Compare, if it is time to, on some of `rows`; refuse an engine that disagrees. All processes must call it."""
        step = self.trainer.state.global_step
        due = {kind_of(row): row for row in reversed(rows)}
        mine = torch.tensor([kind in due and self._due(kind, step) for kind in KINDS])
        device = self.trainer.accelerator.device
        wanted = gathered(mine[None].to(device)).any(dim=0).tolist()
        if not any(wanted):
            return
        chosen = [due[kind] for kind, want in zip(KINDS, wanted, strict=True) if want and kind in due] or [rows[0]]
        gaps = dict(zip(map(kind_of, chosen), self._gaps(chosen), strict=True))
        own = torch.tensor([[gaps.get(kind, -1.0) for kind in KINDS]], device=device)
        self.gaps = {kind: gap for kind, gap in zip(KINDS, gathered(own).amax(dim=0).tolist(), strict=True) if gap >= 0}
        self._last |= {kind: int(step) for kind in self.gaps}
        self._judge(step)

    def _due(self, kind: str, step: int) -> bool:
        return kind not in self._last or step - self._last[kind] >= self.every

    def _judge(self, step: int) -> None:
        half = self.trainer.sharing.half
        said = ", ".join(f"{kind} {gap:.1e}" for kind, gap in self.gaps.items())
        logger.info("engine and trainer at step %d, log-probs differ by: %s", step, said)
        if self.trainer.model.training:
            self.trainer._metrics["train"]["engine/gap"].append(max(self.gaps.values()))
        wrong = [kind for kind, gap in self.gaps.items() if not agree(gap, half=half)]
        if wrong:
            raise InputError(
                f"the engine and the trainer disagree about prompts with {' and '.join(wrong)} (log-probs of the same "
                f"tokens differ by: {said}): the engine must serve this model, in this dtype, and place its media as "
                "transformers does; use engine: local, or leave such prompts out"
            )

    def _gaps(self, rows: Sequence[Encoded]) -> list[float]:
        """How far the log-probs of a completion of each row are apart (see `gap_of`)."""
        trainer, drawn = self.trainer, self.probed(rows)
        pad, device = trainer._tokenizer.pad_token_id, trainer.accelerator.device
        prompt_ids, prompt_mask = left_padded(rows, pad, device)
        said_BC = _padded([torch.tensor(ids) for ids in drawn.ids], pad).to(device)
        theirs_BC = _padded([torch.tensor(values) for values in drawn.logprobs], 0.0).to(device)
        valid_BC = _padded([torch.ones(len(ids)) for ids in drawn.ids], 0.0).to(device)
        ids = torch.cat([prompt_ids, said_BC], dim=1)
        mask = torch.cat([prompt_mask, valid_BC.to(prompt_mask)], dim=1)
        with evaluating(trainer.model):
            _, logprobs_BCV = trainer.logprobs.states(rows, ids, mask, said_BC.shape[1], None)
        kept_BCV = without(logprobs_BCV.flatten(0, 1), self.banned).log_softmax(dim=-1).view_as(logprobs_BCV)
        ours_BC = kept_BCV.gather(-1, said_BC[..., None])[..., 0]
        half = trainer.sharing.half
        return [
            gap_of(ours_BC[b : b + 1], theirs_BC[b : b + 1], valid_BC[b : b + 1].bool(), half=half)
            for b in range(len(rows))
        ]


def kind_of(prompt: Encoded) -> str:
    """One of KINDS."""
    pictures = len(prompt.tensors.get("image_grid_thw", ()))
    if "video_grid_thw" in prompt.tensors:
        return KINDS[4] if pictures else KINDS[3]
    return KINDS[min(pictures, 2)]


def _padded(rows: list[Tensor], value: Any) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
