"""TRL's GRPOTrainer for any mix of text, images and videos, with rewards that may abstain.

TRL 1.16 knows images only: it re-processes them for every rollout, drops videos before scoring and breaks on batches
that mix prompts with and without images. Here the media never enter TRL. Each prompt is encoded once per generation
step; TRL sees the ready token ids, and every forward is handed the media of its rows (`mmrl.forward`). The private
methods of TRL that this overrides are in these two files, and `tests/test_trl_contract.py` holds their signatures.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.utils import RepeatSampler

from eval.encode import Encoded, encode, sized_pictures
from eval.sampling import RowSampler, vision_token_ids
from mmrl.advantages import ADVANTAGES, check_options, dead_groups, options_of, statistics
from mmrl.blank import Blanks, media_kinds
from mmrl.config import InputError
from mmrl.credit import Credit, by_spans, check_credit, importance, thr_weights_of
from mmrl.forward import SharedForward, gathered
from mmrl.gcpo import PairSampler, by_name, logged_of_pairs, pair_places, told_of_pairs, unread
from mmrl.generation import generated
from mmrl.health import FiniteGradients, SilentSteps, stop
from mmrl.injection import Injection, check_injection, label_ids, lengths_logged
from mmrl.refill import dead_here, fresh, replaced
from mmrl.rollouts import rollout_of, write_rollouts
from mmrl.room import context_of, refuse_long
from mmrl.settings import check_served, check_settings
from mmrl.temperature import TemperatureSchedule, check_head
from mmrl.vision import CoordinateSpace, VisionBudget
from rewards import Suite, Verdict

logger = logging.getLogger(__name__)


class MultimodalGRPOTrainer(SharedForward):
    """GRPO on prompts with images, several images, videos or none, mixed in one batch.

    `rewards` is the suite that scores the rollouts; its reward vector goes to `advantages`, a name of
    `mmrl.advantages.ADVANTAGES` with its options. `space` is the coordinate space that the model speaks.
    """

    num_generations: Any  # what TRL declares as possibly None
    num_generations_eval: Any
    max_completion_length: Any
    max_steps: Any

    def __init__(
        self,
        model: Any,
        *,
        processing_class: Any,
        rewards: Suite,
        args: GRPOConfig,
        train_dataset: Dataset,
        budget: VisionBudget,
        space: CoordinateSpace = CoordinateSpace.resized,
        advantages: str = "gdpo",
        advantage_options: Mapping[str, Any] | None = None,
        shared_prefix: bool = True,
        temperature: TemperatureSchedule | None = None,
        refills: int = 0,
        inject: Injection | None = None,
        importance_cap: float | None = None,
        credit: Credit | None = None,
        **kwargs: Any,
    ) -> None:
        check_settings(args, advantages, temperature, refills, credit, importance_cap)
        advantage_options = by_name(advantage_options or {}, rewards.names)
        check_options(advantages, advantage_options, rewards=len(rewards.names))
        if inject is not None:
            check_injection(inject, rewards.names, advantages, options_of(advantages))
        if credit is not None:
            check_credit(credit, rewards.names)
        if args.use_vllm:
            check_served(media_kinds(train_dataset))
            banned = dict.fromkeys(map(str, vision_token_ids(model.config, processing_class.tokenizer)), -100)
            args.generation_kwargs = {"logit_bias": banned, **cast(dict[str, Any], args.generation_kwargs or {})}
        args.reward_weights = list(rewards.weights)
        processing_class.tokenizer.padding_side = "left"  # on the right TRL misplaces what belongs to the prompt
        self.suite = rewards
        self.budget = budget
        self.space = space
        self.estimator = functools.partial(ADVANTAGES[advantages], **advantage_options)
        self.asked = options_of(advantages)  # what the estimator can be told of a batch
        self._compared_K = advantage_options.get("compared_K")
        self._pairs: list[tuple[int, int]] = []  # places in the training set, where the estimator compares pairs
        if "pairs_P" in self.asked:
            columns = train_dataset[:]
            self._pairs = pair_places(columns["id"], columns["meta"])
        self.credit = credit
        self.importance_cap = importance_cap
        self._sampled_BC: list[list[float]] = []  # the log-probs under which the last round's tokens were drawn
        self.inject = inject
        self._injected: list[bool] = []  # of the last round's rows, which say the label
        self._sharing = self._prefilling = None if shared_prefix else False  # None: not decided yet
        self.refills = refills
        self.schedule = temperature
        self._rewards_NK = torch.empty(0)
        self._batch: Mapping[str, Any] = {}
        self.silent = False  # no reward had a verdict on any rollout of this step
        self._inputs: Sequence[Mapping[str, Any]] = ()
        self._told: dict[str, Any] = {}  # what the last round's rows said and got
        super().__init__(
            model=model,
            reward_funcs=[_named(name) for name in rewards.names],
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        unwrapped: Any = self.accelerator.unwrap_model(self.model)
        self.context = context_of(unwrapped)
        self.banned_tokens = vision_token_ids(unwrapped.config, processing_class.tokenizer)
        if temperature is not None:
            check_head(unwrapped)
        self.add_callback(FiniteGradients(self))
        self.add_callback(SilentSteps(self))
        self._blanks = Blanks(self, processing_class, train_dataset)

    # One generation step

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = self._round(inputs)
        if self.model.training:
            output = self._refilled(output)
        told = {key: output.pop(key) for key in ("inputs", "completions", "verdicts", "rewards")}
        told["injected"] = output["injected"]
        self._rewards_NK = gathered(told["rewards"])
        advantages_N = self._advantages(told["inputs"], told["injected"], told["verdicts"])
        start = self.accelerator.process_index * len(inputs)
        told["advantages"] = advantages_N[start : start + len(inputs)]
        output["advantages"] = self._per_token(told, output)
        self._record(told, output)
        return output

    def _per_token(self, told: Mapping[str, Any], output: Mapping[str, Any]) -> Tensor:
        """[B] advantages of this process's rollouts, or [B, C] where something tells their tokens apart."""
        advantages_B, mask_BC, ids_BC = told["advantages"], output["completion_mask"], output["completion_ids"]
        keep, credit = mask_BC.shape[1], self.credit or Credit()
        if not self.model.training or (credit == Credit() and "importance" not in output):
            return advantages_B
        advantages_BC = advantages_B.unsqueeze(1).repeat(1, keep)
        if credit.spans is not None:
            said = [row[:count].tolist() for row, (_, count) in zip(ids_BC, told["completions"], strict=True)]
            advantages_BC = by_spans(advantages_BC, credit.spans, told["verdicts"], said, self._tokenizer)
        if credit.thr is not None:
            scores_B = told["rewards"][:, self.suite.names.index(credit.thr.reward)]
            scores_B = scores_B.masked_fill(told["injected"], float("nan"))  # not the policy's own answer
            input_ids = torch.cat([output["prompt_ids"], ids_BC], dim=1)
            attention_mask = torch.cat([output["prompt_mask"], mask_BC], dim=1)
            warm_BC = output.get("temperatures")

            def states(rows: slice) -> tuple[Tensor, Tensor]:
                warm = None if warm_BC is None else warm_BC[rows]
                return self._states(output["rows"][rows], input_ids[rows], attention_mask[rows], keep, warm)

            weights_BC = thr_weights_of(credit.thr, scores_B, ids_BC, mask_BC, self.num_generations, states)
            advantages_BC = advantages_BC * weights_BC.to(advantages_BC)
            self._metrics["train"]["thr/kept"].append(float((weights_BC[mask_BC.bool()] > 0).float().mean()))
        if "importance" in output:
            advantages_BC = advantages_BC * output["importance"].to(advantages_BC)
        return advantages_BC

    def _round(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One completion for each of `inputs`, with all that belongs to it: what TRL makes of it, and lists of rows."""
        encoded = {row["id"]: row for row in inputs}
        encoded = {name: self._encode(row) for name, row in encoded.items()}
        self._rows = [encoded[row["id"]] for row in inputs]
        self._inputs = inputs
        temperatures = self._temperatures()
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
        drawn = weights_BC[output["completion_mask"].bool()]
        self._metrics["train"]["importance/mean"].append(float(gathered(drawn.mean()[None]).mean()))
        self._metrics["train"]["importance/capped"].append(float(gathered((drawn >= cap).float().mean()[None]).mean()))
        return weights_BC

    def _refilled(self, output: dict[str, Any]) -> dict[str, Any]:
        """`output` with other prompts in place of the dead groups, as far as `refills` rounds find some.

        Every process draws as many prompts as the one that needs most, by the seed and the step alone. What TRL logs
        stays that of the first round, which is the policy's on the data.
        """
        group, world, drawn, dropped = self.num_generations, self.accelerator.num_processes, 0, 0
        dead = dead_here(output["rewards"], group)
        number = {name: place for place, name in enumerate(self._ids)} if self.refills else {}
        taken = {number[name] for name in gather_object([row["id"] for row in output["inputs"]])} if number else set()
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
            useless = set(dead_here(other["rewards"], group))
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

    def _micro(self) -> int:
        return self._step % max(self.args.gradient_accumulation_steps, 1)

    def _encode(self, row: Mapping[str, Any]) -> Encoded:
        encoded = encode(self.processing_class, row["prompt"], row["media"], self.budget)
        try:
            refuse_long(len(encoded.input_ids), self.max_completion_length, self.context)
        except InputError as error:
            raise InputError(f"sample {row['id']}: {error}") from None
        return encoded

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [row.input_ids for row in self._rows], None, {}

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        if self.use_vllm:
            return self._served(num_generations)
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
        ):
            if self._prefilling is None:  # decided once, by comparing both ways on the first batch
                shared, plain = (self._completions_by(model, num_generations, shared=way) for way in (True, False))
                same = torch.tensor(float(shared == plain), device=self.accelerator.device).reshape(1)
                self._prefilling = bool(gathered(same).min())
                logger.info("shared-prefix generation %s", "on" if self._prefilling else "off: other tokens")
                return plain, self._drawn()
            return self._completions_by(model, num_generations, shared=self._prefilling), self._drawn()

    def _served(self, num_generations: int) -> tuple[list[list[int]], list[list[float]] | None]:
        """Completions by TRL's vLLM server, which gets the pictures in the size that the model is trained on."""
        shown = {
            row["id"]: sized_pictures(row["media"], one.seen_size)
            for row, one in zip(self._inputs, self._rows, strict=True)
        }
        pictures = [shown[row["id"]] or None for row in self._inputs]
        ids = [row.input_ids for row in self._rows]
        served: Any = super()._generate_single_turn(ids, pictures if any(pictures) else None, {}, num_generations)
        said, drawn = served
        said = [_until_end(one, self.eos_token_ids) for one in said]
        self._sampled_BC = [list(row[: len(one)]) for row, one in zip(drawn, said, strict=True)]
        self._injected = [False] * len(said)
        if self.inject is not None and self.model.training:
            self._inject(said, num_generations)
        return said, self._sampled_BC

    def _drawn(self) -> list[list[float]] | None:
        return None if self.importance_cap is None or not self.model.training else self._sampled_BC

    def _completions_by(self, model: Any, num_generations: int, *, shared: bool) -> list[list[int]]:
        sampler = RowSampler(
            self._sampling_keys(num_generations),
            max_new_tokens=self.max_completion_length,
            temperature=self._temperatures() or self.temperature,
            top_p=self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p,
        )
        completions_BC = generated(
            model,
            self._rows,
            self._media,
            pad=self._tokenizer.pad_token_id,
            device=self.accelerator.device,
            shared=shared,
            max_new_tokens=self.max_completion_length,
            do_sample=False,  # the sampler has chosen
            suppress_tokens=self.banned_tokens,
            logits_processor=[sampler],
            eos_token_id=self.eos_token_ids,
            disable_compile=True,
        )
        said = [_until_end(ids, self.eos_token_ids) for ids in completions_BC.tolist()]
        if self.importance_cap is not None:
            drawn_BC = sampler.log_probs().tolist()
            self._sampled_BC = [row[: len(ids)] for row, ids in zip(drawn_BC, said, strict=True)]
        self._injected = [False] * len(said)
        if self.inject is not None and self.model.training:
            self._inject(said, num_generations)
        return said

    def _inject(self, said: list[list[int]], num_generations: int) -> None:
        """Put the label in the place of the last rollout of each group; one that is too long is left out, not cut."""
        first = self.accelerator.process_index * len(self._inputs)
        for i, (row, encoded) in enumerate(zip(self._inputs, self._rows, strict=True)):
            if (first + i) % num_generations == num_generations - 1:
                longest, settings = self.max_completion_length, cast(Injection, self.inject)
                ids = label_ids(row, settings, self.space, encoded.seen_size, self._tokenizer, longest=longest)
                if ids is not None:
                    said[i], self._injected[i] = ids, True
                    if self._sampled_BC:
                        self._sampled_BC[i] = [float("nan")] * len(ids)

    def _temperatures(self) -> list[float] | None:
        """The temperature of every new token at this step, if there is a schedule; an evaluation has none."""
        if self.schedule is None or not self.model.training:
            return None
        return self.schedule.temperatures(self.max_completion_length, self.state.global_step, self.state.max_steps)

    def _sampling_keys(self, num_generations: int) -> list[tuple[int | str, ...]]:
        """What each row's randomness hangs on: the seed, the step, the prompt and its place in the group."""
        first = self.accelerator.process_index * len(self._inputs)
        return [
            (self.args.seed, self.state.global_step, self._micro(), row["id"], (first + i) % num_generations)
            for i, row in enumerate(self._inputs)
        ]

    # Rewards and advantages

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

    def _advantages(
        self, inputs: Sequence[Mapping[str, Any]], injected_N: Tensor, verdicts: Sequence[Mapping[str, Verdict]]
    ) -> Tensor:
        """[N] advantages of all processes' rows; replaces what TRL logged of its own."""
        mode = "train" if self.model.training else "eval"
        group = self.num_generations if mode == "train" else self.num_generations_eval
        rewards_PGK = self._rewards_NK.view(-1, group, len(self.suite.names))
        tasks_P = gather_object([row["task"] for row in inputs])[::group]
        options: dict[str, Any] = {"tasks_P": tasks_P} if "tasks_P" in self.asked else {}
        if "injected_PG" in self.asked and self.inject is not None:
            options["injected_PG"] = gathered(injected_N).view(-1, group)
            options["thinking_K"] = [name in self.inject.unrewarded for name in self.suite.names]
        if self._pairs:
            failed = [unread(said, self.suite.names, self._compared_K) for said in verdicts]
            metas = gather_object([row["meta"] for row in inputs])
            options |= told_of_pairs(metas, gather_object(failed), group, whole=mode == "train")
        advantages_PG = self.estimator(rewards_PGK, self.reward_weights.to(rewards_PGK), **options)
        self.silent = bool(rewards_PGK.isnan().all())
        metrics = self._metrics[mode]
        metrics["steps_without_verdict"].append(float(self.silent))
        metrics["frac_reward_zero_std"][-1] = dead_groups(rewards_PGK).all(dim=1).float().mean().item()
        own_PGK = rewards_PGK.masked_fill(gathered(injected_N).view(-1, group, 1), float("nan"))
        said = statistics(own_PGK, advantages_PG, self.suite.names, tasks_P, weights_K=self.suite.weights)
        if self._pairs:
            said |= logged_of_pairs(rewards_PGK, advantages_PG, options, self._compared_K)
            metrics["frac_reward_zero_std"][-1] = (advantages_PG == 0).all(dim=1).float().mean().item()
        for name, value in said.items():
            metrics[name].append(value)
        advantages_N = advantages_PG.flatten()
        for _ in range(min(len(advantages_N), len(self._logs["advantages"]))):
            self._logs["advantages"].pop()
        self._logs["advantages"].extend(advantages_N.tolist())
        return advantages_N

    def _record(self, told: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Write this step's rollouts of all processes to `OUT/rollouts`."""
        if not self.model.training:
            return
        pairs = zip(told["inputs"], output["rows"], strict=True)
        seen = [{"row": dict(row), "seen_size": one.seen_size} for row, one in pairs]
        said = zip(
            seen,
            told["completions"],
            told["verdicts"],
            told["advantages"].tolist(),
            told["injected"].tolist(),
            strict=True,
        )
        rows = gather_object([
            row | {"completion": text, "tokens": tokens, "verdicts": scores, "advantage": advantage, "injected": label}
            for row, (text, tokens), scores, advantage, label in said
        ])  # fmt: skip
        if self.accelerator.is_main_process:
            out, step = Path(str(self.args.output_dir)), self.state.global_step
            write_rollouts(rows, out, step=step, group=self.num_generations, space=self.space)

    # Scoring

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._rows, self._temperature_BC = inputs["rows"], inputs.get("temperatures")
        self._batch, self._strange_B = inputs, inputs["injected"] if self.inject is not None else None
        loss = super()._compute_loss(model, inputs)
        if not loss.isfinite():
            self.stop_on_nan("the loss")
        return loss

    def stop_on_nan(self, what: str) -> None:
        """Save the batch at hand and stop."""
        rows = [
            {"prompt": self._tokenizer.decode(row.input_ids), "completion": self._tokenizer.decode(ids)}
            for row, ids in zip(self._rows, self._batch["completion_ids"], strict=True)
        ]
        stop(Path(str(self.args.output_dir)), self.state.global_step, what, self._batch, rows)

    # Data order

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:  # pyright: ignore[reportIncompatibleMethodOverride]
        sampler = super()._get_train_sampler(dataset)
        assert isinstance(sampler, RepeatSampler)
        sampler = PairSampler(sampler, self._pairs) if self._pairs else sampler
        return _EpochSampler(sampler, self.args.seed, epoch=lambda: int(self.state.epoch or 0))


class _EpochSampler(Sampler[int]):
    """TRL's RepeatSampler whose order depends on the seed and the epoch alone, so that a resumed run finds it again.

    The epoch is asked for: `set_epoch` does not reach the sampler of a resumed run with several processes.
    """

    def __init__(self, repeat: RepeatSampler, seed: int, *, epoch: Callable[[], int]) -> None:
        self.repeat = repeat
        self.seed = seed
        self.epoch = epoch

    def __iter__(self) -> Any:
        if self.repeat.shuffle:
            self.repeat.generator.manual_seed(self.seed + self.epoch())
        return iter(self.repeat)

    def __len__(self) -> int:
        return len(self.repeat)


def _named(name: str) -> Any:
    """What TRL wants as a reward function: it takes the name; the scores come from the suite."""

    def reward(**_: Any) -> list[float]:
        raise RuntimeError(f"{name} is scored by the suite")

    reward.__name__ = name
    return reward


def _number(score: float | None) -> float:
    return float("nan") if score is None else score


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """`ids` up to and including the first end token."""
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]
