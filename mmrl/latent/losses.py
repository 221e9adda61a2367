"""The losses of latent reasoning. The paper has no equations and no code; these follow its words (INFERRED).

Shapes: P prompts, G thoughts of each, A the axes in which both are compared, D the numbers of a thought.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def policy_loss(log_density_PG: Tensor, advantage_PG: Tensor) -> Tensor:
    """- mean(A log pi(z | q)): a thought with an advantage becomes likelier.

    >>> float(policy_loss(torch.tensor([[-1.0, -2.0]]), torch.tensor([[1.0, -1.0]])))
    -0.5
    """
    return -(advantage_PG * log_density_PG).mean()


def contrastive_loss(asked_PA: Tensor, meant_PGA: Tensor, good_PG: Tensor, temperature: float) -> Tensor:
    """Half the InfoNCE from questions to their good thoughts, and half that from good thoughts to their questions, by
    the cosine over `temperature`.

    A question whose thoughts are all good, or none of them, tells nothing and is left out; without others it is 0.
    """
    good_PG = good_PG & ~good_PG.all(dim=1, keepdim=True)
    telling_P = good_PG.any(dim=1)
    if not telling_P.any():
        return (asked_PA.sum() + meant_PGA.sum()) * 0
    cosine = torch.einsum("qa,pga->qpg", normalize(asked_PA, dim=-1), normalize(meant_PGA, dim=-1)) / temperature
    own_PG = cosine.diagonal(dim1=0, dim2=1).T  # [P, G] of [P, P, G]
    of_question_P = own_PG.masked_fill(~good_PG, -torch.inf).logsumexp(dim=1) - cosine.flatten(1).logsumexp(dim=1)
    of_thought_PG = own_PG - cosine.logsumexp(dim=0)
    return -0.5 * (of_question_P[telling_P].mean() + of_thought_PG[good_PG].mean())


def spread(latent_PGD: Tensor, good_PG: Tensor, cap: float) -> Tensor:
    """The mean distance (root mean square over D) between good thoughts of a question, each at most `cap`; 0 where no
    question has two.

    >>> float(spread(torch.tensor([[[0.0], [1.0], [9.0]]]), torch.tensor([[True, True, True]]), cap=2.0))
    1.6666666269302368
    """
    first, second = torch.triu_indices(good_PG.shape[1], good_PG.shape[1], offset=1, device=good_PG.device)
    apart = (latent_PGD[:, first] - latent_PGD[:, second]).square().mean(dim=-1).clamp(min=1e-12).sqrt()
    both = good_PG[:, first] & good_PG[:, second]
    return apart.clamp(max=cap)[both].mean() if both.any() else latent_PGD.sum() * 0


def prediction_loss(predicted_PG: Tensor, reward_PG: Tensor) -> Tensor:
    """The squared error of predicted rewards, both less the mean of their group; a reward that is NaN is left out."""
    known_PG = reward_PG.isfinite()
    error_PG = _centred(predicted_PG, known_PG) - _centred(reward_PG.nan_to_num(), known_PG)
    return (error_PG.square() * known_PG).sum() / known_PG.sum().clamp(min=1)


def _centred(values_PG: Tensor, known_PG: Tensor) -> Tensor:
    mean_P1 = (values_PG * known_PG).sum(dim=1, keepdim=True) / known_PG.sum(dim=1, keepdim=True).clamp(min=1)
    return values_PG - mean_P1
