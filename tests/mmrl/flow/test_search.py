"""Search at inference: the noise of a generator, and trees over the steps of a sampler."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from mmrl.model.flow.noise_search import norm_penalty, optimised
from mmrl.model.flow.tree_search import Node, Tree, soft_value, upper_bounds


def test_the_norm_of_a_noise_is_held_near_that_of_a_gaussian() -> None:
    noise = torch.ones(4, requires_grad=True)
    penalty = norm_penalty(noise)
    penalty.backward()
    assert penalty.item() == pytest.approx(-0.0794415, abs=1e-6)
    assert noise.grad is not None
    assert noise.grad.tolist() == pytest.approx([0.25] * 4)
    assert norm_penalty(torch.full((4,), 3**0.5 / 2)).item() == pytest.approx(-0.1479184, abs=1e-6)
    assert norm_penalty(torch.full((4,), 2.0)).item() == pytest.approx(3.8411169, abs=1e-6)
    assert math.isfinite(norm_penalty(torch.ones(100_000, dtype=torch.float16)).item())


def test_an_optimised_noise_returns_the_best_picture_on_the_way() -> None:
    noise = torch.randn(8, generator=torch.Generator().manual_seed(0))
    goal = torch.linspace(-1, 1, 8)
    picture, kept, loss = optimised(torch.tanh, lambda made: (made - goal).square().mean(), noise)
    assert loss < (torch.tanh(noise) - goal).square().mean() / 2
    assert torch.equal(picture, torch.tanh(kept))


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(ValueError, match="loss of the noise is nan"):
        optimised(torch.tanh, lambda made: made.sum() * float("nan"), torch.ones(3))


def test_bounds_of_the_search_grow_for_rarely_visited_children() -> None:
    assert upper_bounds([0, 1, 2], [3, 2, 1], 1) == pytest.approx([0.7728216, 1.9465092, 3.3385662])


def test_values_of_two_levels_are_soft_means_of_soft_means() -> None:
    tops = [soft_value([0, 2], 1), soft_value([1], 1)]
    assert soft_value(tops, 1) == pytest.approx(1.2402290)


def walk(search: bool, seed: int, grown: int = 400) -> Tree:
    """A walk of three coin tosses whose reward is the share of heads."""
    rng = np.random.default_rng(seed)
    coins = np.random.default_rng(seed + 100)
    tree = Tree(
        (), 3, lambda state, _: (*state, int(coins.integers(2))), lambda state: sum(state) / 3,
        rng=rng, sharpness=4.0, search=search,
    )  # fmt: skip
    for _ in range(grown):
        tree.grow()
    return tree


def test_a_search_finds_the_best_and_counts_the_moves() -> None:
    tree = walk(search=True, seed=0, grown=40)
    assert tree.best is not None
    assert tree.best.state == (1, 1, 1)
    assert tree.moves <= 3 * 40
    assert tree.root.visits == 40


def test_every_state_of_a_path_is_a_node_with_the_soft_value_of_its_children() -> None:
    tree, nodes = walk(search=False, seed=1), list[Node]()
    queue = [tree.root]
    while queue:
        nodes.append(queue.pop())
        queue.extend(nodes[-1].children)
    inner = [node for node in nodes if node.children]
    assert all(node.value == pytest.approx(soft_value([c.value for c in node.children], 4.0)) for node in inner)
    assert {node.depth for node in nodes} == {0, 1, 2, 3}


def test_drawn_leaves_are_tilted_by_their_reward() -> None:
    tree = walk(search=False, seed=2)
    counts = Counter(sum(tree.drawn().state) for _ in range(2000))
    weights = [math.comb(3, heads) * math.exp(4 * heads / 3) for heads in range(4)]
    for heads in range(4):
        assert counts[heads] / 2000 == pytest.approx(weights[heads] / sum(weights), abs=0.12)
