"""What decoding methods see of a model: prefixes that are continued, scored and read, for one prompt at a time."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from eval.answer.local import LocalGenerator, predicted_sizes
from eval.decode.together import Seat
from eval.generation import Draw
from eval.score import evaluation_suite, weighted_sum
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, Size, geometry_of
from mmrl.model.encoding import Encoded, encode
from mmrl.model.sampling import row_generator
from rewards import Rollout

Ids = list[int]
Scores = list[float | None]
Guide = Callable[[Seat, Draw, tuple[Size, ...], Sequence[str]], Scores]
QUESTION = "Is everything that this says visible in what you were shown? Answer yes or no.\n\n{said}"


class Policy(Protocol):
    """A model before one prompt. `spent` counts tokens generated and read, and rewards asked for."""

    spent: dict[str, float]
    limit: int
    temperature: float

    def continued(self, prefixes: Sequence[Ids], length: int, temperature: float) -> list[Ids]:
        """Up to `length` more tokens for each prefix, a stop token included."""
        ...

    def likeliest(self, prefix: Ids, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest next tokens with their log-probabilities, the likeliest first."""
        ...

    def rewards(self, prefixes: Sequence[Ids]) -> Scores:
        """The reward of each answer so far, None for no verdict."""
        ...

    def ended(self, ids: Ids) -> bool:
        """Whether an answer is over."""
        ...

    def text(self, ids: Ids) -> str:
        """The tokens in words."""
        ...

    def uniform(self, *place: int | str) -> float:
        """A random number in [0, 1) that depends on the draw and the place alone."""
        ...


