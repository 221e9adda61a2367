"""Latent reasoning: a small head reads a question from a frozen model, and draws vectors that stand at the beginning
of its prompt.

Shapes: P prompts, G vectors of thought for each, T steps of a thought, E the size of an embedding, H that of a state of
the model, A the axes in which questions and thoughts are compared, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from mmrl.core.config import InputError
from mmrl.model.encoding import Encoded

AXES = 128
PLACE = 1  # of a thought in its prompt
NARROWEST, WIDEST = -5.0, 2.0  # the bounds of a log-deviation


class LatentConfig(PretrainedConfig):
    """`backbone` is the fingerprint of the frozen model, `hidden` the size of its states, `embedding` that of its
    embeddings and `scale` their root mean square; `steps` vectors make a thought, the head's layer is `width` wide, and
    thoughts begin with the `deviation`, in units of the scale."""

    model_type = "mmrl_latent"

    def __init__(
        self,
        backbone: str = "",
        hidden: int = 0,
        embedding: int = 0,
        scale: float = 1.0,
        steps: int = 4,
        width: int = 512,
        deviation: float = 1.0,
        **others: Any,
    ) -> None:
        self.backbone, self.hidden, self.embedding, self.scale = backbone, hidden, embedding, scale
        self.steps, self.width, self.deviation = steps, width, deviation
        super().__init__(**others)


class Thoughts(NamedTuple):
    """What a head makes of questions and noise: the thoughts [P, G, T, E], their log-density [P, G], the questions
    [P, A] and the thoughts [P, G, A] as they are compared, and the reward [P, G] that a linear layer predicts of each.

    The density and the prediction are of the thoughts as they are; through the others a gradient reaches the mean and
    the deviation.
    """

    latent_PGTE: Tensor
    log_density_PG: Tensor
    asked_PA: Tensor
    meant_PGA: Tensor
    predicted_PG: Tensor


class LatentHead(PreTrainedModel):
    """z ~ N(mean(q), diag(deviation(q)^2)) for the state q of a question, as vectors in units of the embeddings."""

    config_class = LatentConfig

    def __init__(self, config: LatentConfig) -> None:
        super().__init__(config)
        size = config.steps * config.embedding
        self.read = nn.Sequential(nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.width), nn.Tanh())
        self.said = nn.Linear(config.width, 2 * size)
        self.asked, self.meant = nn.Linear(config.width, AXES), nn.Linear(size, AXES)
        self.predicted = nn.Linear(size, 1)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """At first every question has the mean 0 and the same deviation."""
        super()._init_weights(module)
        if module is self.said:
            self.said.weight.zero_()
            self.said.bias.zero_()
            self.said.bias[len(self.said.bias) // 2 :] = math.log(self.config.deviation)

    def distribution(self, states_PH: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log-deviation), each [P, T, E]."""
        shape = (len(states_PH), 2, self.config.steps, self.config.embedding)
        mean_PTE, log_deviation_PTE = self.said(self.read(states_PH)).view(shape).unbind(dim=1)
        return mean_PTE, log_deviation_PTE.clamp(NARROWEST, WIDEST)

    def forward(self, states_PH: Tensor, noise_PGTE: Tensor) -> Thoughts:
        """The thoughts mean + deviation * noise."""
        mean_PTE, log_deviation_PTE = self.distribution(states_PH)
        latent = mean_PTE[:, None] + log_deviation_PTE.exp()[:, None] * noise_PGTE
        drawn = latent.detach()
        return Thoughts(
            latent,
            log_density(drawn, mean_PTE[:, None], log_deviation_PTE[:, None]),
            self.asked(self.read(states_PH)),
            self.meant(latent.flatten(-2)),
            self.predicted(drawn.flatten(-2)).squeeze(-1),
        )


def log_density(latent: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """The log-density of Gaussian vectors [..., T, E], summed over T and E: [...].

    >>> at = log_density(torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([[0.0]]))
    >>> round(float(at), 5)
    -1.41894
    """
    off = (latent - mean) * (-log_deviation).exp()
    return (-0.5 * off.square() - log_deviation - 0.5 * math.log(2 * math.pi)).sum(dim=(-2, -1))


def new_head(model: Any, backbone: str, *, steps: int, width: int, deviation: float) -> LatentHead:
    """A head for a model of that fingerprint, which is not changed."""
    embeddings = model.get_input_embeddings()
    ids = torch.arange(embeddings.num_embeddings, device=model.device)
    with torch.no_grad():
        scale = float(embeddings(ids).float().square().mean().sqrt())
    config = LatentConfig(
        backbone=backbone,
        hidden=model.config.get_text_config().hidden_size,
        embedding=embeddings(ids[:1]).shape[-1],
        scale=scale,
        steps=steps,
        width=width,
        deviation=deviation,
    )
    return LatentHead(config)


def load_head(path: str | Path, backbone: str) -> LatentHead:
    """The head in `path`; InputError if there is none, or if it was trained before another model than that of the
    fingerprint `backbone`."""
    place = Path(path)
    if not (place / "config.json").is_file():
        raise InputError(f"no head at {path}: expected the directory `final` that the stage latent of mmrl train wrote")
    config, _ = PretrainedConfig.get_config_dict(place)
    if config.get("model_type") != LatentConfig.model_type:
        raise InputError(f"{path} holds a {config.get('model_type')}, not a head of the stage latent")
    if config["backbone"] != backbone:
        raise InputError(f"the head in {path} was trained before another model; give the model that it was trained for")
    return LatentHead.from_pretrained(place).eval()


def with_room(row: Encoded, steps: int, token: int) -> Encoded:
    """A prompt with room for a thought behind its first token, on which many models rest their attention."""
    tensors = dict(row.tensors)
    for name in row.along:
        first, rest = tensors[name][:, :PLACE], tensors[name][:, PLACE:]
        tensors[name] = torch.cat([first, first.new_zeros(1, steps, *first.shape[2:]), rest], dim=1)
    ids = [*row.input_ids[:PLACE], *[token] * steps, *row.input_ids[PLACE:]]
    return replace(row, input_ids=ids, tensors=tensors)


@contextmanager
def thinking(model: Any, latent_RTE: Tensor, lengths: Sequence[int]) -> Iterator[None]:
    """Within, what `model` embeds first are R rows of these lengths, padded on their left, that have room for a thought
    (`with_room`): there the T vectors of its thought stand. What the model embeds afterwards is read as ever."""
    pending = [latent_RTE]

    def replaced(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        if embedded.dim() != 3 or not pending:
            return embedded
        latent_RTE, embedded = pending.pop().to(embedded), embedded.clone()
        for row, thought_TE, length in zip(embedded, latent_RTE, lengths, strict=True):
            start = len(row) - length + PLACE
            row[start : start + len(thought_TE)] = thought_TE
        return embedded

    hook = model.get_input_embeddings().register_forward_hook(replaced)
    try:
        yield
    finally:
        hook.remove()
