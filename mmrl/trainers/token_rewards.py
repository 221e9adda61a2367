"""Reward models that score places in a text: several answers in one pass, or the steps of one answer.

Shapes: B rows, T tokens, R places of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from data_engine.seeding import shuffled
from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from mmrl.trainers.reward import HeadTrainer
from rewards.base import Rollout
from rewards.heads.checkpoint_torch import Checkpoint, chat, pictures_by_media
from rewards.heads.multi_response_torch import add_separator, best_of_loss, followed
from rewards.heads.reading_torch import Row, padded
from rewards.heads.token_scores_torch import asked, behind, tokens_of, with_token_scores

NOWHERE = -1  # the place of a score that a row does not have
Losses = dict[str, Tensor]


def with_scores(policy: Any, processor: Any, kind: str) -> Any:
    """The backbone of a vision-language model under a random head that gives a score at every token."""
    model = with_token_scores(policy.base_model, kind)
    model.config.get_text_config().pad_token_id = processor.tokenizer.pad_token_id
    if kind == "multi_response":
        add_separator(model, processor.tokenizer)
    return model


class PlacesLoss(RewardTrainer):
    """TRL's RewardTrainer with a loss of the scores at the `places` of each row."""

    model: Any  # TRL declares these as possibly None, or as one of many types
    data_collator: Any
    _metrics: Any

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the collator; of what it measures of rows, the mean over all processes is logged."""
        given = dict(inputs)
        places_BR, targets_BR = given.pop("places"), given.pop("targets")
        outputs = model(**given)
        scores_BR = outputs.logits.float().gather(1, places_BR.clamp(min=0))
        loss, measured = self.data_collator.loss(scores_BR.masked_fill(places_BR == NOWHERE, -torch.inf), targets_BR)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value_B in measured.items():
            gathered: Any = self.accelerator.gather_for_metrics(value_B.detach())
            metrics[name] += gathered.tolist()
        return (loss, outputs) if return_outputs else loss


class PlacesTrainer(HeadTrainer, PlacesLoss):
    """Trains what `with_scores` gives on the batches of a `Places`; media are shown as the rewards show them."""

    def __init__(self, model: Any, *, args: RewardConfig, rows: type[Places], **kwargs: Any) -> None:
        def collator(head: Checkpoint) -> Places:
            return rows(head, args.seed, epoch=lambda: int(self.state.epoch or 0))

        super().__init__(model, args=args, collator=collator, **kwargs)


class Places(ABC):
    """Makes batches of rows with `places` [B, R] whose scores are learned, and `targets` [B, R]; and their loss."""

    def __init__(self, head: Checkpoint, seed: int, epoch: Callable[[], int]) -> None:
        self.head, self.seed, self.epoch = head, seed, epoch

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The model's inputs, `places` and `targets`."""
        read = [self._checked(row) for row in rows]
        inputs = padded([row for row, _, _ in read], self.head)
        places = [torch.tensor(places) for _, places, _ in read]
        targets = [torch.tensor(targets, dtype=torch.float32) for _, _, targets in read]
        inputs["places"] = pad_sequence(places, batch_first=True, padding_value=NOWHERE)
        inputs["targets"] = pad_sequence(targets, batch_first=True)
        return inputs

    def _checked(self, row: Mapping[str, Any]) -> tuple[Row, list[int], list[float]]:
        try:
            return self.read(row)
        except (InputError, MediaError) as error:
            raise InputError(f"sample {row['id']}: {error}") from None

    def asked(self, row: Mapping[str, Any]) -> Row:
        """The prompt as inputs of the model, with its pictures."""
        rollout = Rollout("", prompt=row["prompt"], media=row["media"])
        return asked(self.head, chat(rollout, self.head.tokenizer, pictures_by_media(rollout)))

    @abstractmethod
    def read(self, row: Mapping[str, Any]) -> tuple[Row, list[int], list[float]]:
        """(the model's inputs, the places of the scores, what each is to be) of a row of the dataset."""

    @abstractmethod
    def loss(self, scores_BR: Tensor, targets_BR: Tensor) -> tuple[Tensor, Losses]:
        """The loss of scores, -inf where there is none, and what to log [B] of each row.

        The loss is a mean over rows: an answer counts the same in whatever batch, and in whatever process, it is.
        """


