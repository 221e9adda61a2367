"""Advantages per token [P, G, T]: what in a rollout earned its reward. Pure functions of numpy arrays.

THR (2510.03669) weighs tokens by their effect on the likelihood of the right answers; spans move credit to the parts
of a completion that scored better than the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from mmrl.core.config import InputError

Array = np.ndarray
Offsets = Sequence[tuple[int, int]]


class Scored(Protocol):
    """Characters `start` up to `stop` of a completion and their score, such as `rewards.base.Span`."""

    @property
    def start(self) -> int:
        """The first character."""
        ...

    @property
    def stop(self) -> int:
        """The character behind the last one."""
        ...

    @property
    def score(self) -> float:
        """What these characters earned."""
        ...


def residuals(logprobs_NV: Array, tokens_N: Array) -> Array:
    """[N, V]: one-hot of each token less the probabilities at its place.

    V may be the tokens that occur in the group alone (with `tokens_N` numbered among them): then do not renormalise.
    """
    rows_NV = -np.exp(np.asarray(logprobs_NV, dtype=np.float64))
    rows_NV[np.arange(len(rows_NV)), tokens_N] += 1
    return rows_NV


def thr_scores(hidden_ND: Array, residual_NV: Array, sequence_N: Array, correct_G: Array) -> Array:
    """[N]: the Token Hidden Reward of all completion tokens of one group (formula after a summary of the paper).

        THR[j,k] = (2 r_j - 1) sum_{i correct} 1/|y_i| sum_l <e_l - pi_l, e_k - pi_k> <h_l, h_k>

    `hidden_ND` are the states before the head, `sequence_N` says whose token each is, `correct_G` is 1, 0 or NaN
    (not known: no anchor, score 0). Computed through one [V, D] matrix, not through all pairs of tokens.
    """
    hidden_ND, residual_NV = np.asarray(hidden_ND, np.float64), np.asarray(residual_NV, np.float64)
    sequence_N, correct_G = np.asarray(sequence_N), _judged(correct_G)
    if not len(hidden_ND) == len(residual_NV) == len(sequence_N):
        raise ValueError(f"{len(hidden_ND)} hidden states, {len(residual_NV)} residuals, {len(sequence_N)} tokens")
    anchors_VD = np.zeros((residual_NV.shape[1], hidden_ND.shape[1]))
    for right in np.flatnonzero(correct_G == 1):
        own = sequence_N == right
        anchors_VD += residual_NV[own].T @ hidden_ND[own] / max(own.sum(), 1)
    sign_N = np.nan_to_num(2 * correct_G - 1)[sequence_N]
    return sign_N * ((residual_NV @ anchors_VD) * hidden_ND).sum(axis=1)


def thr_weights(
    scores_N: Array,
    sequence_N: Array,
    correct_G: Array,
    *,
    p: float = 0.1,
    tau: float | None = None,
    beta: float = 1.0,
) -> Array:
    """[N]: 1 + sign(THR) p where |THR| > tau, else 0. p > 0 exploits, p < 0 explores.

    Without `tau` it is beta times the least, over right answers, of the mean of their positive scores. All weigh 1
    in a group without a right or without a wrong answer, and in an answer of which neither is known.
    """
    if not -1 <= p <= 1:
        raise InputError(f"p={p!r}; must be in [-1, 1]")
    for name, value in (("tau", tau), ("beta", beta)):
        if value is not None and not 0 <= value < np.inf:
            raise InputError(f"{name}={value!r}; must be a finite number from 0")
    scores_N, sequence_N, correct_G = np.asarray(scores_N, np.float64), np.asarray(sequence_N), _judged(correct_G)
    if not ((correct_G == 1).any() and (correct_G == 0).any()):
        return np.ones_like(scores_N)
    if tau is None:
        own = [scores_N[(sequence_N == right) & (scores_N > 0)] for right in np.flatnonzero(correct_G == 1)]
        tau = beta * min((float(positive.mean()) for positive in own if len(positive)), default=0.0)
    weights_N = np.where(np.abs(scores_N) > tau, 1 + np.sign(scores_N) * p, 0.0)
    return np.where(np.isnan(correct_G)[sequence_N], 1.0, weights_N)


def weighted(advantages_PG: Array, weights_PGT: Array) -> Array:
    """[P, G, T]: each rollout's advantage times the weights of its tokens."""
    advantages_PG, weights_PGT = np.asarray(advantages_PG, np.float64), np.asarray(weights_PGT, np.float64)
    if weights_PGT.shape[:2] != advantages_PG.shape:
        raise ValueError(f"weights {weights_PGT.shape} for advantages {advantages_PG.shape}")
    return advantages_PG[..., None] * weights_PGT


