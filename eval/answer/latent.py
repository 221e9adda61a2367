"""Answers of a frozen model behind the thought of a head: `decode: {method: latent, head: DIR}`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from data_engine.schema import Sample
from eval.answer.local import LocalGenerator
from eval.generation import Draw, Generation
from mmrl.model.encoding import Encoded
from mmrl.model.latent import LatentHead, thinking, with_room
from mmrl.model.sampling import row_generator


class LatentGenerator:
    """Answers draws greedily: behind the mean of the thoughts, or, where the sampling draws, behind a drawn one."""

    def __init__(self, generator: LocalGenerator, head: LatentHead) -> None:
        self._generator, self._head = generator, head.to(generator.model.device)

    @torch.no_grad()
    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw."""
        generator, sampling = self._generator, self._generator.sampling
        rows = [generator.encoded(draw.sample) for draw in draws]
        latent_RD, log_deviation_RD = self._head.distribution(generator.last_states(rows).float())
        if sampling.do_sample:
            keys = [("thought", sampling.seed, draw.sample.id, draw.number) for draw in draws]
            latent_RD = latent_RD + log_deviation_RD.exp() * noise(self._head, keys)
        answers = answers_behind(generator, rows, self._head, latent_RD)
        shown = [generator.seen_size(draw.sample, row) for draw, row in zip(draws, rows, strict=True)]
        parts = zip(answers, shown, rows, strict=True)
        return [generator.answer(ids, seen, {}, opened=row.opened) for ids, seen, row in parts]

    def cost(self, sample: Sample) -> int:
        """The cost for the plain generator."""
        return self._generator.cost(sample)


def noise(head: LatentHead, keys: Sequence[Sequence[int | str]]) -> Tensor:
    """[R, D] standard normal numbers that depend on the key of a row alone."""
    drawn = [torch.from_numpy(row_generator(*key).standard_normal(head.config.size)) for key in keys]
    return torch.stack(drawn).float().to(head.device)


@torch.no_grad()
def answers_behind(
    generator: LocalGenerator, rows: Sequence[Encoded], head: LatentHead, latent_RD: Tensor
) -> list[list[int]]:
    """The greedy answer to each prompt behind its thought, a stop token included."""
    longer, starts = zip(*(with_room(row, head.config, generator.stops[0]) for row in rows), strict=True)
    keys = [("greedy", r) for r in range(len(rows))]
    with thinking(generator.model, head.vectors(latent_RD), starts):
        return generator.continued(longer, generator.sampling.max_new_tokens, temperature=0.0, keys=keys)
