"""Latent reasoning: a small head reads a question from a frozen model, and draws a thought, which stands as vectors in
its prompt.

Shapes: P prompts, G thoughts of each, D numbers of a thought, T vectors that it stands for, E the size of an embedding,
H that of a state of the model, A the axes in which questions and thoughts are compared, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from mmrl.core.config import InputError
from mmrl.model.encoding import Encoded

Place = Literal["begin", "end"]
AXES = 128
NARROWEST, WIDEST = -5.0, 2.0  # the bounds of a log-deviation


class LatentConfig(PretrainedConfig):
    """Of a head.

    `backbone` is the fingerprint of the frozen model, `hidden` the size of its states, `embedding` that of its
    embeddings and `scale` their root mean square. A thought of `size` numbers stands for `steps` vectors, the head's
    layer is `width` wide, and thoughts begin with the `deviation`. Their `place` in a prompt is behind its first token
    (`begin`) or before its last one (`end`).
    """

    model_type = "mmrl_latent"

    def __init__(
        self,
        backbone: str = "",
        hidden: int = 0,
        embedding: int = 0,
        scale: float = 1.0,
        place: Place = "begin",
        size: int = 16,
        steps: int = 4,
        width: int = 512,
        deviation: float = 1.0,
        **others: Any,
    ) -> None:
        self.backbone, self.hidden, self.embedding, self.scale = backbone, hidden, embedding, scale
        self.place, self.size, self.steps = place, size, steps
        self.width, self.deviation = width, deviation
        super().__init__(**others)


class Thoughts(NamedTuple):
    """What a head makes of questions and noise: the thoughts [P, G, D], their log-density [P, G], the questions
    [P, A] and the thoughts [P, G, A] as they are compared, and the reward [P, G] that a linear layer predicts of each.

    The density and the prediction are of the thoughts as they are; through the others a gradient reaches the mean and
    the deviation.
    """

    latent_PGD: Tensor
    log_density_PG: Tensor
    asked_PA: Tensor
    meant_PGA: Tensor
    predicted_PG: Tensor


class LatentHead(PreTrainedModel):
    """z ~ N(mean(q), diag(deviation(q)^2)) for the state q of a question.

    A fixed random projection makes vectors of it, so that there are few numbers to find out about. Those of a z of
    deviation 1 have the root mean square of the model's embeddings.
    """

    config_class = LatentConfig
    config: LatentConfig

    def __init__(self, config: LatentConfig) -> None:
        super().__init__(config)
        size = config.size
        self.read = nn.Sequential(nn.LayerNorm(config.hidden), nn.Linear(config.hidden, config.width), nn.Tanh())
        self.said = nn.Linear(config.width, 2 * size)
        self.asked, self.meant = nn.Linear(config.width, AXES), nn.Linear(size, AXES)
        self.predicted = nn.Linear(size, 1)
        self.projection = nn.Parameter(torch.empty(size, config.steps * config.embedding), requires_grad=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """At first every question has the mean 0 and the same deviation."""
        super()._init_weights(module)
        if module is self:
            self.projection.normal_(std=self.config.scale / self.config.size**0.5)
        if module is self.said:
            self.said.weight.zero_()
            self.said.bias.zero_()
            self.said.bias[len(self.said.bias) // 2 :] = math.log(self.config.deviation)

    def distribution(self, states_PH: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log-deviation), each [P, D]."""
        mean_PD, log_deviation_PD = self.said(self.read(states_PH)).chunk(2, dim=-1)
        return mean_PD, log_deviation_PD.clamp(NARROWEST, WIDEST)

    def forward(self, states_PH: Tensor, noise_PGD: Tensor) -> Thoughts:
        """The thoughts mean + deviation * noise."""
        mean_PD, log_deviation_PD = self.distribution(states_PH)
        latent = mean_PD[:, None] + log_deviation_PD.exp()[:, None] * noise_PGD
        drawn = latent.detach()
        return Thoughts(
            latent,
            log_density(drawn, mean_PD[:, None], log_deviation_PD[:, None]),
            self.asked(self.read(states_PH)),
            self.meant(latent),
            self.predicted(drawn).squeeze(-1),
        )

    def vectors(self, latent: Tensor) -> Tensor:
        """[..., T, E]: what thoughts [..., D] stand for."""
        return (latent @ self.projection).unflatten(-1, (self.config.steps, self.config.embedding))


def log_density(latent: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """The log-density of Gaussian vectors [..., D], summed over D: [...].

    >>> at = log_density(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([0.0]))
    >>> round(float(at), 5)
    -1.41894
    """
    off = (latent - mean) * (-log_deviation).exp()
    return (-0.5 * off.square() - log_deviation - 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def new_head(
    model: Any, backbone: str, *, place: Place, size: int, steps: int, width: int, deviation: float
) -> LatentHead:
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
        place=place,
        size=size,
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
    try:
        config, _ = PretrainedConfig.get_config_dict(place)
        if config.get("model_type") != LatentConfig.model_type:
            raise InputError(f"{path} holds a {config.get('model_type')}, not a head of the stage latent")
        if config.get("backbone") != backbone:
            raise InputError(
                f"the head in {path} was trained before another model; give the model that it was trained for"
            )
        loaded: Any = LatentHead.from_pretrained(place, output_loading_info=True, ignore_mismatched_sizes=True)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the head in {path} cannot be read: {error}") from None
    head, found = loaded
    lacking = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if lacking or head.config.place not in get_args(Place):
        told = ", ".join(lacking[:3]) or f"place {head.config.place!r}"
        raise InputError(f"the head in {path} is not as it was written: {told}")
    return head.eval()


def with_room(row: Encoded, config: LatentConfig, token: int) -> tuple[Encoded, int]:
    """A prompt with room for a thought, and how many tokens before its end that begins."""
    at = 1 if config.place == "begin" else len(row.input_ids) - 1
    tensors = dict(row.tensors)
    for name in row.along:
        before, after = tensors[name][:, :at], tensors[name][:, at:]
        tensors[name] = torch.cat([before, before.new_zeros(1, config.steps, *before.shape[2:]), after], dim=1)
    ids = [*row.input_ids[:at], *[token] * config.steps, *row.input_ids[at:]]
    return replace(row, input_ids=ids, tensors=tensors), len(ids) - at


@contextmanager
def thinking(model: Any, vectors_RTE: Tensor, starts: Sequence[int]) -> Iterator[None]:
    """Within, what `model` embeds first are R rows, padded on their left, with room for a thought that begins so many
    tokens before their end (`with_room`): there its vectors stand. What is embedded afterwards is read as ever."""
    pending = [vectors_RTE]

    def replaced(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
        if embedded.dim() != 3 or not pending:
            return embedded
        vectors_RTE, embedded = pending.pop().to(embedded), embedded.clone()
        for row, thought_TE, start in zip(embedded, vectors_RTE, starts, strict=True):
            row[len(row) - start :][: len(thought_TE)] = thought_TE
        return embedded

    hook = model.get_input_embeddings().register_forward_hook(replaced)
    try:
        yield
    finally:
        hook.remove()