def span_credit(
    spans: Iterable[Scored],
    offsets: Offsets,
    advantage: float,
    *,
    strength: float = 1.0,
    scale: Literal["advantage", "one"] = "advantage",
) -> Array:
    """[T]: the advantage of one rollout, moved to the tokens whose spans scored above the others, its mean kept.

        A_t = A + strength c (s_t - mean s);   c = |A|, or 1 with scale="one"

    s_t is the mean score of the characters that token t shares with spans; a token without any keeps A. With
    "advantage" a rollout of advantage 0 stays 0, and with scores in [0, 1] and a strength up to 1 no token changes
    sign; "one" also teaches where whole groups tie. `offsets` are the characters (start, stop) of each token in the
    completion.

    How scores of phases become credit is inferred: the paper (PSRD, 2604.17982) corrects while decoding.
    """
    if not 0 <= strength < np.inf:
        raise InputError(f"strength={strength!r}; must be a finite number from 0")
    if scale not in ("advantage", "one"):
        raise InputError(f"scale={scale!r}; known: advantage, one")
    if not np.isfinite(advantage):
        raise ValueError(f"advantage {advantage!r}; must be a finite number")
    offsets_T2 = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    shared_T, total_T = np.zeros(len(offsets_T2)), np.zeros(len(offsets_T2))
    for span in spans:
        if not np.isfinite(span.score):
            raise ValueError(f"the span from {span.start} to {span.stop} scores {span.score!r}; must be finite")
        common_T = np.minimum(offsets_T2[:, 1], span.stop) - np.maximum(offsets_T2[:, 0], span.start)
        shared_T += common_T.clip(min=0)
        total_T += common_T.clip(min=0) * span.score
    covered_T = shared_T > 0
    credit_T = np.full(len(offsets_T2), float(advantage))
    if covered_T.any():
        score_T = total_T[covered_T] / shared_T[covered_T]
        credit_T[covered_T] += strength * (abs(advantage) if scale == "advantage" else 1.0) * (score_T - score_T.mean())
    return credit_T


def span_credits(
    advantages_PG: Array,
    spans_PG: Sequence[Sequence[Iterable[Scored]]],
    offsets_PG: Sequence[Sequence[Offsets]],
    *,
    strength: float = 1.0,
    scale: Literal["advantage", "one"] = "advantage",
) -> Array:
    """[P, G, T]: `span_credit` of every rollout, with 0 behind its last token."""
    longest = max((len(offsets) for group in offsets_PG for offsets in group), default=0)
    credit_PGT = np.zeros((*np.shape(advantages_PG), longest))
    for p, (spans_G, offsets_G) in enumerate(zip(spans_PG, offsets_PG, strict=True)):
        for g, (spans, offsets) in enumerate(zip(spans_G, offsets_G, strict=True)):
            advantage = float(advantages_PG[p][g])
            credit_PGT[p, g, : len(offsets)] = span_credit(spans, offsets, advantage, strength=strength, scale=scale)
    return credit_PGT


def _judged(correct_G: Array) -> Array:
    correct_G = np.asarray(correct_G, dtype=np.float64)
    wrong = correct_G[~np.isnan(correct_G) & (correct_G != 0) & (correct_G != 1)]
    if len(wrong):
        raise ValueError(f"correct_G holds {wrong[0]:g}; must be 1 (right), 0 (wrong) or NaN (not known)")
    return correct_G


def log_ratio(after_BC: Any, before_BC: Any, *, scale: float = 0.05, clip: float = 0.05) -> Array:
    """[B, C]: clip(scale (log pi_dpo - log pi_ref), +-clip), RTO's reward of tokens (2404.18922 and its code).

    >>> log_ratio([-1.0, -0.5, -2.0], [-1.2, -1.5, -1.0]).round(7).tolist()
    [0.01, 0.05, -0.05]
    """
    gap_BC = np.subtract(np.asarray(after_BC, np.float64), np.asarray(before_BC, np.float64))
    return np.clip(scale * gap_BC, -clip, clip)
