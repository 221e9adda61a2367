"""A tree over blocks of tokens (DTS and DTS*, 2506.20701): more answers make the estimates of its nodes better."""

from __future__ import annotations

import numpy as np

from eval.decode.config import BlockTree
from eval.decode.policy import Ids, Policy
from eval.decode.side_by_side import Steps
from mmrl.model.flow.tree_search import ValueTree


def block_tree(policy: Policy, spec: BlockTree) -> Steps[Ids]:
    """An answer drawn from the tree by the values of its nodes, or with `best` the one of largest reward.

    The paper's nodes are states on the way to a picture; here they are beginnings of answers, a block apart.
    """
    rng = np.random.default_rng(int(policy.uniform("tree") * 2**32))
    options = {"sharpness": spec.sharpness, "search": spec.best, "explore": spec.explore}
    tree = ValueTree([], lambda node: policy.ended(node.state), rng=rng, **options)
    for _ in range(spec.answers):
        path = tree.path()
        begun: Ids = path[-1].state
        if not policy.ended(begun):
            [rest] = yield from policy.continued([begun], policy.limit - len(begun), spec.temperature)
            for stop in range(spec.block, len(rest) + spec.block, spec.block):
                path.append(tree.child(path[-1], begun + rest[:stop]))
            [score] = yield from policy.rewards([begun + rest])
            assert score is not None  # the guide refuses that
            path[-1].value = score
        tree.passed_up(path)
    found = tree.best if spec.best else tree.drawn()
    assert found is not None  # an answer at least has ended
    return found.state
