"""The configs of the `decode:` block: decoding guided by rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mmrl.core.config import Config
from rewards import RewardSpec
from rewards.heads.reward_model import ModelName
from rewards.judge_client.judge_spec import JudgeSpec

Share = Annotated[float, Field(ge=0, le=1)]


class Decoding(Config):
    """What all methods share."""

    def protocol(self) -> dict[str, Any]:
        """The settings, as far as they decide an answer: a head on disk is known by its files, not by its path."""
        settings, head = self.model_dump(mode="json"), getattr(self, "head", None)
        if head is None or not Path(head).is_dir():
            return settings
        from mmrl.model.loading import fingerprint

        return settings | {"head": fingerprint(Path(head))}


class Guided(Decoding):
    """The rewards that guide. With `gold` they see the gold answer, and the score is that of an oracle."""

    rewards: Annotated[dict[str, RewardSpec], Field(min_length=1)]
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    gold: bool = False


class BestOfN(Guided):
    """The best of `n` sampled answers; with `soft` drawn with probability softmax(reward / soft) instead."""

    method: Literal["best_of_n"]
    n: PositiveInt = 8
    soft: PositiveFloat | None = None


class SelfConsistency(Decoding):
    """The first answer of the majority of `n` sampled ones."""

    method: Literal["self_consistency"]
    n: PositiveInt = 8


class PhaseWise(Decoding):
    """PSRD: a sentence whose first `onset` tokens score below `threshold` is started again, from the best of
    `candidates`. The score is that of `rewards`; of `head`, which the stage `reward` of `mmrl train` has distilled; or,
    without either, the model's own answer to the question whether its statement is visible."""

    method: Literal["psrd"]
    candidates: PositiveInt = 4
    onset: PositiveInt = 8
    threshold: Share = 0.5
    temperature: PositiveFloat = 0.7
    head: ModelName | None = None
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    gold: bool = False

    @model_validator(mode="after")
    def _one_guide(self) -> Self:
        if self.head is not None and self.rewards:
            raise ValueError(f"head {self.head} and rewards both score the phases; leave out one of the two")
        return self


class LookaheadSearch(Guided):
    """DeAL: each of the `candidates` likeliest next tokens is followed greedily for `lookahead` tokens. The one of
    largest log-probability + `scale` x reward is taken, alone or with its whole segment."""

    method: Literal["deal"]
    candidates: PositiveInt = 5
    lookahead: Annotated[int, Field(ge=0)] = 32
    scale: Annotated[float, Field(ge=0)] = 1.0
    commit: Literal["token", "segment"] = "token"


class MonteCarlo(Guided):
    """Sequential Monte Carlo: `particles` grow by `block` tokens, are weighted by exp(scale x reward) and resampled
    when the effective sample size falls below `ess` of them. With `levels` the reward of a prefix is its value so far,
    and only its growth counts. `lookahead` rollouts to the end estimate the value of a prefix. `power` is the exponent
    of the model's distribution: sampling at temperature 1 / power. After each resampling particles make so many
    Metropolis-Hastings `moves`: all of them, or only the `duplicates` that resampling made, and only those whose reward
    is `below` a bound."""

    method: Literal["smc"]
    particles: PositiveInt = 8
    block: PositiveInt = 16
    lookahead: Annotated[int, Field(ge=0)] = 0
    power: PositiveFloat = 1.0
    scale: Annotated[float, Field(ge=0)] = 4.0
    levels: bool = True
    ess: Share = 0.5
    moves: Annotated[int, Field(ge=0)] = 0
    moved: Literal["all", "duplicates"] = "all"
    below: float | None = None

    @model_validator(mode="after")
    def _choosing_is_for_moves(self) -> Self:
        if not self.moves and (alone := self.unusual(["moved", "below"])):
            raise ValueError(f"{alone[0]} says which particles are moved; set moves: 2")
        return self

    @model_validator(mode="after")
    def _lookahead_needs_levels(self) -> Self:
        if self.lookahead and not self.levels:
            raise ValueError(f"lookahead {self.lookahead} rewards whole answers, which are levels; set levels: true")
        return self


class BlockTree(Guided):
    """DTS over blocks of text: a tree over prefixes that are a `block` of tokens apart grows by an answer at a time
    until it has `answers`. One is drawn in proportion to exp(`sharpness` x reward) of what the model says at
    `temperature`; `best` takes the best one (DTS*). `explore`: how much that search prefers branches that it has seen
    rarely."""

    method: Literal["tree"]
    answers: PositiveInt = 16
    block: PositiveInt = 16
    sharpness: PositiveFloat = 10.0
    temperature: PositiveFloat = 1.0
    best: bool = False
    explore: NonNegativeFloat = 1.0

    @model_validator(mode="after")
    def _exploring_is_for_a_search(self) -> Self:
        if not self.best and self.unusual(["explore"]):
            raise ValueError("explore is for the search for the best answer; set best: true")
        return self


class LatentReasoning(Decoding):
    """The answer behind a thought of `head`, which the stage `latent` of `mmrl train` has trained: vectors that stand
    before the answer. It is greedy; where the run's `sampling` draws, the thought is drawn."""

    method: Literal["latent"]
    head: str


class NoiseSearch(Guided):
    """ReNO: the noise that a picture begins with follows the gradient of the rewards for `steps` steps of `rate`, with
    gradients of a norm of at most `max_norm`; the picture of largest reward on the way is taken. `weight` is that of a
    penalty which holds the norm of the noise near a Gaussian's."""

    method: Literal["reno"]
    steps: PositiveInt = 50
    rate: PositiveFloat = 5.0
    weight: NonNegativeFloat = 0.01
    max_norm: PositiveFloat = 0.1


class TreeSearch(Guided):
    """A tree over the steps of a picture grows until the network has been asked `evaluations` times. `dts` draws a
    picture in proportion to exp(`sharpness` x reward), `dts_star` takes the best. `explore`: how much DTS* prefers
    branches that it has seen rarely."""

    method: Literal["dts", "dts_star"]
    evaluations: PositiveInt = 280
    sharpness: PositiveFloat = 10.0
    explore: NonNegativeFloat = 1.0


DecodeSpec = Annotated[
    BestOfN
    | SelfConsistency
    | PhaseWise
    | LookaheadSearch
    | MonteCarlo
    | BlockTree
    | LatentReasoning
    | NoiseSearch
    | TreeSearch,
    Field(discriminator="method"),
]
SAMPLED = (BestOfN, SelfConsistency)  # draw by the run's `sampling`
OF_PICTURES = ("best_of_n", "reno", "dts", "dts_star")
OF_PICTURES_ALONE = (NoiseSearch, TreeSearch)
