"""The `decode:` block of an evaluation: rewards guide decoding; the weights of the model stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_engine.schema import Sample
from eval.answer.local import LocalGenerator
from eval.decode.choosing import best_of_n, self_consistency
from eval.decode.config import BestOfN, BlockTree, LookaheadSearch, MonteCarlo, PhaseWise, SelfConsistency
from eval.decode.particles import smc
from eval.decode.policy import ModelPolicy, guide_of
from eval.decode.search import deal, psrd
from eval.decode.side_by_side import Steps, decoded
from eval.decode.tree import block_tree
from eval.generation import Draw, Generation
from eval.pass_at_k import best_of_n_kl_bound
from mmrl.core.vision import CoordinateSpace

METHODS = {
    BestOfN: best_of_n,
    SelfConsistency: self_consistency,
    PhaseWise: psrd,
    LookaheadSearch: deal,
    MonteCarlo: smc,
    BlockTree: block_tree,
}


class GuidedGenerator:
    """Answers draws by the method of `spec`, side by side. The cost of each answer is in its Generation.

    Up to `size` rows go into one forward, for any number of draws and of candidates of each draw.
    """

    def __init__(self, generator: LocalGenerator, spec: Any, space: CoordinateSpace, *, size: int = 16) -> None:
        self._generator, self._spec, self._size = generator, spec, size
        self._guide = guide_of(generator, spec, space)

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw."""
        return decoded([self._answered(draw) for draw in draws], self._generator, self._size)

    def cost(self, sample: Sample) -> int:
        """The cost for the plain generator."""
        return self._generator.cost(sample)

    def _answered(self, draw: Draw) -> Steps[Generation]:
        policy = ModelPolicy(self._generator, draw, self._guide)
        ids = yield from METHODS[type(self._spec)](policy, self._spec)
        if isinstance(self._spec, BestOfN) and self._spec.soft is None:
            policy.spent["kl_bound"] = best_of_n_kl_bound(self._spec.n)
        return self._generator.answer(ids, policy.seen_size, dict(policy.spent), opened=policy.opened)
