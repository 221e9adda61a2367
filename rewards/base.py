"""The contract of every reward: rollouts in, verdicts out, and no failure that becomes a number."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mmrl.core.media.item import Media
from rewards.parse.extract import answer_text, reply

logger = logging.getLogger(__name__)

Kind = Literal["scored", "unparsed", "abstained", "failed"]
IN_UNIT = "all numbers between 0 and 1, as in the space unit"  # in the `why` of places in another space
ROUNDING = 1e-6  # how far float32 arithmetic may carry a score beyond 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion with all that scores it.

    `seen_size` is the (width, height) in pixels of each media item as the model saw it; `meta["space"]` names the
    coordinate space the model speaks (`mmrl.core.vision.CoordinateSpace`), `pixel` when absent. `opened` is what the
    prompt had already written of the answer, such as `<think>`. `made` are the pictures of a policy that makes some,
    and `gold_media` those that are right, where they are known; no judge sees the latter. With tools, `turns` has what
    was `said` in each turn, and of its `calls` the `name`, the `arguments` as JSON, the kind of `outcome` and what was
    `read`.
    """

    completion: str
    answer: Any = None
    task: str = ""
    prompt: Any = None
    media: Sequence[Media] = ()
    seen_size: Sequence[tuple[int, int]] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    group: str | int | None = None
    step: int | None = None
    total_steps: int | None = None
    opened: str = ""
    made: Sequence[Media] = ()
    gold_media: Sequence[Media] = ()
    turns: Sequence[Mapping[str, Any]] = ()

    @property
    def all_media(self) -> Sequence[Media]:
        """What a judge looks at: the media of the prompt, then what was made."""
        return (*self.media, *self.made)

    @property
    def answered(self) -> str:
        """The whole answer: what the prompt had written of it, and the completion."""
        return self.opened + self.completion


