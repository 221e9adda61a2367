"""Flow-GRPO learns from the share of the steps that it is asked to."""

from __future__ import annotations

import pytest
import torch

from mmrl.flow.algorithms.base import Drawn
from mmrl.flow.algorithms.dense_grpo import DenseGrpo
from mmrl.flow.algorithms.flow_grpo import FlowGrpo
from mmrl.flow.networks import Networks
from mmrl.flow.policy_gradient import clipped_loss
from mmrl.model.flow.process import noise_scale, step_kl
from mmrl.model.flow.sampling import replayed, sampled
from mmrl.model.flow.stable_diffusion_3 import StableDiffusion3Policy
from mmrl.model.tiny_editors import tiny_stable_diffusion_3


@pytest.mark.parametrize(("share", "count"), [(0.1, 1), (0.6, 1), (0.99, 2), (1.0, 3)])
def test_the_loss_is_that_of_the_first_steps(share: float, count: int) -> None:
    policy = StableDiffusion3Policy(tiny_stable_diffusion_3(["a red square"]), guidance=1)
    networks = Networks(policy.transformer, ["anchor"])
    condition = policy.condition(["a red square"], None, (8, 8)).repeated(2)
    draws = torch.Generator().manual_seed(0)
    path = sampled(policy, condition, policy.noise(condition, draws), policy.times(3, condition), generator=draws)
    for weight in policy.transformer.parameters():
        weight.data += 1e-3 * torch.randn(weight.shape, generator=draws)
    drawn = Drawn(condition, path, [(0,), (1,)], group=2)
    advantage_TN = torch.tensor([[1.0, -1.0], [0.5, -0.5], [2.0, -2.0]])
    now = replayed(policy, condition, path, range(3))
    with torch.no_grad():
        first = replayed(policy.using(networks.copies["anchor"]), condition, path, range(3))
    for algorithm, rows in ((FlowGrpo, [0, 0, 0]), (DenseGrpo, [0, 1, 2])):
        given = advantage_TN[:1] if algorithm is FlowGrpo else advantage_TN
        loss, logs = algorithm(share=share, clip=0.5).loss(policy, networks, drawn, given)
        parts, gaps = [], []
        for place in range(count):
            step = now[place]
            parts.append(clipped_loss(step.log_density_N, path.drawn_TN[place], advantage_TN[rows[place]], clip=0.5))
            scale = noise_scale(path.times[place], path.times[place + 1], 0.7)
            gaps.append(step_kl(step.mean, first[place].mean, scale).mean())
        kl = torch.stack(gaps).mean()
        assert logs["kl"] == pytest.approx(kl.item(), rel=1e-4)
        assert loss.item() == pytest.approx((torch.stack(parts).mean() + 0.04 * kl).item(), rel=1e-4, abs=1e-7)
