"""The view of decoding methods on a model: they continue, score and read prefixes of the answer to one prompt."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from eval.answer.local import LocalGenerator, predicted_sizes
from eval.decode.side_by_side import Request, Steps
from eval.decode.student import HeadGuide
from eval.generation import Draw
from eval.score import evaluation_suite, weighted_sum
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, Size, geometry_of
from mmrl.model.encoding import Encoded, encode
from mmrl.model.sampling import row_generator
from rewards import Rollout
from rewards.prompt_form import PromptForm

Ids = list[int]
Scores = list[float | None]
QUESTION = "Is everything that this says visible in what you were shown? Answer yes or no.\n\n{text}"


class Policy(Protocol):
    """A model with one prompt, which has `opened` the answer. `spent` counts generated tokens, tokens that went through
    a model (prefill), those of them that did so for a score (read_to_score), and calls of rewards."""

    opened: str
    spent: dict[str, float]
    limit: int
    temperature: float

    def continued(self, prefixes: Sequence[Ids], length: int, temperature: float) -> Steps[list[Ids]]:
        """Up to `length` more tokens for each prefix, a stop token included."""
        ...

    def likeliest(self, prefix: Ids, count: int) -> Steps[list[tuple[int, float]]]:
        """The `count` likeliest next tokens with their log-probabilities, the likeliest first."""
        ...

    def rewards(self, prefixes: Sequence[Ids]) -> Steps[Scores]:
        """The reward of each answer so far, None for no verdict."""
        ...

    def ended(self, ids: Ids) -> bool:
        """Whether an answer has ended."""
        ...

    def text(self, ids: Ids) -> str:
        """The text of the tokens."""
        ...

    def uniform(self, *place: int | str) -> float:
        """A random number in [0, 1) that depends on the draw and on `place` alone."""
        ...


class ModelPolicy:
    """The policy of a local model for the prompt of a draw."""

    def __init__(self, generator: LocalGenerator, draw: Draw, guide: SuiteGuide | HeadGuide | SelfGuide | None) -> None:
        self.spent: dict[str, float] = defaultdict(float, generated=0, prefill=0, reward_calls=0)
        self.limit, self.temperature = generator.sampling.max_new_tokens, generator.sampling.temperature
        self._generator, self._draw, self._guide = generator, draw, guide
        self._prompt = generator.encoded(draw.sample)
        self.opened = self._prompt.opened
        self._calls = 0
        self._reading = guide.reading(draw, self.opened) if isinstance(guide, HeadGuide) else None
        sizes = predicted_sizes(draw.sample, generator.budget, geometry_of(generator.processor))
        self.seen_size = sizes if generator.blind else self._prompt.seen_size

    def continued(self, prefixes: Sequence[Ids], length: int, temperature: float) -> Steps[list[Ids]]:
        """Up to `length` more tokens for each prefix, a stop token included."""
        rows = [replace(self._prompt, input_ids=self._prompt.input_ids + prefix) for prefix in prefixes]
        self._calls += 1
        keys = [(*self._key, self._calls, at) for at in range(len(rows))]
        completions = (yield Request(rows, length, temperature, keys)) if rows else []
        self.spent["generated"] += sum(map(len, completions))
        self.spent["prefill"] += sum(len(row.input_ids) for row in rows)
        return completions

    def likeliest(self, prefix: Ids, count: int) -> Steps[list[tuple[int, float]]]:
        """The `count` likeliest next tokens with their log-probabilities, the likeliest first."""
        row = replace(self._prompt, input_ids=self._prompt.input_ids + prefix)
        self.spent["prefill"] += len(row.input_ids)
        [log_probs_V] = yield Request([row])
        top = log_probs_V.topk(min(count, len(log_probs_V)))
        return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))

    def rewards(self, prefixes: Sequence[Ids]) -> Steps[Scores]:
        """The reward of each answer so far, None for no verdict."""
        if self._guide is None:
            raise ValueError("this method of decoding has no rewards")
        self.spent["reward_calls"] += len(prefixes)
        texts = [self.text(ids) for ids in prefixes]
        if isinstance(self._guide, SuiteGuide):
            return self._guide.scores(self._draw, self.seen_size, texts, self.opened)
        if isinstance(self._guide, HeadGuide):
            return self._scored(texts)
        rows = self._guide.questions(self._draw, texts)
        self._count_read(sum(len(row.input_ids) for row in rows))
        return self._guide.scores((yield Request(rows))) if rows else [None] * len(texts)

    def ended(self, ids: Ids) -> bool:
        """Whether an answer has ended, by a stop token or by the token limit."""
        return self._generator.stopped(ids) or len(ids) >= self.limit

    def text(self, ids: Ids) -> str:
        """The text of the tokens."""
        return self._generator.processor.tokenizer.decode(ids, skip_special_tokens=True)

    def uniform(self, *place: int | str) -> float:
        """A random number in [0, 1) that depends on the draw and on `place` alone."""
        return float(row_generator(*self._key, *place).random())

    def _scored(self, texts: Sequence[str]) -> Scores:
        """The scores of a head, which reads on where it was."""
        if self._reading is None:
            return [None] * len(texts)
        before = self._reading.read
        scores = self._reading.scores(texts)
        self._count_read(self._reading.read - before)
        return scores

    def _count_read(self, tokens: int) -> None:
        self.spent["prefill"] += tokens
        self.spent["read_to_score"] += tokens

    @property
    def _key(self) -> tuple[int | str, ...]:
        return (self._generator.sampling.seed, self._draw.sample.id, self._draw.number)


def guide_of(generator: LocalGenerator, spec: Any, space: CoordinateSpace) -> SuiteGuide | HeadGuide | SelfGuide | None:
    """The guide of `spec`: its rewards, its head, or the model itself if PSRD names neither; None without a guide."""
    if not hasattr(spec, "rewards"):
        return None
    if getattr(spec, "head", None) is not None:
        return HeadGuide(spec.head, blind=generator.blind)
    return SuiteGuide(spec, space) if spec.rewards else SelfGuide(generator)


class SuiteGuide:
    """The weighted sum of the rewards of `spec`, which see the gold answer only if `spec.gold` is true."""

    def __init__(self, spec: Any, space: CoordinateSpace) -> None:
        self._suite, self.gold, self._space = evaluation_suite(spec.rewards, spec.judges), spec.gold, space.value
        self._weights = dict(zip(self._suite.names, self._suite.weights, strict=True))

    def scores(self, draw: Draw, seen_size: tuple[Size, ...], texts: Sequence[str], opened: str) -> Scores:
        """The score of each text, which goes on with the `opened` answer, None without a verdict; not all are None."""
        sample = draw.sample
        meta, gold = {**sample.meta, "space": self._space}, sample.answer if self.gold else None
        asked = Rollout("", gold, sample.task, sample.prompt, sample.media, seen_size, meta, opened=opened)
        return self.of([replace(asked, completion=text) for text in texts])

    def of(self, rollouts: Sequence[Rollout]) -> Scores:
        """The score of each rollout of a sample, None without a verdict; not all are None."""
        vectors = self._suite.score(rollouts)
        scores = [weighted_sum({name: v.score for name, v in vector.items()}, self._weights) for vector in vectors]
        if all(score is None for score in scores):
            hint = "" if self.gold else "; rewards that compare with the gold answer need gold: true"
            raise InputError(f"decode: no reward has a verdict on the task {rollouts[0].task}{hint}")
        return scores


class SelfGuide:
    """The model's own confidence that its last phase is visible: p(yes) / (p(yes) + p(no))."""

    def __init__(self, generator: LocalGenerator) -> None:
        self._generator = generator
        self._yes, self._no = (_first_tokens(generator.processor.tokenizer, word) for word in ("yes", "no"))
        if not self._yes or not self._no or set(self._yes) & set(self._no):
            raise InputError("decode psrd: this tokenizer does not tell yes from no by a first token; give it rewards")

    def questions(self, draw: Draw, texts: Sequence[str]) -> list[Encoded]:
        """The question about the last phase of each text, as the model takes it; none if the prompt shows no media."""
        media = draw.sample.media
        if self._generator.blind or not media:
            return []
        rows = []
        for text in texts:
            content = [{"type": item.kind} for item in media]
            content.append({"type": "text", "text": QUESTION.format(text=last_phase(text))})
            prompt = [{"role": "user", "content": content}]
            variables = PromptForm(chat_template_kwargs=self._generator.form.chat_template_kwargs)
            rows.append(encode(self._generator.processor, prompt, media, self._generator.budget, form=variables))
        return rows

    def scores(self, log_probs: Sequence[torch.Tensor]) -> Scores:
        """The probability of yes from the [V] log-probabilities after each question."""
        return [yes_probability(scores_V, self._yes, self._no) for scores_V in log_probs]


def last_phase(text: str) -> str:
    """The last phase with words; the whole text if it has only punctuation.

    >>> last_phase("A dog. It runs!"), last_phase("...")
    ('It runs', '...')
    """
    phases = [phase.strip() for phase in re.split(r"[.!?;\n]", text) if phase.strip()]
    return phases[-1] if phases else text


def yes_probability(scores_V: torch.Tensor, yes: Ids, no: Ids) -> float:
    """p(yes) / (p(yes) + p(no)) from the scores of all their tokens.

    >>> round(yes_probability(torch.tensor([2.0, 0.5]), [0], [1]), 5)
    0.81757
    """
    return float(torch.sigmoid(scores_V[yes].logsumexp(0) - scores_V[no].logsumexp(0)))


def _first_tokens(tokenizer: Any, word: str) -> Ids:
    """The first tokens of a word in lower, title and upper case, with and without a blank before it."""
    forms = [blank + form for form in (word, word.capitalize(), word.upper()) for blank in ("", " ")]
    first = {tuple(tokenizer.encode(form, add_special_tokens=False)[:1]) for form in forms}
    blanks = {tuple(tokenizer.encode(" ", add_special_tokens=False)[:1])}
    return sorted(ids[0] for ids in first - blanks if ids)
