"""AMBER's generative scores: what a description names, against what is there and what models tend to make up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eval.benchmarks.amber import Words, words_digest, words_of
from rewards.base import Rollout, Verdict, abstain, per_rollout, unparsed
from rewards.parse.extract import answer_text
from rewards.parse.strings import words

SIMILAR = 0.8  # a listed word that is more similar than that stands for another one
Similar = Callable[[str, Sequence[str]], str | None]


def amber(
    rollouts: Sequence[Rollout], *, similarity: str | None = None, device: str = "auto", dtype: str = "float32"
) -> list[Verdict]:
    """1 - the share of named things that are not there (AMBER's CHAIR; gold: `truth`, `hallu`, the picture's words).

    The words of the description that are in the benchmark's list count, every time. One is right if it is safe, there,
    or goes with what is there. `similarity` is a checkpoint for text embeddings: what is more similar than 0.8 to a
    right or made-up word stands for it then. The published model for that is spaCy's en_core_web_lg, and its nouns are
    those of NLTK's tagger; without `similarity` a word stands for itself alone. `why` holds the counts as JSON.
    """
    similar = nearest_by(similarity, device, dtype) if similarity else None
    return _amber(rollouts, similar=similar, name=similarity or "none")


@per_rollout
def _amber(rollout: Rollout, *, similar: Similar | None, name: str) -> Verdict:
    gold, root = rollout.answer, str(rollout.meta.get("words"))
    if not isinstance(gold, Mapping) or words_digest(root) != gold.get("words_sha256"):
        return abstain(f"the word lists in {root} are not those of the benchmark")
    text = answer_text(rollout.completion)
    counts = counted(text or "", gold["truth"], gold["hallu"], words_of(root), similar)
    why = json.dumps({**counts, "similarity": name})
    if not text:
        return unparsed(why)
    return Verdict(1 - counts["wrong"] / counts["named"] if counts["named"] else 1.0, why)


def counted(
    text: str, truth: Sequence[str], hallu: Sequence[str], lists: Words, similar: Similar | None = None
) -> dict[str, int]:
    """How many listed words a text names, how many of those are wrong, and how many things of both kinds it covers."""
    named = [lists.listed[word] for word in words(text) if word in lists.listed]
    there = {other: word for word in truth for other in sorted(lists.near.get(word, ()))} | {
        word: word for word in truth
    }
    made = {other: word for word in hallu for other in sorted(lists.near.get(word, ()))} | {
        word: word for word in hallu
    }
    covered, imagined, wrong = set[str](), set[str](), 0
    for word in named:
        if word in lists.safe:
            continue
        if word in there:
            covered.add(there[word])
            continue
        if word in made:
            imagined.add(made[word])
        if similar and (stands := similar(word, list(made))):
            imagined.add(made[stands])
        if similar and (stands := similar(word, list(there))):
            covered.add(there[stands])
            continue
        wrong += 1
    sizes = {"truth": len(set(truth)), "hallu": len(set(hallu))}
    return {"named": len(named), "wrong": wrong, "covered": len(covered), "imagined": len(imagined), **sizes}


def nearest_by(model: str, device: str, dtype: str) -> Similar:
    """A look-up of the first word that is similar enough."""
    from rewards.heads.embeddings_torch import text_embeddings

    known: dict[str, Any] = {}

    def vectors(some: Sequence[str]) -> list[Any]:
        if new := [word for word in dict.fromkeys(some) if word not in known]:
            known.update(zip(new, text_embeddings(new, model=model, device=device, dtype=dtype, batch=64), strict=True))
        return [known[word] for word in some]

    def similar(word: str, others: Sequence[str]) -> str | None:
        if not others:
            return None
        mine, *theirs = vectors([word, *others])
        return next((o for o, v in zip(others, theirs, strict=True) if float((mine * v).sum()) > SIMILAR), None)

    return similar