class ModelPolicy:
    """The policy that a local model is before the prompt of a draw."""

    def __init__(self, seat: Seat, draw: Draw, guide: Guide | None) -> None:
        generator = seat.generator
        self.spent: dict[str, float] = defaultdict(float, generated=0, prefill=0, reward_calls=0)
        self.limit, self.temperature = generator.sampling.max_new_tokens, generator.sampling.temperature
        self._generator, self._seat, self._draw, self._guide = generator, seat, draw, guide
        self._prompt = generator.encoded(draw.sample)
        self._calls = 0
        sizes = predicted_sizes(draw.sample, generator.budget, geometry_of(generator.processor))
        self.seen_size = sizes if generator.blind else self._prompt.seen_size

    def continued(self, prefixes: Sequence[Ids], length: int, temperature: float) -> list[Ids]:
        """Up to `length` more tokens for each prefix, a stop token included."""
        rows = [replace(self._prompt, input_ids=self._prompt.input_ids + prefix) for prefix in prefixes]
        self._calls += 1
        keys = [(*self._key, self._calls, at) for at in range(len(rows))]
        found = self._seat.continued(rows, length, temperature=temperature, keys=keys)
        self.spent["generated"] += sum(map(len, found))
        self.spent["prefill"] += sum(len(row.input_ids) for row in rows)
        return found

    def likeliest(self, prefix: Ids, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest next tokens with their log-probabilities, the likeliest first."""
        row = replace(self._prompt, input_ids=self._prompt.input_ids + prefix)
        self.spent["prefill"] += len(row.input_ids)
        top = self._seat.next_log_probs([row])[0].topk(count)
        return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))

    def rewards(self, prefixes: Sequence[Ids]) -> Scores:
        """The reward of each answer so far, None for no verdict."""
        if self._guide is None:
            raise ValueError("this method of decoding has no rewards")
        self.spent["reward_calls"] += len(prefixes)
        before = self._seat.read
        scores = self._guide(self._seat, self._draw, self.seen_size, [self.text(ids) for ids in prefixes])
        self.spent["prefill"] += self._seat.read - before  # where the model itself was asked
        return scores

    def ended(self, ids: Ids) -> bool:
        """Whether an answer is over: it stopped, or the token limit ended it."""
        return self._generator.stopped(ids) or len(ids) >= self.limit

    def text(self, ids: Ids) -> str:
        """The tokens in words."""
        return self._generator.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def uniform(self, *place: int | str) -> float:
        """A random number in [0, 1) that depends on the draw and the place alone."""
        return float(row_generator(*self._key, *place).random())

    @property
    def _key(self) -> tuple[int | str, ...]:
        return (self._generator.sampling.seed, self._draw.sample.id, self._draw.number)


def guide_of(generator: LocalGenerator, spec: Any, space: CoordinateSpace) -> Guide | None:
    """What scores answers for `spec`: its rewards, the model itself where PSRD names none, nothing without rewards."""
    if not hasattr(spec, "rewards"):
        return None
    return suite_guide(spec, space) if spec.rewards else self_guide(generator)


def suite_guide(spec: Any, space: CoordinateSpace) -> Guide:
    """The weighted sum of the rewards of `spec`, which see the gold answer only if `spec.gold` says so."""
    suite = evaluation_suite(spec.rewards, spec.judges)
    weights = dict(zip(suite.names, suite.weights, strict=True))

    def scores(seat: Seat, draw: Draw, seen_size: tuple[Size, ...], texts: Sequence[str]) -> Scores:
        sample = draw.sample
        meta = {**sample.meta, "space": space.value}
        gold = sample.answer if spec.gold else None
        rollouts = [Rollout(text, gold, sample.task, sample.prompt, sample.media, seen_size, meta) for text in texts]
        found = [
            weighted_sum({name: verdict.score for name, verdict in vector.items()}, weights)
            for vector in suite.score(rollouts)
        ]
        if all(score is None for score in found):
            hint = "" if spec.gold else "; rewards that compare with the gold answer need gold: true"
            raise InputError(f"decode: no reward has a verdict on the task {sample.task}{hint}")
        return found

    return scores


def self_guide(generator: LocalGenerator) -> Guide:
    """How sure the model is that what it said last is seen: p(yes) / (p(yes) + p(no)); None where nothing is shown."""
    tokenizer = generator.processor.tokenizer
    yes, no = (_first_tokens(tokenizer, word) for word in ("yes", "no"))
    if not yes or not no or set(yes) & set(no):
        raise InputError("decode psrd: this tokenizer does not tell yes from no by a first token; give it rewards")

    def scores(seat: Seat, draw: Draw, seen_size: tuple[Size, ...], texts: Sequence[str]) -> Scores:
        sample = draw.sample
        if generator.blind or not sample.media:
            return [None] * len(texts)
        rows = [_question(generator, draw, text) for text in texts]
        return [yes_probability(log_probs, yes, no) for log_probs in seat.next_log_probs(rows)]

    return scores


def _question(generator: LocalGenerator, draw: Draw, said: str) -> Encoded:
    """The question whether the last phase of what was said is seen, as the model takes it."""
    said = last_phase(said)
    content = [{"type": item.kind} for item in draw.sample.media]
    prompt = [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION.format(said=said)}]}]
    return encode(generator.processor, prompt, draw.sample.media, generator.budget)


def last_phase(said: str) -> str:
    """The last phase that says something; all of a text that is nothing but marks.

    >>> last_phase("A dog. It runs!"), last_phase("...")
    ('It runs', '...')
    """
    phases = [phase.strip() for phase in re.split(r"[.!?;\n]", said) if phase.strip()]
    return phases[-1] if phases else said


def yes_probability(scores_V: torch.Tensor, yes: Ids, no: Ids) -> float:
    """Yes against no by the scores of their tokens, all ways of writing them together.

    >>> round(yes_probability(torch.tensor([2.0, 0.5]), [0], [1]), 5)
    0.81757
    """
    return float(torch.sigmoid(scores_V[yes].logsumexp(0) - scores_V[no].logsumexp(0)))


def _first_tokens(tokenizer: Any, word: str) -> Ids:
    """The tokens that a word may start with, in any case, after a blank or not."""
    forms = [blank + form for form in (word, word.capitalize(), word.upper()) for blank in ("", " ")]
    first = {tuple(tokenizer.encode(form, add_special_tokens=False)[:1]) for form in forms}
    blanks = {tuple(tokenizer.encode(blank, add_special_tokens=False)[:1]) for blank in (" ",)}
    return sorted(ids[0] for ids in first - blanks if ids)