@dataclass(frozen=True, slots=True)
class Span:
    """The score of a part of the completion: characters `start` up to `stop`."""

    start: int
    stop: int
    score: float

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"a span from {self.start} to {self.stop} holds no character")
        if not abs(self.score) <= 1:
            raise ValueError(f"a span scores {self.score}; it must be in [0, 1] (penalties: [-1, 0])")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reward's verdict on one rollout: a score, or None for no verdict through no fault of the completion.

    `kind` says more than the number: `unparsed` (scored 0 because no answer could be read), `abstained`
    (another task, unparseable gold) and `failed` (the reward raised, timed out or returned nonsense). `spans` say where
    in the completion the score was earned, if the reward knows.
    """

    score: float | None
    why: str = ""
    kind: Kind = "scored"
    spans: tuple[Span, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.score is None and self.kind == "scored":
            object.__setattr__(self, "kind", "abstained")
        if (self.score is None) != (self.kind in ("abstained", "failed")):
            raise ValueError(f"a verdict of kind {self.kind} cannot have the score {self.score}")


Score = float | None
Scored = Score | Verdict
Reward = Callable[[Sequence[Rollout]], list[Verdict]]


def unparsed(why: str) -> Verdict:
    """The verdict on a completion in which no answer could be read: 0, counted apart from a wrong answer."""
    return Verdict(0.0, why, "unparsed")


BRIEF = "No."  # a completion that no model finds too long
TOO_LONG = unparsed("longer than the model that scores it reads")


def abstain(why: str) -> Verdict:
    """No verdict, through no fault of the completion."""
    return Verdict(None, why, "abstained")


def failed(why: str) -> Verdict:
    """No verdict because the reward itself failed."""
    return Verdict(None, why, "failed")


def per_rollout(function: Callable[..., Scored]) -> Callable[..., list[Verdict]]:
    """A reward over a batch from a function of one rollout; an exception fails that rollout alone."""

    @functools.wraps(function)
    def reward(rollouts: Sequence[Rollout], **options: Any) -> list[Verdict]:
        return [_guarded(function, rollout, options) for rollout in rollouts]

    return reward


def per_answer(function: Callable[..., Scored]) -> Callable[..., list[Verdict]]:
    """As `per_rollout`, for a function that looks at the answer text and the gold alone: equal ones are scored once.

    The rollouts of a group share their gold, and many of them give the same answer.
    """
    return _once(function, answer_text)


def per_reply(function: Callable[..., Scored]) -> Callable[..., list[Verdict]]:
    """As `per_answer`, for a function that looks at the words around a box too."""
    return _once(function, reply)


def _once(function: Callable[..., Scored], reads: Callable[[str], str | None]) -> Callable[..., list[Verdict]]:
    @functools.wraps(function)
    def reward(rollouts: Sequence[Rollout], **options: Any) -> list[Verdict]:
        known: dict[tuple[str | None, int], Verdict] = {}
        verdicts = []
        for rollout in rollouts:
            key = (reads(rollout.answered), id(rollout.answer))
            verdict = known.get(key)
            if verdict is None:
                verdict = known[key] = _guarded(function, rollout, options)
            verdicts.append(verdict)
        return verdicts

    return reward


def checked(reward: Callable[[Sequence[Rollout]], Sequence[Scored]], *, name: str) -> Reward:
    """`reward` with the contract enforced: one finite verdict or None per rollout, and failures that stay failures."""

    def call(rollouts: Sequence[Rollout]) -> list[Verdict]:
        try:
            scored = list(reward(rollouts))
        except (Exception, SystemExit) as error:  # a reward may raise anything; the run counts it and continues
            logger.debug("reward %s raised", name, exc_info=True)
            return [failed(f"{name} raised {type(error).__name__}: {error}")] * len(rollouts)
        if len(scored) != len(rollouts):
            return [failed(f"{name} returned {len(scored)} verdicts for {len(rollouts)} rollouts")] * len(rollouts)
        return [as_verdict(score) for score in scored]

    return call


def as_verdict(scored: Any) -> Verdict:
    """A verdict from a reward's return value; NaN, inf, scores outside [-1, 1] and non-numbers become failures.

    >>> as_verdict(float("nan")).kind, as_verdict(None).kind, as_verdict(True).score
    ('failed', 'abstained', 1.0)
    """
    if type(scored) is Verdict and type(scored.score) is float and -1 <= scored.score <= 1:
        return scored
    verdict = scored if isinstance(scored, Verdict) else None
    value: Any = verdict.score if verdict else scored
    if value is None:
        return verdict or Verdict(None)
    if isinstance(value, str | bytes):  # float() would read them
        return failed(f"score {value[:50]!r} is not a number")
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a torch tensor of many elements
        return failed(f"score of type {type(value).__name__} is not a number")
    if not math.isfinite(score):
        return failed(f"score {score} is not finite")
    if abs(score) > 1 + ROUNDING:
        return failed(f"score {score} is outside [0, 1] (penalties: [-1, 0])")
    score = min(max(score, -1.0), 1.0)
    return Verdict(score, verdict.why, verdict.kind, verdict.spans) if verdict else Verdict(score)


def gold(rollout: Rollout, key: str) -> Any:
    """The gold value under `key`, or None; an answer that is not a mapping is itself the gold value."""
    return rollout.answer.get(key) if isinstance(rollout.answer, Mapping) else rollout.answer


def progress(rollout: Rollout) -> float | None:
    """The share of the training that is done, None where it is not known.

    >>> progress(Rollout("", step=5, total_steps=20)), progress(Rollout(""))
    (0.25, None)
    """
    if rollout.step is None or not rollout.total_steps:
        return None
    return min(max(rollout.step / rollout.total_steps, 0.0), 1.0)


def _guarded(function: Callable[..., Scored], rollout: Rollout, options: Mapping[str, Any]) -> Verdict:
    try:
        return as_verdict(function(rollout, **options))
    except (Exception, SystemExit) as error:
        logger.debug("%s raised on %r", function.__name__, rollout.completion[:200], exc_info=True)
        return failed(f"{type(error).__name__}: {error}")
