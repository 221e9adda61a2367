"""Token credit in training: a rollout's advantage is spread over its tokens by spans, THR and importance weights.

Shapes: B rows of this process, C completion tokens, groups of G consecutive rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mmrl.advantages.arrays import mixed
from mmrl.advantages.sibling import sibling_advantages
from mmrl.advantages.steps import renormed, step_advantages
from mmrl.advantages.token_credit import Array, log_ratio, residuals, span_credit, thr_scores, thr_weights
from mmrl.core.config import Config, InputError
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.logprobs import frozen_like, log_probs_of
from rewards import Verdict

Offsets = list[tuple[int, int]]
States = Callable[[slice], tuple[Tensor, Tensor]]


class SpanCredit(Config):
    """`reward` gives scored spans of a completion, for `mmrl.advantages.token_credit.span_credit`."""

    reward: str
    strength: Annotated[float, Field(ge=0)] = 1.0
    scale: Literal["advantage", "one"] = "advantage"


class HiddenReward(Config):
    """Token weights by THR: completions to which `reward` gives at least `right` are right, the others wrong."""

    reward: str
    right: float = 1.0
    p: Annotated[float, Field(ge=-1, le=1)] = 0.1
    tau: Annotated[float, Field(ge=0)] | None = None
    beta: Annotated[float, Field(ge=0)] = 1.0


class SiblingCredit(Config):
    """`mmrl.advantages.sibling.sibling_advantages` of the weighted rewards, times `weight`, is added to each token's
    advantage."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    whole_branch: bool = False


class StepCredit(Config):
    """The spans of `reward` are steps, each up to the next. `mmrl.advantages.steps.step_advantages` of their scores,
    times `weight`, are added to the advantage of their tokens. With an `outcome`, a reward, the scores are `renormed`
    by it, and the advantages of steps stand alone."""

    reward: str
    outcome: str | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0
    to_go: bool = False


class LogRatio(Config):
    """RTO (2404.18922): what a policy has learned by DPO is a reward of each token. `scale` times the log-probability
    under `policy` less that under `reference`, at most `clip` in size, is added to the token's advantage. Both are
    checkpoints of the model's own architecture and vocabulary."""

    policy: str
    reference: str
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05


class Credit(Config):
    """`spans` moves a rollout's advantage between its tokens, `steps` gives each step its own, `thr` weights the
    tokens, `sibling` adds the advantage of a branch among its siblings, `log_ratio` what a policy after DPO finds
    likelier. Any of them may be given."""

    spans: SpanCredit | None = None
    steps: StepCredit | None = None
    thr: HiddenReward | None = None
    sibling: SiblingCredit | None = None
    log_ratio: LogRatio | None = None


def check_credit(credit: Credit, rewards: Sequence[str]) -> None:
    """Refuse a reward that the suite does not have."""
    steps = credit.steps
    for name, wanted in (
        ("spans", credit.spans and credit.spans.reward),
        ("steps", steps and steps.reward),
        ("steps.outcome", steps and steps.outcome),
        ("thr", credit.thr and credit.thr.reward),
    ):
        if wanted and wanted not in rewards:
            raise InputError(f"advantages.tokens.{name}: no reward {wanted!r}; there are {', '.join(rewards)}")
    if credit.spans and steps:
        raise InputError("advantages.tokens: spans and steps both divide a rollout's advantage; leave out one of them")


