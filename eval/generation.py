"""How samples are asked: the settings of sampling, the draws, the answers of a model, and the batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from data_engine.schema import Sample
from mmrl.core.config import Config
from mmrl.core.media.item import Media
from mmrl.core.vision import Size


class Sampling(Config):
    """How answers are drawn: `samples` draws per prompt. Greedy decoding reads neither temperature, top_p nor seed."""

    do_sample: bool = False
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: PositiveInt = 512
    samples: PositiveInt = 1
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _greedy_draws_are_equal(self) -> Self:
        if self.samples > 1 and not self.do_sample:
            raise ValueError(f"samples {self.samples} without do_sample would be equal draws; set do_sample: true")
        return self

    def protocol(self) -> dict[str, Any]:
        """The settings that decide a single draw."""
        if not self.do_sample:
            return {"decoding": "greedy", "max_new_tokens": self.max_new_tokens}
        names = ("temperature", "top_p", "seed", "max_new_tokens")
        return {"decoding": "sampled", **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True)
class Draw:
    """One answer to be generated: the `number`-th draw for a sample."""

    sample: Sample
    number: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """The answer of a model to one draw: the text, its number of tokens, whether the token limit ended it, and the
    (width, height) in pixels of each media item as the model sees it. `spent` holds the costs of guided decoding,
    `opened` what the prompt had already written of the answer, `turns` what was said and called in each turn, if there
    were tools (`mmrl.tools.records`), `made` the pictures of a policy that makes some and `film` the steps of the
    first, with paths that begin in the folder of the run."""

    response: str
    tokens: int
    truncated: bool
    seen_size: tuple[Size, ...]
    spent: Mapping[str, float] = field(default_factory=dict)
    opened: str = ""
    turns: Sequence[Mapping[str, Any]] = ()
    made: Sequence[Media] = ()
    film: Sequence[Media] = ()


class Generator(Protocol):
    """Anything that answers draws, such as `eval.answer.local.LocalGenerator`."""

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One answer per draw, generated as one batch."""
        ...

    def cost(self, sample: Sample) -> int:
        """The approximate length of the prompt, by which batches are sorted."""
        ...


def batches(draws: Sequence[Draw], size: int, cost: Callable[[Sample], int]) -> list[list[Draw]]:
    """The draws in batches of similar cost, the costliest first: a run that does not fit into memory fails at once.

    The batches depend on the draws alone, so a resumed run makes the same ones.
    """
    costs = {draw.sample.id: cost(draw.sample) for draw in draws}
    ordered = sorted(draws, key=lambda draw: (-costs[draw.sample.id], draw.sample.id, draw.number))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def without_media(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`prompt` with its text parts alone."""
    return [
        dict(message)
        if isinstance(message["content"], str)
        else {**message, "content": [part for part in message["content"] if part["type"] == "text"]}
        for message in prompt
    ]
