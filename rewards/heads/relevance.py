"""Nearness of texts in the space of a text encoder: R3's relevance, and DR-IRL's similarity to a demonstration.

Shapes: K clauses of an answer, L clauses of a gold text, D dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from mmrl.core.messages import texts_of
from rewards.base import Rollout, Verdict, abstain, unparsed
from rewards.heads.reward_model import Batch, ModelName
from rewards.parse.extract import answer_text
from rewards.parse.strings import gold_texts

OPEN_TASKS = ["open", "caption"]
CLAUSE_END = re.compile(r"(?<=[.!?;:,])\s+|\n+")


def relevance(
    rollouts: Sequence[Rollout],
    *,
    model: ModelName,
    open_tasks: list[str] = OPEN_TASKS,
    cap: Annotated[float, Field(gt=0)] = 3.0,
    batch: Batch = 16,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """Relevance by a text encoder, times the share of distinct trigrams, times length for open questions (R3).

    Source: 2402.03469. Rollouts of `open_tasks`: cos(question, answer) x min(words / 100, cap) / cap x distinct
    trigrams. All others: cos(gold text, answer) x distinct trigrams, for several gold texts the best. In the paper the
    length has no bound, and its rescaling of the second branch is unknown: `cap`, the division by it and the bare
    cosine are ours, and so is a trigram share of 0 for fewer than three words. The question's type is its task here,
    not the output of a classifier. `model` is an encoder such as Contriever or MiniLM, mean-pooled; a negative cosine
    counts as 0.
    """
    from rewards.heads.embeddings_torch import text_embeddings

    verdicts = [abstain("no question or gold text")] * len(rollouts)
    asked: list[tuple[int, str, list[str], bool]] = []
    for i, rollout in enumerate(rollouts):
        answer = answer_text(rollout.answered)
        is_open = rollout.task in open_tasks
        prompt = rollout.prompt
        listed = (
            [prompt]
            if isinstance(prompt, str)
            else ["".join(texts_of(m["content"])) for m in prompt or () if m["role"] == "user"]
        )
        against = [text for text in listed[-1:] if text.strip()] if is_open else gold_texts(rollout)
        if not answer or not answer.strip():
            verdicts[i] = unparsed("empty answer")
        elif against:
            asked.append((i, answer, against, is_open))
    texts = list(dict.fromkeys(text for _, answer, against, _ in asked for text in (answer, *against)))
    if not texts:
        return verdicts
    vectors = dict(
        zip(texts, text_embeddings(texts, model=model, device=device, dtype=dtype, batch=batch), strict=True)
    )
    for i, answer, against, is_open in asked:
        near = max(float(vectors[answer] @ vectors[text]) for text in against)
        long, distinct = min(length_incentive(answer), cap) / cap, distinct_trigrams(answer)
        score = r3(min(max(near, 0.0), 1.0), distinct, long if is_open else 1.0)
        verdicts[i] = Verdict(score, f"relevance {near:.3f}, distinct trigrams {distinct:.3f}")
    return verdicts


def clause_similarity(
    rollouts: Sequence[Rollout], *, model: ModelName, batch: Batch = 16, device: str = "auto", dtype: str = "float32"
) -> list[Verdict]:
    """The mean over the clauses of an answer of the cosine to the nearest clause of a gold text (DR-IRL, 2503.18991).

    A clause ends at a line's end, or at one of `. ! ? ; : ,` before a blank. For several gold texts the best counts. A
    negative mean is 0. The estimator `grpo_s` takes 1 less this score as the hardness of a rollout, with any weight.
    `model` is an encoder as for `relevance`.

    >>> nearest_clauses([[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0]])
    0.8
    """
    from rewards.heads.embeddings_torch import text_embeddings

    answers = [clauses(answer_text(rollout.answered) or "") for rollout in rollouts]
    golds = [[clauses(text) for text in gold_texts(rollout) if text.strip()] for rollout in rollouts]
    texts = list(
        dict.fromkeys(text for parts in (*answers, *(one for each in golds for one in each)) for text in parts)
    )
    vectors_TD = text_embeddings(texts, model=model, device=device, dtype=dtype, batch=batch) if texts else None
    places = {text: place for place, text in enumerate(texts)}
    verdicts: list[Verdict] = []
    for answer, references in zip(answers, golds, strict=True):
        if not references:
            verdicts.append(abstain("no gold text"))
        elif not answer or vectors_TD is None:
            verdicts.append(unparsed("empty answer"))
        else:
            answer_KD = vectors_TD[[places[text] for text in answer]]
            near = max(nearest_clauses(answer_KD, vectors_TD[[places[t] for t in gold]]) for gold in references)
            verdicts.append(Verdict(min(max(near, 0.0), 1.0), f"{len(answer)} clauses"))
    return verdicts


def nearest_clauses(answer_KD: ArrayLike, gold_LD: ArrayLike) -> float:
    """The mean over the rows of the largest inner product with a row of the other."""
    return float((np.asarray(answer_KD) @ np.asarray(gold_LD).T).max(axis=1).mean())


def clauses(text: str) -> list[str]:
    """The clauses of a text.

    >>> clauses("A red car, parked. Nobody is there!")
    ['A red car,', 'parked.', 'Nobody is there!']
    """
    return [part.strip() for part in CLAUSE_END.split(text) if part.strip()]


def r3(near: float, distinct: float, long: float = 1.0) -> float:
    """Relevance x distinct trigrams, x the length incentive if the question is open-ended.

    >>> round(r3(0.8, 0.875, 0.1), 7), round(r3(0.62, 0.95, 1.2), 7), round(r3(0.7, 0.95), 7)
    (0.07, 0.7068, 0.665)
    """
    return near * distinct * long


def length_incentive(text: str) -> float:
    """The number of words over 100.

    >>> length_incentive("a b c a b c d e f g")
    0.1
    """
    return len(text.split()) / 100


def distinct_trigrams(text: str) -> float:
    """The share of distinct word trigrams, 0 for fewer than three words.

    >>> distinct_trigrams("a b c a b c d e f g")
    0.875
    """
    words = text.split()
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 0.0