class TokenCredit:
    """Applies the settings to a batch in training; an evaluation has no token credit."""

    def __init__(
        self, trainer: Any, settings: Credit | None, rewards: Sequence[str], states: Callable[..., Any]
    ) -> None:
        self.trainer = trainer
        self.settings = settings or Credit()
        self.rewards = tuple(rewards)
        self.states = states  # `LogProbs.states`
        ratio = self.settings.log_ratio
        self.learned = [frozen_like(trainer, place) for place in (ratio.policy, ratio.reference)] if ratio else []

    def __call__(self, batch: RolloutBatch, output: Mapping[str, Any], advantages_B: Tensor) -> Tensor:
        """[B] `advantages_B` as they are, or [B, C] where something distinguishes the tokens of a rollout."""
        mask_BC, ids_BC, settings = output["completion_mask"], output["completion_ids"], self.settings
        if not self.trainer.model.training or (settings == Credit() and "importance" not in output):
            return advantages_B
        advantages_BC = advantages_B.unsqueeze(1).repeat(1, mask_BC.shape[1])
        if settings.spans is not None:
            advantages_BC = by_spans(advantages_BC, settings.spans, batch.verdicts, self._offsets(batch, output))
        if settings.steps is not None:
            advantages_BC = self._by_steps(settings.steps, batch, self._offsets(batch, output), advantages_BC)
        if settings.sibling is not None:
            advantages_BC = advantages_BC + self._sibling(settings.sibling, batch, ids_BC, mask_BC).to(advantages_BC)
        if settings.log_ratio is not None:
            advantages_BC = advantages_BC + self._log_ratio(settings.log_ratio, batch, output).to(advantages_BC)
        if settings.thr is not None:
            weights_BC = self._thr(settings.thr, batch, output)
            advantages_BC = advantages_BC * weights_BC.to(advantages_BC)
            kept = float((weights_BC[mask_BC.bool()] > 0).float().mean())
            self.trainer._metrics["train"]["thr/kept"].append(kept)
        if "importance" in output:
            advantages_BC = advantages_BC * output["importance"].to(advantages_BC)
        return advantages_BC

    def _offsets(self, batch: RolloutBatch, output: Mapping[str, Any]) -> list[Offsets]:
        """The characters of each token in the text of its rollout."""
        tokenizer, lengths = self.trainer._tokenizer, output["completion_mask"].sum(dim=1).tolist()
        ids = [row[:length].tolist() for row, length in zip(output["completion_ids"], lengths, strict=True)]
        if "tool_mask" not in output:
            return [token_offsets(one, tokenizer) for one in ids]
        own, said = output["tool_mask"].bool().tolist(), [[turn.said for turn in turns] for turns in batch.turns]
        rows = zip(ids, own, lengths, said, strict=True)
        return [turn_offsets(one, mine[:length], text, tokenizer) for one, mine, length, text in rows]

    def _by_steps(
        self, settings: StepCredit, batch: RolloutBatch, offsets: Sequence[Offsets], advantages_BC: Tensor
    ) -> Tensor:
        """[B, C]: the advantages of steps, added to `advantages_BC` if there is no outcome in them."""
        spans = [sorted(verdict[settings.reward].spans, key=lambda span: span.start) for verdict in batch.verdicts]
        rewards = [np.array([span.score for span in of_row] or [np.nan]) for of_row in spans]
        if settings.outcome is not None:
            outcome_B = batch.rewards_BK[:, self.rewards.index(settings.outcome)].tolist()
            rewards = [renormed(*row) for row in zip(rewards, outcome_B, strict=True)]
            advantages_BC = torch.zeros_like(advantages_BC)
        spread_BC, group = advantages_BC.clone(), self.trainer.num_generations
        for first in range(0, len(rewards), group):
            part = slice(first, first + group)
            for row, own_S in enumerate(step_advantages(rewards[part], to_go=settings.to_go), first):
                begins = [span.start for span in spans[row]] or [0]
                step_T = np.searchsorted(begins, [start for start, _ in offsets[row]], side="right") - 1
                own_T = torch.from_numpy(own_S[step_T.clip(min=0)])
                spread_BC[row, : len(own_T)] += settings.weight * own_T.to(spread_BC)
        return spread_BC

    def _sibling(self, settings: SiblingCredit, batch: RolloutBatch, ids_BC: Tensor, mask_BC: Tensor) -> Tensor:
        weights_K = self.trainer.reward_weights.to(batch.rewards_BK)
        total_B = mixed(batch.rewards_BK.double().cpu().numpy(), weights_K.double().cpu().numpy())
        credit_BC, group = torch.zeros(mask_BC.shape, dtype=torch.float64), self.trainer.num_generations
        for first in range(0, len(mask_BC), group):
            rows = range(first, first + group)
            tokens_G = [ids_BC[row][mask_BC[row].bool()].tolist() for row in rows]
            own_G = sibling_advantages(tokens_G, total_B[first : first + group], whole_branch=settings.whole_branch)
            for row, own_T in zip(rows, own_G, strict=True):
                credit_BC[row, : len(own_T)] = torch.from_numpy(own_T)
        return settings.weight * credit_BC

    def _log_ratio(self, settings: LogRatio, batch: RolloutBatch, output: Mapping[str, Any]) -> Tensor:
        """[B, C]: 0 behind the end of a completion."""
        mask_BC, ids_BC = output["completion_mask"], output["completion_ids"]
        input_ids = torch.cat([output["prompt_ids"], ids_BC], dim=1)
        attention_mask = torch.cat([output["prompt_mask"], mask_BC], dim=1)
        size, keep = self.trainer.args.per_device_train_batch_size, mask_BC.shape[1]
        parts = [slice(start, start + size) for start in range(0, len(ids_BC), size)]
        after, before = (
            torch.cat([log_probs_of(model, batch.rows[p], input_ids[p], attention_mask[p], keep) for p in parts])
            for model in self.learned
        )
        ratio_BC = torch.from_numpy(log_ratio(after.cpu(), before.cpu(), scale=settings.scale, clip=settings.clip))
        clipped = (ratio_BC.abs() >= settings.clip)[mask_BC.bool().cpu()]
        self.trainer._metrics["train"]["log_ratio/clipped"].append(float(clipped.float().mean()))
        return ratio_BC.to(mask_BC.device) * mask_BC

    def _thr(self, settings: HiddenReward, batch: RolloutBatch, output: Mapping[str, Any]) -> Tensor:
        mask_BC, ids_BC = output["completion_mask"], output["completion_ids"]
        temperatures_BC = output.get("temperatures")
        scores_B = batch.rewards_BK[:, self.rewards.index(settings.reward)]
        scores_B = scores_B.masked_fill(batch.injected_B, float("nan"))  # not the policy's own answer
        input_ids = torch.cat([output["prompt_ids"], ids_BC], dim=1)
        attention_mask = torch.cat([output["prompt_mask"], mask_BC], dim=1)

        def states(rows: slice) -> tuple[Tensor, Tensor]:
            temperatures = None if temperatures_BC is None else temperatures_BC[rows]
            keep = mask_BC.shape[1]
            return self.states(batch.rows[rows], input_ids[rows], attention_mask[rows], keep, temperatures)

        return thr_weights_of(settings, scores_B, ids_BC, mask_BC, self.trainer.num_generations, states)


