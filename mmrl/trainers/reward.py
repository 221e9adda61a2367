"""Reward models: TRL's RewardTrainer on pairs of answers to prompts with any media, for the reward `reward_model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from mmrl.core.config import InputError
from mmrl.trainers.callbacks import quieten
from mmrl.trainers.dummy_media import check_alike
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.finite import FiniteLoss, FiniteNumbers
from mmrl.trainers.preferences import sides
from rewards.base import Rollout, Verdict
from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.reading_torch import Row, padded
from rewards.heads.reward_model_torch import rows_or_verdicts
from rewards.heads.scoring_classes_torch import scoring_class

SPREAD = 0.02  # of the first weights of a head


def with_head(policy: Any, processor: Any) -> Any:
    """The backbone of a vision-language model under a head that gives one score for a text; the head is random."""
    config = policy.config
    config.num_labels = 1
    config.get_text_config().pad_token_id = processor.tokenizer.pad_token_id
    with torch.device("meta"):
        made = scoring_class(config)(config)
    made.score = nn.Linear(config.get_text_config().hidden_size, 1, bias=False, dtype=policy.dtype)
    nn.init.normal_(made.score.weight, std=SPREAD)
    setattr(made, made.base_model_prefix, policy.base_model)
    return made


class HeadTrainer(FiniteLoss, RecordedEvaluations, RewardTrainer):
    """TRL's RewardTrainer on prompts with images, several images, videos or none; texts are encoded by a collator."""

    model: Any  # TRL declares these as possibly None, or as one of many types
    processing_class: Any

    def __init__(
        self,
        model: Any,
        *,
        processor: Any,
        args: RewardConfig,
        train_dataset: Any,
        collator: Callable[[Checkpoint], Any],
        **kwargs: Any,
    ) -> None:
        args.remove_unused_columns = False
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            processing_class=processor.tokenizer,
            data_collator=collator(Checkpoint("the model", model, processor.tokenizer, processor)),
            **kwargs,
        )
        check_alike(self, train_dataset)
        quieten(self)
        self.add_callback(FiniteNumbers(self))

    def answer_tokens(self, inputs: Mapping[str, Any]) -> Tensor:
        """None: question and answers are read as one text."""
        return torch.zeros_like(inputs["attention_mask"], dtype=torch.bool)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows as they are: the collator encodes them."""
        return dataset


class MultimodalRewardTrainer(HeadTrainer):
    """Learns from pairs which answer is better (Bradley-Terry, 1706.03741).

    `model` is what `with_head` gives, `train_dataset` and `eval_dataset` are rows of pairs. A row's `answer.margin` is
    taken from the difference of the scores. A pair is read as the reward `reward_model` reads it, videos as pictures.
    Its sides are two answers to one prompt, or two pictures.
    """

    def __init__(self, model: Any, **kwargs: Any) -> None:
        super().__init__(model, collator=ScoredPairs, **kwargs)


class ScoredPairs:
    """Makes TRL's batch of pairs: all preferred answers with their prompts, then all others, and the margins."""

    def __init__(self, head: Checkpoint) -> None:
        self.head = head

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The model's inputs for 2 * rows answers, and `margin` [rows] if one is not 0."""
        better, others = zip(*map(compared_answers, rows), strict=True)
        made = rows_or_verdicts([*better, *others], self.head)
        read = [_readable(row["id"], one) for row, one in zip([*rows, *rows], made, strict=True)]
        margins = torch.tensor([row["answer"].get("margin", 0.0) for row in rows])
        return padded(read, self.head) | ({"margin": margins} if margins.any() else {})


def _readable(name: str, made: Row | Verdict) -> Row:
    if isinstance(made, Verdict):
        raise InputError(f"sample {name}: {made.why}")
    return made


def compared_answers(row: Mapping[str, Any]) -> tuple[Rollout, Rollout]:
    """(the preferred answer, the other) of a pair: texts, or pictures where the texts are blank."""
    texts, media, prompt = sides(row["answer"]), row["media"], row["prompt"]
    if any(texts):
        better, other = (Rollout(text, prompt=prompt, media=media) for text in texts)
    else:
        half = len(media) // 2
        both = media[:half], media[half:]
        better, other = (Rollout("", prompt=prompt, media=own[:-1], made=own[-1:]) for own in both)
    return better, other
