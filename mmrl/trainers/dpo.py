"""Direct preference optimisation: TRL's DPOTrainer on pairs of answers to prompts with any media."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from mmrl.core.vision import VisionBudget
from mmrl.trainers import given
from mmrl.trainers.collator import GivenAnswers
from mmrl.trainers.dummy_media import check_alike
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.finite import FiniteLoss, FiniteNumbers
from mmrl.trainers.preferences import sides
from mmrl.trainers.quiet import quieten
from rewards.prompt_form import PLAIN, PromptForm


class MultimodalDPOTrainer(FiniteLoss, RecordedEvaluations, DPOTrainer):
    """TRL's DPOTrainer on prompts with images, several images, videos or none.

    `model` is a path, a hub id or a loaded model, `train_dataset` what `mmrl.trainers.given.pairs` takes. The reference
    is a frozen copy of the model; the model without its adapters, if it has some; or, with `precompute_ref_log_probs`,
    the log-probs that the model gives before the first step.
    """

    model: Any  # TRL declares these as possibly None, or as one of many types
    processing_class: Any
    data_collator: Any

    def __init__(
        self,
        model: Any,
        *,
        processing_class: Any = None,
        args: DPOConfig | None = None,
        train_dataset: Any,
        budget: VisionBudget | None = None,
        form: PromptForm = PLAIN,
        **kwargs: Any,
    ) -> None:
        args, budget = args or DPOConfig(), budget or VisionBudget()
        model, processing_class = given.policy(model, processing_class, budget)
        args.remove_unused_columns = False
        if not is_peft_model(model) and not args.precompute_ref_log_probs:
            kwargs.setdefault("ref_model", copy.deepcopy(model))
        super().__init__(
            model=model,
            args=args,
            train_dataset=given.pairs(train_dataset),
            processing_class=processing_class,
            data_collator=PairCollator(processing_class, model, budget, form),
            **kwargs,
        )
        check_alike(self, self.train_dataset)
        quieten(self)
        self.add_callback(FiniteNumbers(self))

    def answer_tokens(self, inputs: Mapping[str, Any]) -> Tensor:
        """Those of both answers."""
        return inputs["completion_mask"].bool()

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The rows as they are: the collator encodes them."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Give the reference's log-probs to the collator. TRL's way is a file next to the dataset's, and rows in memory
        have none that all processes find."""
        ids = dataset.with_format(None)["id"]
        if not self.data_collator.reference.keys() >= set(ids):
            loader = DataLoader(dataset, batch_size=batch_size, collate_fn=self.data_collator)  # pyright: ignore[reportArgumentType]
            found: list[Any] = [
                torch.stack(self.accelerator.gather_for_metrics(self.compute_ref_log_probs(self.model, batch)), dim=1)  # pyright: ignore[reportArgumentType]
                for batch in self.accelerator.prepare(loader)
            ]
            self.data_collator.reference |= dict(zip(ids, torch.cat(found).tolist(), strict=True))
        return dataset


class PairCollator(GivenAnswers):
    """Makes TRL's batch of pairs: all preferred answers behind their prompts, then all others.

    `reference` has the two log-probs of a pair under the reference, by id, where they are computed beforehand.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reference: dict[str, Sequence[float]] = {}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The model's inputs, `completion_mask` [2 * rows, T], and the log-probs under the reference, if known."""
        prompts = [self.encoded(row) for row in rows]
        texts = zip(*(sides(row["answer"]) for row in rows), strict=True)
        answers = [
            self.answers.tokens(text, prompt) for side in texts for text, prompt in zip(side, prompts, strict=True)
        ]
        inputs, answer_BT = self.batch([*prompts, *prompts], answers)
        inputs["completion_mask"] = answer_BT.long()
        if self.reference:
            known = torch.tensor([self.reference[row["id"]] for row in rows])
            inputs |= {"ref_chosen_logps": known[:, 0], "ref_rejected_logps": known[:, 1]}
        return inputs