class RankedAnswers(Places):
    """All answers to a prompt in one row, in an order that changes with the epoch; the best is to score highest."""

    def read(self, row: Mapping[str, Any]) -> tuple[Row, list[int], list[float]]:
        """Answers behind their prompt; the target of the preferred one is 1."""
        candidates, preferred = row["answer"]["candidates"], row["answer"]["preferred"]
        order = shuffled(map(str, range(len(candidates))), self.seed, self.epoch(), row["id"])
        numbers = [int(number) for number in order]
        made, ends = followed(self.asked(row), [candidates[number] for number in numbers], self.head)
        places = [end for end in ends if end is not None]
        if len(places) < len(ends):
            raise InputError(f"candidate {numbers[ends.index(None)]} has no words beside special tokens")
        return made, places, [float(number == preferred) for number in numbers]

    def loss(self, scores_BR: Tensor, targets_BR: Tensor) -> tuple[Tensor, Losses]:
        """YOJO's cross-entropy (2604.10966), and the share of rows whose best answer scores highest."""
        best_B = targets_BR.argmax(dim=1)
        right_B = (scores_BR.argmax(dim=1) == best_B).float()
        return best_of_loss(scores_BR, best_B), {"accuracy": right_B}


class ScoredSteps(Places):
    """An answer with a score in [0, 1] at the end of some of its steps, each of which is to be predicted."""

    def read(self, row: Mapping[str, Any]) -> tuple[Row, list[int], list[float]]:
        """The answer behind its prompt; steps without a score are read and not learned."""
        steps, targets = row["answer"]["steps"], row["answer"]["step_scores"]
        parts = [tokens_of(step, self.head) for step in steps]
        if [] in parts:
            raise InputError(f"step {parts.index([])} has no words beside special tokens")
        made, ends = behind(self.asked(row), parts, self.head)
        known = [(end, target) for end, target in zip(ends, targets, strict=True) if target is not None]
        return made, [end for end, _ in known], [float(target) for _, target in known]

    def loss(self, scores_BR: Tensor, targets_BR: Tensor) -> tuple[Tensor, Losses]:
        """The binary cross-entropy of soft targets, and the share of scores on the target's side of a half."""
        known_BR = scores_BR != -torch.inf
        found_BR = scores_BR.masked_fill(~known_BR, 0.0)
        losses_BR = binary_cross_entropy_with_logits(found_BR, targets_BR, reduction="none")
        right_BR = ((found_BR > 0) == (targets_BR > 0.5)).float()
        return row_means(losses_BR, known_BR).mean(), {"accuracy": row_means(right_BR, known_BR)}


class DistilledSteps(ScoredSteps):
    """The same of a slower teacher, whose order of the steps of an answer is learned too."""

    def loss(self, scores_BR: Tensor, targets_BR: Tensor) -> tuple[Tensor, Losses]:
        """The cross-entropy and `ranking_loss` of a student of PSRD (2604.17982; the abstract alone was known)."""
        loss, measured = super().loss(scores_BR, targets_BR)
        return loss + ranking_loss(scores_BR.sigmoid(), targets_BR, scores_BR != -torch.inf), measured


def ranking_loss(
    found_BR: Tensor, targets_BR: Tensor, known_BR: Tensor, *, apart: float = 0.2, m: float = 0.1
) -> Tensor:
    """The mean of max(0, m - (p_a - p_b)) over the pairs of a row whose targets q_a - q_b are more than `apart`, 0
    without any; of it the mean over rows.

    >>> row = torch.tensor([[0.5, 0.45, 0.9]])
    >>> round(ranking_loss(row, torch.tensor([[0.9, 0.2, 0.8]]), row > 0).item(), 4)
    0.025
    """
    pairs_BRR = (targets_BR[:, :, None] - targets_BR[:, None] > apart) & known_BR[:, :, None] & known_BR[:, None]
    short_BRR = (m - (found_BR[:, :, None] - found_BR[:, None])).clamp(min=0)
    return row_means(short_BRR.flatten(1), pairs_BRR.flatten(1)).mean()


def row_means(values_BN: Tensor, counted_BN: Tensor) -> Tensor:
    """[B]: the mean of the counted values of each row; 0 for a row without any."""
    return values_BN.masked_fill(~counted_BN, 0.0).sum(dim=1) / counted_BN.sum(dim=1).clamp(min=1)


ROWS: dict[str, type[Places]] = {  # by the kind of head
    "multi_response": RankedAnswers,
    "process": ScoredSteps,
    "distilled": DistilledSteps,
}