def by_spans(
    advantages_BC: Tensor,
    settings: SpanCredit,
    verdicts: Sequence[Mapping[str, Verdict]],
    offsets: Sequence[Offsets],
) -> Tensor:
    """[B, C]: `advantages_BC`, which is the same for all tokens of a row, moved to the spans that the reward scored
    well."""
    spread_BC = advantages_BC.clone()
    for row, (verdict, offsets_T) in enumerate(zip(verdicts, offsets, strict=True)):
        if spans := verdict[settings.reward].spans:
            credit_T = span_credit(
                spans,
                offsets_T,
                float(advantages_BC[row, 0]),
                strength=settings.strength,
                scale=settings.scale,
            )
            spread_BC[row, : len(offsets_T)] = torch.from_numpy(credit_T).to(spread_BC)
    return spread_BC


def turn_offsets(ids: Sequence[int], own: Sequence[bool], said: Sequence[str], tokenizer: Any) -> Offsets:
    """`token_offsets` of a rollout with tools, whose text is what was `said` in each turn, a turn to a paragraph.
    Tokens that are not its `own`, those of results, have no characters."""
    offsets: Offsets = []
    place, turns = 0, iter(said)
    for mine, run in itertools.groupby(zip(ids, own, strict=True), key=lambda pair: pair[1]):
        tokens = [token for token, _ in run]
        if not mine:
            offsets += [(place, place)] * len(tokens)
            continue
        inside, end = token_offsets(tokens, tokenizer), place + len(next(turns))
        ahead = end - inside[-1][1]  # what the template had written of the turn comes before
        offsets += [(start + ahead, stop + ahead) for start, stop in inside]
        place = end + 1
    return offsets


