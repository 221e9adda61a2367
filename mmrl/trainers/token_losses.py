"""Losses of single tokens: T-REG's regulariser of DPO, and the reward-shaped cross-entropy of SFT; and which of TRL's
losses of pairs go together.

Shapes: B rows, of pairs all preferred answers and then all others; T tokens; N tokens of answers; V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from mmrl.core.config import Config, InputError, nearest

Finite = Annotated[float, Field(allow_inf_nan=False)]
IGNORED = -100  # the label of what is not learned
SURE = 1e-6  # a token that is surer than this weighs no more: for beta < 0 its weight would be infinite


# Of TRL, which looks at their names in the first step.
LOSSES_OF_F = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft")  # any divergence
LOSSES = (*LOSSES_OF_F, "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down")
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
SMOOTHED = "exo_pair"  # divides by the smoothing of labels
SORTING = {"aot", "aot_unpaired"}  # pairs lose their weights


def check_losses(args: Any) -> None:
    """Refuse losses of a DPOConfig that TRL does not know, or cannot combine, once it trains."""
    for name in args.loss_type:
        if name not in LOSSES:
            raise InputError(f"dpo.loss_type: unknown loss {name!r}; {nearest(name, LOSSES)}")
    if args.f_divergence_type not in DIVERGENCES:
        known = nearest(args.f_divergence_type, DIVERGENCES)
        raise InputError(f"dpo.f_divergence_type: unknown divergence {args.f_divergence_type!r}; {known}")
    others, smoothing = sorted({*args.loss_type} - {*LOSSES_OF_F}), args.label_smoothing
    for what, fits, wanted in (
        (f"loss_type={args.loss_type}", args.loss_type, "it must name a loss"),
        (f"beta={args.beta:g}", args.beta > 0, "it must be above 0, or nothing is preferred"),
        (f"label_smoothing={smoothing:g}", 0 <= smoothing < 0.5, "it must be at least 0 and below 0.5"),
        (f"label_smoothing={smoothing:g}", smoothing or SMOOTHED not in args.loss_type, "exo_pair wants 0.001"),
        (f"ld_alpha={args.ld_alpha}", args.ld_alpha is None or 0 <= args.ld_alpha <= 1, "it must be in [0, 1]"),
        (
            f"f_divergence_type={args.f_divergence_type}",
            args.f_divergence_type == "reverse_kl" or not others,
            f"the loss {', '.join(others)} has none; use reverse_kl",
        ),
        (
            "use_weighting=true",
            not args.use_weighting or not SORTING.intersection(args.loss_type),
            "aot sorts pairs, which would lose their weights",
        ),
    ):
        if not fits:
            raise InputError(f"dpo.{what}; {wanted}")


class TokenReward(Config):
    """T-REG (2412.02685): DPO learns more from some tokens than from others, by a reward that the model gives them.

    The rewards of tokens: how much likelier each is under the system message `better` than under `worse`.
    `weight` is that of the regulariser in the loss (the paper: 0.1, 0.25 or 0.5).
    """

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.25
    better: str = "Give an answer that is helpful, correct, coherent and concise."
    worse: str = "Give an answer that is unhelpful, wrong, incoherent and wordy."

    @model_validator(mode="after")
    def _two_messages(self) -> Self:
        if self.better == self.worse:
            raise ValueError(
                f"better and worse are the same message, {self.better!r:.80}: no token would have a reward"
            )
        return self


def token_rewards(better_BT: Tensor, worse_BT: Tensor) -> Tensor:
    """Rewards in [-0.5, 0.5] from log-probs under the two messages.

    >>> found = token_rewards(torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-1.5, -1.0, -0.5]))
    >>> [round(reward, 6) for reward in found.tolist()]
    [0.122459, -0.231059, 0.0]
    """
    return torch.sigmoid(better_BT - worse_BT) - 0.5


def regulariser(log_probs_BT: Tensor, rewards_BT: Tensor, reference_B: Tensor, beta: float) -> Tensor:
    """The mean over pairs of w (L(preferred) + L(other)), with L = -sum_t beta reward_t log pi_t.

    w = sigmoid(r(other) - r(preferred)) is large where the policy is wrong yet, r = beta log(pi / reference). It is
    not learned through.

    >>> reward = token_rewards(torch.tensor([[-1.0, -2.0, -0.5]] * 2), torch.tensor([[-1.5, -1.0, -0.5]] * 2))
    >>> own = torch.tensor([[-1.2, -1.5, -0.7]] * 2)
    >>> round(regulariser(own, reward, own.sum(1) - torch.tensor([3.0, 5.0]), 0.1).item() / 2 / 0.5498340, 7)
    -0.0199637
    """
    with torch.no_grad():
        preferred_P, other_P = (beta * (log_probs_BT.sum(dim=1) - reference_B)).chunk(2)
        weights_P = torch.sigmoid(other_P - preferred_P)
    better_P, worse_P = (-beta * (rewards_BT * log_probs_BT).sum(dim=1)).chunk(2)
    return (weights_P * (better_P + worse_P)).mean()


class Kept:
    """A model that keeps the log-probs of its last forward, which TRL does not pass on."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.log_probs = torch.empty(0)

    def __call__(self, **inputs: Any) -> Any:
        """The model's output."""
        output = self.model(**inputs)
        self.log_probs = output.log_probs
        return output


