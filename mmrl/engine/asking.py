"""Questions to an engine, and its answers, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmrl.core.config import InputError


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as token ids, its media as `FeatureWriter` writes them, and how many answers it wants."""

    ids: list[int]
    features: Mapping[str, Any] | None
    n: int = 1
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """How answers are drawn: `temperature` 0 is greedy. An answer ends with one of `ends`; `banned` are never drawn."""

    length: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    ends: tuple[int, ...] = ()
    banned: tuple[int, ...] = ()

    def parameters(self, question: Question) -> dict[str, Any]:
        """vLLM's `sampling_params`: all of them are named, for a server may have defaults of its own."""
        greedy = self.temperature == 0  # vLLM refuses several greedy answers, so that one is asked for
        return {
            "n": 1 if greedy else question.n,
            "seed": question.seed,
            "max_tokens": self.length,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(self.ends),
            "ignore_eos": True,  # those are all of them
            "logit_bias": {str(token): -100.0 for token in self.banned},
            "logprobs": 0,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """The tokens of an answer up to its end token, the log-probs under which they were drawn (after temperature, bans
    and limits), whether it ended, and the name of the weights that drew it."""

    ids: list[int]
    logprobs: list[float]
    ended: bool
    weights: str


def answers_of(reply: Any, question: Question, drawing: Drawing, *, vocabulary: int, where: str) -> list[Answer]:
    """The `n` answers in a reply; an InputError if it does not hold what was asked for."""
    try:
        answers = [_answer(choice, drawing) for choice in reply["choices"]]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{where} gave no tokens with log-probs and weight versions ({type(error).__name__}: {error}): "
            f"{str(reply)[:120]}; start the server with `mmrl serve`"
        ) from None
    wanted = drawing.parameters(question)["n"]
    if len(answers) != wanted:
        raise InputError(f"{where} gave {len(answers)} answers and was asked for {wanted}; is it the server meant?")
    for answer in answers:
        _check(answer, drawing, vocabulary, where)
    return answers * (question.n // wanted)


def _answer(choice: Mapping[str, Any], drawing: Drawing) -> Answer:
    ids = [int(token) for token in choice["token_ids"]]
    logprobs = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
    [weights] = {str(span["version"]) for span in choice["weight_versions"]}
    if len(logprobs) != len(ids):
        raise ValueError(f"{len(ids)} tokens with {len(logprobs)} log-probs")
    end = next((place for place, token in enumerate(ids) if token in drawing.ends), None)
    stop = len(ids) if end is None else end + 1
    return Answer(ids[:stop], logprobs[:stop], end is not None, weights)


def _check(answer: Answer, drawing: Drawing, vocabulary: int, where: str) -> None:
    strange = [token for token in answer.ids if not 0 <= token < vocabulary or token in drawing.banned]
    if strange:
        raise InputError(
            f"{where} drew the token {strange[0]}, which is banned or not among the model's {vocabulary}; does it "
            "serve the model that is meant?"
        )
    if not 0 < len(answer.ids) <= drawing.length or not (answer.ended or len(answer.ids) == drawing.length):
        raise InputError(
            f"{where} gave an answer of {len(answer.ids)} tokens without an end; asked for: up to {drawing.length} "
            "tokens; is max_model_len of the server large enough for the prompt and the answer?"
        )
    wrong = [value for value in answer.logprobs if not math.isfinite(value) or value > 1e-3]
    if wrong:
        raise InputError(
            f"{where} gave the log-prob {wrong[0]}; a log-prob is a number of at most 0: are the weights finite in the "
            "dtype of the server?"
        )


def runs_of(keys: Sequence[Any]) -> list[tuple[int, int]]:
    """(start, length) of each run of equal keys.

    >>> runs_of(["a", "a", "b", "a"])
    [(0, 2), (2, 1), (3, 1)]
    """
    starts = [place for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    ends = [*starts[1:], len(keys)]
    return [(start, end - start) for start, end in zip(starts, ends, strict=True)]
