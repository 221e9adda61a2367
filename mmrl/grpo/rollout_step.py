"""One round: completions of some prompts with their rewards and weights, and further rounds in place of dead groups.

Shapes: N rows of all processes, B rows of this one, C completion tokens, K rewards.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor

from mmrl.grpo.credit import importance
from mmrl.grpo.dynamic_sampling import dead_here, fresh, replaced
from mmrl.grpo.generate import SharedTurn
from mmrl.grpo.injection import lengths_logged
from mmrl.grpo.logprobs import gathered
from mmrl.grpo.rollouts import rollout_of
from rewards import Suite


class Rounds(SharedTurn):
    """TRL's GRPOTrainer whose rollouts are scored by a suite, and replaced where their rewards say nothing."""

    num_generations: Any  # what TRL declares as possibly None
    suite: Suite
    refills: int
    _told: dict[str, Any]  # what the last round's rows said and got

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's, but with the rollouts of a prompt in as few micro-batches as hold them, since each reads it anew."""
        held = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is held:  # nothing was generated, or in an evaluation
            return inputs
        self._buffered_inputs = by_prompt(self._buffered_inputs)
        return self._buffered_inputs[self._step % len(self._buffered_inputs)]

    def _round(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One completion for each of `inputs`, with all that belongs to it: what TRL makes of it, and lists of rows."""
        encoded = {row["id"]: row for row in inputs}
        encoded = {name: self._encode(row) for name, row in encoded.items()}
        self._rows = [encoded[row["id"]] for row in inputs]
        self._inputs = inputs
        first = self.accelerator.process_index * len(inputs)
        group: Any = self.num_generations if self.model.training else self.num_generations_eval
        self._copies = copies(gather_object([row["id"] for row in inputs]), group)[first : first + len(inputs)]
        temperatures = self._temperatures()
        if temperatures is not None:  # TRL may pad completions
            temperatures += [1.0] * (-len(temperatures) % (self.args.pad_to_multiple_of or 1))
        self._temperature_BC = None if temperatures is None else torch.tensor([temperatures] * len(inputs))
        output = super()._generate_and_score_completions(inputs)
        if self._temperature_BC is not None:
            output["temperatures"] = self._temperature_BC  # goes the way of the rows: a later step scores under them
        if self.importance_cap is not None and self.model.training:
            output["importance"] = self._importance(output, cap=self.importance_cap)
        output["rows"] = list(self._rows)  # shuffled and sliced by TRL together with the token ids
        return output | self._told | {"inputs": list(inputs)}

    def _importance(self, output: Mapping[str, Any], *, cap: float) -> Tensor:
        """[B, C] weights of the tokens drawn, by what the trained model's own forward says of them; logs both."""
        sampled_BC, scored_BC = output["sampling_per_token_logps"], output.get("old_per_token_logps")
        if scored_BC is None:
            ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
            mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
            size = self.args.per_device_train_batch_size
            with torch.no_grad():
                scored_BC, _, _ = self._get_per_token_logps_and_entropies(
                    self.model, ids, mask, output["completion_ids"].shape[1], batch_size=size
                )
        weights_BC = torch.from_numpy(importance(scored_BC.cpu(), sampled_BC.cpu(), cap=cap)).to(scored_BC)
        own_BC = output["completion_mask"].bool() & ~sampled_BC.isnan()  # what the policy has said itself
        drawn = weights_BC[own_BC]
        sums = torch.stack([drawn.sum(), (drawn >= cap).to(drawn).sum(), own_BC.to(drawn).sum()])
        total, capped, count = gathered(sums[None]).sum(dim=0).tolist()
        if count:
            self._metrics["train"]["importance/mean"].append(total / count)
            self._metrics["train"]["importance/capped"].append(capped / count)
        return weights_BC

    def _refilled(self, output: dict[str, Any]) -> dict[str, Any]:
        """`output` with other prompts in place of the dead groups, as far as `refills` rounds find some.

        Every process draws as many prompts as the one that needs most, by the seed and the step alone. What TRL logs
        stays that of the first round, which is the policy's on the data.
        """
        group, world, drawn, dropped = self.num_generations, self.accelerator.num_processes, 0, 0
        counted_K = (self.reward_weights != 0).to(output["rewards"].device)
        dead = dead_here(output["rewards"][:, counted_K], group)
        shown = set(gather_object([row["id"] for row in output["inputs"]])) if self.refills else set()
        taken = {place for place, name in enumerate(self._ids) if name in shown} if shown else set()
        for refill in range(self.refills):
            need = int(gathered(torch.tensor([len(dead)], device=self.accelerator.device)).max())
            key = (self.args.seed, self.state.global_step, self._micro(), refill)
            places = fresh(len(self._ids), taken, need * world, *key)
            if need == 0 or len(places) < need * world:
                break
            taken |= set(places)
            mine = places[self.accelerator.process_index :: world]
            said = {mode: {name: list(values) for name, values in of.items()} for mode, of in self._metrics.items()}
            other = self._round([row for place in mine for row in [cast(Dataset, self.train_dataset)[place]] * group])
            for mode, of in said.items():
                self._metrics[mode].clear()
                self._metrics[mode].update(of)
            useless = set(dead_here(other["rewards"][:, counted_K], group))
            pairs = list(zip(dead, [new for new in range(len(mine)) if new not in useless], strict=False))
            output = replaced(output, other, pairs, group, pad=self._tokenizer.pad_token_id)
            dead = dead[len(pairs) :]
            drawn, dropped = drawn + need * world, dropped + len(pairs)
        if self.refills:
            tokens = gathered(output["completion_mask"].sum()[None])
            output["num_items_in_batch"] = tokens.sum()
            counts = gathered(torch.tensor([[dropped, len(dead)]], device=self.accelerator.device)).sum(dim=0).tolist()
            for name, value in zip(("drawn", "replaced", "left_dead"), (drawn, *counts), strict=True):
                self._metrics["train"][f"dynamic/{name}"].append(float(value))
        return output

    @functools.cached_property
    def _ids(self) -> list[str]:
        return list(cast(Dataset, self.train_dataset).with_format(None)["id"])

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        rollouts = [
            rollout_of(row, completion, encoded, self.space, self.state.global_step, self.state.max_steps)
            for row, completion, encoded in zip(inputs, completions, self._rows, strict=True)
        ]
        verdicts = self.suite.score(rollouts)
        scores = [[_number(said[name].score) for name in self.suite.names] for said in verdicts]
        rewards_NK = torch.tensor(scores, device=self.accelerator.device)
        completions = [(r.completion, len(ids)) for r, ids in zip(rollouts, completion_ids_list, strict=True)]
        injected_N = torch.tensor(self._injected, device=rewards_NK.device)
        self._told = {"completions": completions, "verdicts": verdicts, "rewards": rewards_NK, "injected": injected_N}
        if self.inject is not None and self.model.training:
            self._log_lengths(completion_ids_list, injected_N)
        return gathered(rewards_NK.masked_fill(injected_N.unsqueeze(1), float("nan")))  # what TRL logs is the policy's

    def _log_lengths(self, completions: Sequence[Sequence[int]], injected_N: Tensor) -> None:
        lengths_N = gathered(torch.tensor([len(ids) for ids in completions], device=injected_N.device))
        ended_N = gathered(torch.tensor([ids[-1] in self.eos_token_ids for ids in completions]).to(injected_N))
        for name, value in lengths_logged(lengths_N, ended_N, gathered(injected_N)).items():
            self._metrics["train"][name][-1] = value


def copies(names: Sequence[str], group: int) -> list[int]:
    """For each row, how many groups of the same prompt come before its own.

    >>> copies(["a", "a", "b", "b", "a", "a"], 2)
    [0, 0, 0, 0, 1, 1]
    """
    prompts = names[::group]
    return [prompts[: row // group].count(name) for row, name in enumerate(names)]


def by_prompt(batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `batches`, which TRL has shuffled, dealt anew: prompts in the order in which they come, each whole.

    >>> one, two = "first prompt", "second prompt"
    >>> [batch["rows"] for batch in by_prompt([{"rows": [one, two]}, {"rows": [two, one]}])]
    [['first prompt', 'first prompt'], ['second prompt', 'second prompt']]
    """
    rows = [row for batch in batches for row in batch["rows"]]
    first = {id(row): place for place, row in reversed(list(enumerate(rows)))}
    order = sorted(range(len(rows)), key=lambda place: first[id(rows[place])])
    size = len(batches[0]["rows"])
    dealt = [order[start : start + size] for start in range(0, len(order), size)]
    return [{key: _ordered([batch[key] for batch in batches], places) for key in batches[0]} for places in dealt]


def _ordered(parts: Sequence[Any], order: Sequence[int]) -> Any:
    """The rows of all `parts` in `order`; what has no rows (a count, nothing) as it is in each part."""
    if parts[0] is None or (isinstance(parts[0], Tensor) and parts[0].ndim == 0):
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))[list(order)]
    rows = [row for part in parts for row in part]
    return [rows[place] for place in order]


def _number(score: float | None) -> float:
    return float("nan") if score is None else score