def token_offsets(ids: Sequence[int], tokenizer: Any) -> Offsets:
    """The characters (start, stop) of each token in the decoded completion; special tokens have none.

    A character of several tokens belongs to the last of them. Each token is decoded together with the ones before it,
    because some tokenizers drop the space at the start of a text.
    """
    offsets, anchor, read, place = [], 0, 0, 0
    for stop in range(1, len(ids) + 1):
        before, after = (tokenizer.decode(ids[anchor:end], skip_special_tokens=True) for end in (read, stop))
        new = 0 if after.endswith("\ufffd") else len(after) - len(before)
        offsets.append((place, place + max(new, 0)))
        if new > 0:
            anchor, read, place = read, stop, place + new
    return offsets


def thr_weights_of(
    settings: HiddenReward, scores_B: Tensor, completion_ids: Tensor, mask_BC: Tensor, group: int, states: States
) -> Tensor:
    """[B, C]: the THR weight of every completion token, 1 after the end of a completion.

    `states` gives, for a slice of rows, the states before the head [b, C, D] and the log-probs [b, C, V] at the
    positions that predict the completion tokens. V is narrowed to the tokens that occur in a group, as in the paper's
    cheap form. It is called for every row, needed or not: all processes must make the same forwards.
    """
    weights_BC = torch.ones(mask_BC.shape, dtype=torch.float64)
    for first in range(0, len(mask_BC), group):
        rows = slice(first, first + group)
        correct_G = torch.where(scores_B[rows].isnan(), torch.nan, (scores_B[rows] >= settings.right).double())
        right_G = correct_G.cpu().numpy()
        valid_GC = mask_BC[rows].bool()
        tokens_N = completion_ids[rows][valid_GC]
        vocabulary, number_N = tokens_N.unique(return_inverse=True)
        hidden, likely = [], []
        for row in range(first, first + group):
            own = mask_BC[row].bool()
            hidden_1CD, logprobs_1CV = states(slice(row, row + 1))
            hidden.append(hidden_1CD[0, own].double().cpu())
            likely.append(logprobs_1CV[0, own][:, vocabulary].double().cpu())
        sequence_N = valid_GC.nonzero()[:, 0].cpu().numpy()
        residual_NV = residuals(torch.cat(likely).numpy(), number_N.cpu().numpy())
        scores_N = thr_scores(torch.cat(hidden).numpy(), residual_NV, sequence_N, right_G)
        weights_N = thr_weights(scores_N, sequence_N, right_G, p=settings.p, tau=settings.tau, beta=settings.beta)
        weights_BC[rows][valid_GC.cpu()] = torch.from_numpy(weights_N)
    return weights_BC.to(mask_BC.device)


def importance(scored_BC: Any, sampled_BC: Any, *, cap: float) -> Array:
    """[B, C]: truncated importance weights min(exp(scored - sampled), cap), as EAD (2510.05251) uses them.

    `scored_BC` are log-probs of the model that is trained, `sampled_BC` those under which the tokens were drawn, after
    temperature, top-k, top-p and min-p. Where there is none (NaN: the policy did not draw the token) the weight is 1.

    >>> importance([-1, -2, -0.5], [-1.2, -1, -3], cap=2).round(7).tolist()
    [1.2214028, 0.3678794, 2.0]
    """
    ratio_BC = np.exp(np.subtract(np.asarray(scored_BC, np.float64), np.asarray(sampled_BC, np.float64)))
    return np.where(np.isnan(ratio_BC), 1.0, np.minimum(ratio_BC, cap))
