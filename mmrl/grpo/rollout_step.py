"""One rollout step, repeated for groups without reward variance (dynamic sampling).

Shapes: N rows of all processes, B rows of this process, C completion tokens, K rewards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmrl.grpo.batch import OF_THE_STEP, RolloutBatch, gathered
from mmrl.grpo.credit import importance
from mmrl.grpo.dynamic_sampling import dead_group_numbers, fresh, replaced
from mmrl.grpo.generate import RolloutGeneration
from mmrl.grpo.logprobs import LogProbs


class RolloutStep:
    """Turns rows of the dataset into scored rollouts.

    `stock` is TRL's own generation step for a batch: it calls the trainer's hooks for token ids, completions, log-probs
    and rewards, and pads what they return.
    """

    def __init__(
        self,
        trainer: Any,
        stock: Callable[[RolloutBatch], dict[str, Any]],
        generation: RolloutGeneration,
        logprobs: LogProbs,
        *,
        refills: int,
        importance_cap: float | None,
    ) -> None:
        self.trainer = trainer
        self.stock = stock
        self.generation = generation
        self.logprobs = logprobs
        self.refills = refills
        self.importance_cap = importance_cap

    def __call__(self, samples: list[dict[str, Any]]) -> tuple[dict[str, Any], RolloutBatch]:
        """(what TRL shuffles, slices and gives to the loss, the same rollouts with their verdicts and rewards)."""
        output = self._round(samples)
        if self.trainer.model.training:
            output = self._refilled(output)
        of_the_step = {name: output.pop(name) for name in OF_THE_STEP}
        return output, RolloutBatch(rows=output["rows"], injected_B=output["injected"], **of_the_step)

    def _round(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """One completion for each of `samples`, as TRL's tensors and lists of B rows."""
        batch = self.begun(samples)
        output = self.stock(batch)
        if batch.temperatures_BC is not None:
            output["temperatures"] = batch.temperatures_BC  # a later step scores under them
        if self.importance_cap is not None and self.trainer.model.training:
            output["importance"] = self._importance(batch, output, cap=self.importance_cap)
        output["rows"] = list(batch.rows)  # shuffled and sliced by TRL together with the token ids
        output["injected"] = batch.injected_B
        return output | {name: getattr(batch, name) for name in OF_THE_STEP}

    def begun(self, samples: list[dict[str, Any]]) -> RolloutBatch:
        """The batch before anything is sampled; each prompt is encoded once."""
        trainer = self.trainer
        distinct = {sample["id"]: sample for sample in samples}
        encoded = {name: self.generation.encode(sample) for name, sample in distinct.items()}
        first = trainer.accelerator.process_index * len(samples)
        group: int = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
        temperatures = self.generation.temperatures()
        if temperatures is not None:  # TRL may pad completions
            temperatures += [1.0] * (-len(temperatures) % (trainer.args.pad_to_multiple_of or 1))
        return RolloutBatch(
            rows=[encoded[sample["id"]] for sample in samples],
            temperatures_BC=None if temperatures is None else torch.tensor([temperatures] * len(samples)),
            samples=samples,
            turns=[()] * len(samples),
            branches=[None] * len(samples),
            copies=copies(gather_object([sample["id"] for sample in samples]), group)[first : first + len(samples)],
        )

    def _importance(self, batch: RolloutBatch, output: Mapping[str, Any], *, cap: float) -> Tensor:
        """[B, C] importance weights of the tokens drawn, from log-probs of the trained model; logs their mean and how
        many were capped."""
        sampled_BC, scored_BC = output["sampling_per_token_logps"], output.get("old_per_token_logps")
        if scored_BC is None:
            ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
            mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
            keep, size = output["completion_ids"].shape[1], self.trainer.args.per_device_train_batch_size
            with torch.no_grad():
                scored_BC, _, _ = self.logprobs(batch, self.trainer.model, ids, mask, keep, batch_size=size)
        weights_BC = torch.from_numpy(importance(scored_BC.cpu(), sampled_BC.cpu(), cap=cap)).to(scored_BC)
        own_BC = output["completion_mask"].bool() & ~sampled_BC.isnan()  # tokens that the policy has drawn itself
        own = weights_BC[own_BC]
        sums = torch.stack([own.sum(), (own >= cap).to(own).sum(), own_BC.to(own).sum()])
        total, capped, count = gathered(sums[None]).sum(dim=0).tolist()
        if count:
            self.trainer._metrics["train"]["importance/mean"].append(total / count)
            self.trainer._metrics["train"]["importance/capped"].append(capped / count)
        return weights_BC

    def _refilled(self, output: dict[str, Any]) -> dict[str, Any]:
        """`output` with other prompts in place of the dead groups, as far as `refills` rounds find live ones.

        Every process draws as many prompts as the one that needs most, by the seed and the step alone. TRL's metrics
        stay those of the first round, which describe the policy on the data.
        """
        trainer = self.trainer
        group, world, drawn, dropped = trainer.num_generations, trainer.accelerator.num_processes, 0, 0
        counted_K = (trainer.reward_weights != 0).to(output["rewards_BK"].device)
        dead = dead_group_numbers(output["rewards_BK"][:, counted_K], group)
        seen = set(gather_object([sample["id"] for sample in output["samples"]])) if self.refills else set()
        taken = {place for place, name in enumerate(self._ids) if name in seen} if seen else set()
        for refill in range(self.refills):
            need = int(gathered(torch.tensor([len(dead)], device=trainer.accelerator.device)).max())
            key = (trainer.args.seed, trainer.state.global_step, self.generation.micro_step, refill)
            places = fresh(len(self._ids), taken, need * world, *key)
            if need == 0 or len(places) < need * world:
                break
            taken |= set(places)
            mine = places[trainer.accelerator.process_index :: world]
            others = [trainer.train_dataset[place] for place in mine]
            other = self._unlogged_round([sample for sample in others for _ in range(group)])
            useless = set(dead_group_numbers(other["rewards_BK"][:, counted_K], group))
            pairs = list(zip(dead, [new for new in range(len(mine)) if new not in useless], strict=False))
            output = replaced(output, other, pairs, group, pad=trainer._tokenizer.pad_token_id)
            dead = dead[len(pairs) :]
            drawn, dropped = drawn + need * world, dropped + len(pairs)
        if self.refills:
            learned_BC = output["completion_mask"] * output.get("tool_mask", 1)
            output["num_items_in_batch"] = gathered(learned_BC.sum()[None]).sum()
            counts = torch.tensor([[dropped, len(dead)]], device=trainer.accelerator.device)
            counts = gathered(counts).sum(dim=0).tolist()
            for name, value in zip(("drawn", "replaced", "left_dead"), (drawn, *counts), strict=True):
                trainer._metrics["train"][f"dynamic/{name}"].append(float(value))
        return output

    def _unlogged_round(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A round that leaves the trainer's metrics as they were."""
        metrics = self.trainer._metrics
        before = {mode: {name: list(values) for name, values in of.items()} for mode, of in metrics.items()}
        output = self._round(samples)
        for mode, of in before.items():
            metrics[mode].clear()
            metrics[mode].update(of)
        return output

    @functools.cached_property
    def _ids(self) -> list[str]:
        return list(self.trainer.train_dataset.with_format(None)["id"])


def copies(names: Sequence[str], group: int) -> list[int]:
    """For each row, how many groups of the same prompt come before its own.

    >>> copies(["a", "a", "b", "b", "a", "a"], 2)
    [0, 0, 0, 0, 1, 1]
    """
    prompts = names[::group]
    return [prompts[: row // group].count(name) for row, name in enumerate(names)]


def by_prompt(batches: Sequence[Mapping[str, Any]], *, alike: bool = False) -> list[dict[str, Any]]:
    """The rows of `batches`, which TRL has shuffled, sorted into batches of the same size so that the rollouts of a
    prompt stand together, and of these those that begin `alike`; prompts keep the order in which they first appear.

    >>> from mmrl.model.encoding import Encoded
    >>> a, b = Encoded([1], {}, ()), Encoded([2], {}, ())
    >>> batches = by_prompt([{"rows": [a, b]}, {"rows": [b, a]}])
    >>> [[row.input_ids for row in batch["rows"]] for batch in batches]
    [[[1], [1]], [[2], [2]]]
    """
    rows = [row for batch in batches for row in batch["rows"]]
    first = {id(row.asked): place for place, row in reversed(list(enumerate(rows)))}
    said = [ids for batch in batches for ids in batch["completion_ids"].tolist()] if alike else [[]] * len(rows)
    order = sorted(range(len(rows)), key=lambda place: (first[id(rows[place].asked)], said[place]))
    size = len(batches[0]["rows"])
    dealt = [order[start : start + size] for start in range(0, len(order), size)]
    return [{key: _ordered([batch[key] for batch in batches], places) for key in batches[0]} for places in dealt]


def _ordered(parts: Sequence[Any], order: Sequence[int]) -> Any:
    """The rows of all `parts` in `order`; a value without rows (a count, None) as it is in each part."""
    if parts[0] is None or (isinstance(parts[0], Tensor) and parts[0].ndim == 0):
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))[list(order)]
    rows = [row for part in parts for row in part]
    return [rows[place] for place in order]