class Shaping(Config):
    """Reward-shaped cross-entropy (2512.22955, the formula after its abstract): how sure a model is to be before RL.

    The right token x weighs (1 - p(x))^`beta`: below 0 makes a model surer of what it knows, above 0 less sure. Another
    token earns `top` if it is among the `k` likeliest, and `tail` otherwise. With zeros it is the plain cross-entropy.
    """

    beta: Finite = -0.25
    top: Finite = 0.0
    tail: Finite = 0.0
    k: PositiveInt = 20


def shaped_cross_entropy(logits_NV: Tensor, targets_N: Tensor, shaping: Shaping) -> Tensor:
    """[N]: -(1 - p(x))^beta log p(x) - sum of p(a) r(a) log p(a) over the other tokens a; weights are not learned.

    >>> logits = torch.tensor([[0.60, 0.25, 0.10, 0.05]]).log()
    >>> round(shaped_cross_entropy(logits, torch.tensor([0]), Shaping(beta=0.5)).item(), 5)
    0.32307
    """
    logs_NV = logits_NV.float().log_softmax(dim=-1)
    own_N = logs_NV.gather(1, targets_N[:, None])[:, 0]
    weights_N = (1 - own_N.detach().exp()).clamp(min=SURE) ** shaping.beta
    loss_N = -weights_N * own_N
    if shaping.top or shaping.tail:
        rewards_NV = torch.full_like(logs_NV, shaping.tail)
        rewards_NV.scatter_(1, logs_NV.topk(min(shaping.k, logs_NV.shape[1]), dim=1).indices, shaping.top)
        rewards_NV.scatter_(1, targets_N[:, None], 0.0)
        loss_N = loss_N - (logs_NV.detach().exp() * rewards_NV * logs_NV).sum(dim=1)
    return loss_N


@dataclass(frozen=True)
class ShapedLoss:
    """`shaped_cross_entropy` of the answers of a batch, as transformers' `compute_loss_func`."""

    shaping: Shaping

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """The mean over the tokens that are learned, of all accumulated batches if their number is given."""
        learned_BT = labels[:, 1:] != IGNORED
        loss_N = shaped_cross_entropy(outputs.logits[:, :-1][learned_BT], labels[:, 1:][learned_BT], self.shaping)
        count = len(loss_N) if num_items_in_batch is None else num_items_in_batch
        return loss_N.sum() / torch.as_tensor(count).clamp(min=1)
