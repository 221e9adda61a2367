"""TRL's GRPOTrainer for any mix of text, images and videos, with rewards that may abstain.

TRL 1.16 knows images only: it re-processes them for every rollout, drops videos before scoring and breaks on batches
that mix prompts with and without images. Here the media never enter TRL. Each prompt is encoded once per generation
step; TRL sees the ready token ids, and every forward is handed the media of its rows. All private methods of TRL that
this relies on are overridden in this file, and `tests/test_trl_contract.py` holds their signatures.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather, gather_object
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from eval.encode import Encoded, collate, encode, media_token_types
from eval.sampling import RowSampler, vision_token_ids
from mmrl.advantages import ADVANTAGES, check_options, dead_groups, options_of
from mmrl.blank import Blanks
from mmrl.checkpoints import WholeCheckpoints
from mmrl.config import InputError
from mmrl.generation import generated
from mmrl.health import FiniteGradients, stop
from mmrl.injection import Injection, check_injection, label_ids, lengths_logged, own_entropy
from mmrl.refill import dead_here, fresh, replaced
from mmrl.rollouts import rollout_of, write_rollouts
from mmrl.scoring import packed
from mmrl.temperature import TemperatureSchedule, before_completion, check_head, tempered
from mmrl.vision import CoordinateSpace, VisionBudget
from rewards import Suite

logger = logging.getLogger(__name__)

DECIDED = "shared_prefix.json"  # in a checkpoint: whether prompts are shared; decided anew, the last digits may differ


class MultimodalGRPOTrainer(WholeCheckpoints, GRPOTrainer):
    """GRPO on prompts with images, several images, videos or none, mixed in one batch.

    `rewards` is the suite that scores the rollouts; its reward vector goes to `advantages`, a name of
    `mmrl.advantages.ADVANTAGES` with its options. `space` is the coordinate space that the model speaks.
    """

    model: Any  # what TRL declares as possibly None, or as one of many types
    model_wrapped: Any
    args: Any
    num_generations: Any
    num_generations_eval: Any
    max_completion_length: Any
    max_steps: Any
    _tokenizer: Any

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
        **kwargs: Any,
    ) -> None:
        check_settings(args, advantages, temperature, refills)
        check_options(advantages, advantage_options or {}, rewards=len(rewards.names))
        if inject is not None:
            check_injection(inject, rewards.names, advantages, options_of(advantages))
        args.reward_weights = list(rewards.weights)
        processing_class.tokenizer.padding_side = "left"  # on the right TRL misplaces what belongs to the prompt
        self.suite = rewards
        self.budget = budget
        self.space = space
        self.estimator = functools.partial(ADVANTAGES[advantages], **(advantage_options or {}))
        self.asked = options_of(advantages)  # what the estimator can be told of a batch
        self.inject = inject
        self._injected: list[bool] = []  # of the last round's rows, which say the label
        self._strange_B: Tensor | None = None  # the same of the rows that a forward is about to see
        self._sharing = self._prefilling = None if shared_prefix else False  # None: not decided yet
        self.refills = refills
        self.schedule = temperature
        self._temperature_BC: Tensor | None = None  # of the completion tokens that a forward is about to score
        self._rows: Sequence[Encoded] = ()  # the encoded prompts of the rows that a forward is about to see
        self._rewards_NK = torch.empty(0)
        self._batch: Mapping[str, Any] = {}
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
        self.banned_tokens = vision_token_ids(unwrapped.config, processing_class.tokenizer)
        if temperature is not None:
            check_head(unwrapped)
        self.add_callback(FiniteGradients(self))
        self._blanks = Blanks(self, processing_class, train_dataset)

    # One generation step

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = self._round(inputs)
        if self.model.training:
            output = self._refilled(output)
        told = {key: output.pop(key) for key in ("inputs", "completions", "verdicts", "rewards")}
        told["injected"] = output["injected"]
        self._rewards_NK = _gathered(told["rewards"])
        advantages_N = self._advantages(told["inputs"], told["injected"])
        start = self.accelerator.process_index * len(inputs)
        output["advantages"] = advantages_N[start : start + len(inputs)]
        self._record(told, output)
        return output

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
        output["rows"] = list(self._rows)  # shuffled and sliced by TRL together with the token ids
        return output | self._told | {"inputs": list(inputs)}

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
            need = int(_gathered(torch.tensor([len(dead)], device=self.accelerator.device)).max())
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
            tokens = _gathered(output["completion_mask"].sum()[None])
            output["num_items_in_batch"] = tokens.sum()
            counts = _gathered(torch.tensor([[dropped, len(dead)]], device=self.accelerator.device)).sum(dim=0).tolist()
            for name, value in zip(("drawn", "replaced", "left_dead"), (drawn, *counts), strict=True):
                self._metrics["train"][f"dynamic/{name}"].append(float(value))
        return output

    @functools.cached_property
    def _ids(self) -> list[str]:
        return list(cast(Dataset, self.train_dataset).with_format(None)["id"])

    def _micro(self) -> int:
        return self._step % max(self.args.gradient_accumulation_steps, 1)

    def _encode(self, row: Mapping[str, Any]) -> Encoded:
        return encode(self.processing_class, row["prompt"], row["media"], self.budget)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [row.input_ids for row in self._rows], None, {}

    def _generate_single_turn(
        self,
        prompt_ids: list[list[int]],
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], None]:
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
                self._prefilling = bool(_gathered(same).min())
                logger.info("shared-prefix generation %s", "on" if self._prefilling else "off: other tokens")
                return plain, None
            return self._completions_by(model, num_generations, shared=self._prefilling), None

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
        return _gathered(rewards_NK.masked_fill(injected_N.unsqueeze(1), float("nan")))  # what TRL logs is the policy's

    def _log_lengths(self, completions: Sequence[Sequence[int]], injected_N: Tensor) -> None:
        lengths_N = _gathered(torch.tensor([len(ids) for ids in completions], device=injected_N.device))
        ended_N = _gathered(torch.tensor([ids[-1] in self.eos_token_ids for ids in completions]).to(injected_N))
        for name, value in lengths_logged(lengths_N, ended_N, _gathered(injected_N)).items():
            self._metrics["train"][name][-1] = value

    def _advantages(self, inputs: Sequence[Mapping[str, Any]], injected_N: Tensor) -> Tensor:
        """[N] advantages of all processes' rows; replaces what TRL logged of its own."""
        mode = "train" if self.model.training else "eval"
        group = self.num_generations if mode == "train" else self.num_generations_eval
        rewards_PGK = self._rewards_NK.view(-1, group, len(self.suite.names))
        options: dict[str, Any] = {}
        if "tasks_P" in self.asked:
            options["tasks_P"] = gather_object([row["task"] for row in inputs])[::group]
        if "injected_PG" in self.asked and self.inject is not None:
            options["injected_PG"] = _gathered(injected_N).view(-1, group)
            options["thinking_K"] = [name in self.inject.unrewarded for name in self.suite.names]
        advantages_PG = self.estimator(rewards_PGK, self.reward_weights.to(rewards_PGK), **options)
        dead_PK = dead_groups(rewards_PGK)
        metrics = self._metrics[mode]
        metrics["frac_reward_zero_std"][-1] = dead_PK.all(dim=1).float().mean().item()
        for k, name in enumerate(self.suite.names):
            metrics[f"rewards/{name}/dead_groups"].append(dead_PK[:, k].float().mean().item())
            metrics[f"rewards/{name}/abstained"].append(rewards_PGK[..., k].isnan().float().mean().item())
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
            output["advantages"].tolist(),
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
        the same numbers, one packed row per prompt (`mmrl.scoring`)."""
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

    def _in_step(
        self, rows: Sequence[Encoded], input_ids: Tensor, attention_mask: Tensor, keep: int
    ) -> tuple[Sequence[Encoded], Tensor, Tensor, int]:
        """The rows, and what `mmrl.blank` adds to them at their end."""
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
        if self._sharing is None:
            model, rows, input_ids, attention_mask, keep = here
            seeing = functools.partial(model, **self._media(rows, input_ids, keep))
            with torch.no_grad():
                plain, _, _ = super()._get_per_token_logps_and_entropies(seeing, input_ids, attention_mask, keep)
                try:
                    gap = (self._packed_logps(*here)[0] - plain).abs().max()
                except (RuntimeError, TypeError, ValueError) as error:  # an architecture that takes no tree mask
                    logger.warning("prompts are not shared: %s", error)
                    gap = plain.new_tensor(float("inf"))
            worst = float(_gathered(gap.reshape(1)).max())
            self._sharing = worst < (1e-3 if plain.dtype == torch.float32 else 0.1)
            logger.info("shared-prefix scoring %s: log-probs differ by %.1e", "on" if self._sharing else "off", worst)
        return self._sharing

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

    # What a run that goes on must know again

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

    # Data order

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:  # pyright: ignore[reportIncompatibleMethodOverride]
        sampler = super()._get_train_sampler(dataset)
        assert isinstance(sampler, RepeatSampler)
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


def check_settings(
    args: GRPOConfig, advantages: str, temperature: TemperatureSchedule | None = None, refills: int = 0
) -> None:
    """Refuse what the trainer cannot do, and what would make a resumed run another run."""
    held = args.per_device_train_batch_size * (args.steps_per_generation or 1)
    if refills and (held % (args.num_generations or 1) or args.log_completions):
        raise InputError(
            f"rollout.refills={refills} needs whole groups on every process (per_device_train_batch_size * "
            f"steps_per_generation = {held}, num_generations={args.num_generations}) and log_completions=false"
        )
    if temperature is not None and args.temperature != 1:
        raise InputError(
            f"grpo.temperature={args.temperature:g} and rollout.temperature are both given; "
            "leave grpo.temperature at 1, the schedule has all temperatures"
        )
    if untold := [option for option in options_of(advantages) if option in ("pairs_P", "hardness_PG")]:
        raise InputError(
            f"the estimator {advantages} needs {untold[0]}, which the trainer has not; use it as a function"
        )
    if args.use_vllm:
        raise InputError("use_vllm=true is not supported: TRL 1.16 hands vLLM expanded image tokens and raw images")
    if args.sync_ref_model:
        raise InputError("sync_ref_model=true is not supported: the moved reference model is not in the checkpoints")
    assert args.steps_per_generation is not None  # GRPOConfig fills it in
    if args.steps_per_generation % args.gradient_accumulation_steps:
        raise InputError(
            f"steps_per_generation={args.steps_per_generation} must be a multiple of "
            f"gradient_accumulation_steps={args.gradient_accumulation_steps}: generations are whole optimizer steps"
        )
    cycle = args.steps_per_generation // args.gradient_accumulation_steps * args.num_iterations
    if args.save_strategy == "steps" and cycle > 1 and args.save_steps % cycle:  # rollouts are not in the checkpoints
        raise InputError(
            f"save_steps={args.save_steps:g} is no multiple of {cycle}, the optimizer steps that share rollouts "
            f"(steps_per_generation={args.steps_per_generation} / gradient_accumulation_steps="
            f"{args.gradient_accumulation_steps} * num_iterations={args.num_iterations})"
        )


def _named(name: str) -> Any:
    """What TRL wants as a reward function: it takes the name; the scores come from the suite."""

    def reward(**_: Any) -> list[float]:
        raise RuntimeError(f"{name} is scored by the suite")

    reward.__name__ = name
    return reward


def _gathered(tensor: Tensor) -> Tensor:
    """`tensor` of all processes, concatenated along its first dimension."""
    return cast(Tensor, gather(tensor))


def _number(score: float | None) -> float:
    return float("nan") if score is None else score


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """`ids` up to and including the first end token."""
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]
