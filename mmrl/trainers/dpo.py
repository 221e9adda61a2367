"""Direct preference optimisation: TRL's DPOTrainer on pairs of answers to prompts with any media."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object, is_peft_model
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from eval.answer.local import evaluating
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.trainers import given
from mmrl.trainers.callbacks import quieten
from mmrl.trainers.collator import GivenAnswers
from mmrl.trainers.dummy_media import check_alike
from mmrl.trainers.evaluation import RecordedEvaluations
from mmrl.trainers.finite import FiniteLoss, FiniteNumbers
from mmrl.trainers.preferences import sides, with_system
from mmrl.trainers.token_losses import Kept, TokenReward, regulariser, token_rewards
from rewards.prompt_form import PLAIN, PromptForm


class TokenRegularised(DPOTrainer):
    """TRL's DPOTrainer, with T-REG's regulariser where a batch has rewards of tokens."""

    token_reward: TokenReward | None = None
    _metrics: Any

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss; the regulariser is added to it and logged."""
        if self.token_reward is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        given: dict[str, Any] = dict(inputs)
        kept: Any = Kept(model)
        rewards_BT = given.pop("token_rewards")[:, 1:]  # a position gives the log-prob of the next token
        loss: Any = super().compute_loss(kept, given, False, num_items_in_batch)
        reference_B = torch.cat([given["ref_chosen_logps"], given["ref_rejected_logps"]])
        log_probs_BT = kept.log_probs[:, -rewards_BT.shape[1] :]
        added = regulariser(log_probs_BT, rewards_BT, reference_B.to(log_probs_BT), self.beta)
        gathered: Any = self.accelerator.gather_for_metrics(added.detach().reshape(1))
        self._metrics["train"]["token_regulariser"].append(gathered.mean().item())
        return loss + self.token_reward.weight * added


class MultimodalDPOTrainer(FiniteLoss, RecordedEvaluations, TokenRegularised):
    """TRL's DPOTrainer on prompts with images, several images, videos or none.

    `model` is a path, a hub id or a loaded model, `train_dataset` what `mmrl.trainers.given.pairs` takes. The reference
    is a frozen copy of the model; the model without its adapters, if it has some; or, with `precompute_ref_log_probs`,
    the log-probs that the model gives before the first step. `token_reward`, T-REG, reads these log-probs.
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
        token_reward: TokenReward | None = None,
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
        if token_reward is not None:
            if not args.precompute_ref_log_probs:
                raise InputError("token_reward reads the reference's log-probs: set precompute_ref_log_probs: true")
            self.token_reward = token_reward
            self.data_collator.token_rewards = self._token_rewards(token_reward)

    @torch.no_grad()
    def _token_rewards(self, settings: TokenReward) -> dict[str, tuple[list[float], list[float]]]:
        """The rewards of the tokens of both answers of each pair, which the model gives before the first step."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        dataset: Any = self.train_dataset
        with evaluating(self.model):
            for number in range(self.accelerator.process_index, len(dataset), self.accelerator.num_processes):
                row = dataset[number]
                better, worse = (self._answer_log_probs(row, text) for text in (settings.better, settings.worse))
                chosen, rejected = (token_rewards(b, w).tolist() for b, w in zip(better, worse, strict=True))
                found[row["id"]] = chosen, rejected
        return {name: both for part in gather_object([found]) for name, both in part.items()}

    def _answer_log_probs(self, row: Mapping[str, Any], system: str) -> list[Tensor]:
        """The log-probs of the tokens of both answers, asked with a system message."""
        asked = {**row, "id": f"{row['id']} {system}", "prompt": with_system(row["prompt"], system)}
        inputs = {name: value.to(self.accelerator.device) for name, value in self.data_collator.plain([asked]).items()}
        mask_BT = inputs.pop("completion_mask").bool()
        labels = inputs["input_ids"].masked_fill(~mask_BT, -100)
        log_probs_BT = self.model(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs
        return [own[mask] for own, mask in zip(log_probs_BT.cpu(), mask_BT[:, 1:].cpu(), strict=True)]

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

    `reference` has the two log-probs of a pair under the reference, by id, where they are computed beforehand, and
    `token_rewards` the rewards of the tokens of both answers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reference: dict[str, Sequence[float]] = {}
        self.token_rewards: dict[str, tuple[list[float], list[float]]] = {}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The model's inputs, `completion_mask` [2 * rows, T], and what is known beforehand."""
        inputs = self.plain(rows)
        if self.token_rewards:
            known = [self.token_rewards[row["id"]] for row in rows]
            rewards = [one for side in zip(*known, strict=True) for own in side for one in own]
            rewards_BT = torch.zeros(inputs["completion_mask"].shape)
            rewards_BT[inputs["completion_mask"].bool()] = torch.tensor(rewards)
            inputs["token_rewards"] = rewards_BT
        if self.reference:
            known = torch.tensor([self.reference[row["id"]] for row in rows])
            inputs |= {"ref_chosen_logps": known[:, 0], "ref_rejected_logps": known[:, 1]}
        return inputs

    def plain(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The model's inputs and `completion_mask`."""
        prompts = [self.encoded(row) for row in rows]
        texts = zip(*(sides(row["answer"]) for row in rows), strict=True)
        answers = [
            self.answers.tokens(text, prompt) for side in texts for text, prompt in zip(side, prompts, strict=True)
        ]
        for row, prompt, answer in zip([*rows, *rows], [*prompts, *prompts], answers, strict=True):
            self.check_context(row["id"], prompt, answer)
        inputs, answer_BT = self.batch([*prompts, *prompts], answers)
        inputs["completion_mask"] = answer_BT.long()
        return inputs
