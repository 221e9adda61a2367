"""AMBER: yes/no questions, and descriptions scored by listed words. Its files are joined by question ids."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default
from eval.benchmarks.cells import listed_texts, picture, yes_or_no
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import answer_pairs, binary, groups, mean, micro, prefixed, ratio, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, per_rollout, unparsed
from rewards.parse.coco_objects import plural
from rewards.parse.extract import answer_text, yes_no
from rewards.parse.strings import words

ANNOTATIONS, RELATION, SAFE = "annotations.json", "relation.json", "safe_words.txt"
ATTRIBUTES = ("state", "number", "action")
DIMENSIONS = ("existence", *ATTRIBUTES, "relation")
SIMILAR = 0.8  # a listed word with a larger similarity stands for the other word
Similar = Callable[[str, Sequence[str]], str | None]


@dataclass(frozen=True, slots=True)
class Words:
    """AMBER's words: the listed word of each form, the related words of each, and those that are never wrong."""

    listed: dict[str, str]
    near: dict[str, frozenset[str]]
    safe: frozenset[str]


def amber_questions(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """The yes/no questions with answers (`truth`) and types: joined from the official files, or rows as they are."""
    if (questions := _named(files, "query_discriminative.json")) is None:
        yield from rows_of(files, columns)
    else:
        yield from _joined(questions, _needed(files, ANNOTATIONS), columns)


def amber_descriptions(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """The images to describe, with the objects in them (`truth`), those that models often add (`hallu`), and the
    directory of the word lists (`words`)."""
    root = _needed(files, RELATION).parent
    words_sha256 = words_digest(str(root))
    for row in _joined(_needed(files, "query_generative.json"), _needed(files, ANNOTATIONS), columns):
        yield {**row, "words": str(root.resolve()), "words_sha256": words_sha256}


@functools.cache
def words_of(root: str) -> Words:
    """The word lists in a directory. A plural is a form of its singular."""
    relation = json.loads((Path(root) / RELATION).read_text(encoding="utf-8"))
    near = {str(word): frozenset(map(str, others)) for word, others in relation.items()}
    every = {*near, *(word for others in near.values() for word in others)}
    forms = {plural(word): word for word in sorted(every) if word} | {word: word for word in every}
    return Words(forms, near, frozenset((Path(root) / SAFE).read_text(encoding="utf-8").split("\n")) - {""})


@functools.cache
def words_digest(root: str) -> str:
    """The hash of the word lists in a directory: 16 hex digits."""
    whole = hashlib.sha256()
    for name in (RELATION, SAFE):
        path = Path(root) / name
        if not path.is_file():
            raise InputError(f"AMBER's word list {path} is missing; expected {RELATION} and {SAFE} together")
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def discriminative_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A yes/no row of AMBER: `truth` is yes or no, `type` like discriminative-attribute-state."""
    dimension = str(row["type"]).rsplit("-", 1)[-1].removeprefix("discriminative")
    if dimension not in DIMENSIONS:
        dimension = {"hallucination": "existence"}.get(dimension, dimension)
    meta = {"dimension": dimension}
    text = f"{row['query']}\nAnswer yes or no."
    yield Item(str(row["id"]), "yesno", text, {"yesno": yes_or_no(row["truth"])}, picture(row["image"]), meta)


def discriminative_metrics(records: Sequence[Record]) -> Metrics:
    """Accuracy, precision, recall and F1 with no as the positive answer, of all and of each dimension. `official`
    accepts exactly Yes or No and adds 0.001 to denominators."""
    numbers = binary(answer_pairs(records, yes_no), positive=False)
    parts = groups(records, "dimension")
    attributes = [record for name in ATTRIBUTES for record in parts.get(name, [])]
    for name, group in {**parts, **({"attribute": attributes} if attributes else {})}.items():
        numbers |= prefixed(name, binary(answer_pairs(group, yes_no), positive=False))
    exact = binary(answer_pairs(records, {"Yes": True, "No": False}.get), positive=False, smooth=0.001)
    return numbers | prefixed("official", exact)


def generative_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image to describe, with words for the objects in it and for those that models often add."""
    answer = {
        "truth": listed_texts(row["truth"]),
        "hallu": listed_texts(row["hallu"]),
        "words_sha256": row["words_sha256"],
    }
    yield Item(
        str(row["id"]), "caption", str(row["query"]), answer, picture(row["image"]), {"words": str(row["words"])}
    )


def generative_metrics(records: Sequence[Record]) -> Metrics:
    """CHAIR, Hal, Cog (lower is better) and Cover, over all words, objects and replies."""
    counts = [json.loads(record.why["accuracy"]) for record in records if record.scores.get("accuracy") is not None]
    total = {
        key: sum(count[key] for count in counts) for key in ("named", "wrong", "covered", "truth", "imagined", "hallu")
    }
    return {
        "chair": ratio(total["wrong"], total["named"]),
        "cover": ratio(total["covered"], total["truth"]),
        "hal": mean(float(count["wrong"] > 0) for count in counts),
        "cog": ratio(total["imagined"], total["hallu"]),
        "accuracy": micro(records),
        "unparsed": unparsed_share(records),
    }


def amber_chair(
    rollouts: Sequence[Rollout],
    *,
    similarity: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    as_released: bool = False,
) -> list[Verdict]:
    """1 - the share of named objects that are not in the image (AMBER's CHAIR; gold: `truth`, `hallu`).

    Every listed word of the description counts, each time. It is right if it is a safe word, in `truth`, or related to
    a word in `truth`. `similarity` is a checkpoint for text embeddings: a word with a similarity above 0.8 to a word of
    `truth` or `hallu` then stands for it. The published model is spaCy's en_core_web_lg, with the nouns of NLTK's
    tagger. Without `similarity` a word stands for itself alone. With `as_released` a
    word stands for the first object that it is associated with, even if it is an object itself: then `cover` is lower.
    `why` holds the counts as JSON.
    """
    similar = nearest_by(similarity, device, dtype) if similarity else None
    return _amber_chair(rollouts, similar=similar, name=similarity or "none", as_released=as_released)


@per_rollout
def _amber_chair(rollout: Rollout, *, similar: Similar | None, name: str, as_released: bool) -> Verdict:
    gold, root = rollout.answer, str(rollout.meta.get("words"))
    if not isinstance(gold, Mapping) or words_digest(root) != gold.get("words_sha256"):
        return abstain(f"the word lists in {root} are not those of the benchmark")
    text = answer_text(rollout.answered)
    counts = counted(text or "", gold["truth"], gold["hallu"], words_of(root), similar, as_released)
    why = json.dumps({**counts, "similarity": name})
    if not text:
        return unparsed(why)
    return Verdict(1 - counts["wrong"] / counts["named"] if counts["named"] else 1.0, why)


def counted(
    text: str,
    truth: Sequence[str],
    hallu: Sequence[str],
    lists: Words,
    similar: Similar | None = None,
    as_released: bool = False,
) -> dict[str, int]:
    """The number of listed words in a text, of wrong ones among them, and of covered objects of both kinds."""
    named = [lists.listed[word] for word in words(text) if word in lists.listed]
    there, made = (_stands_for(objects, lists.near, as_released) for objects in (truth, hallu))
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


def _stands_for(objects: Sequence[str], near: Mapping[str, Collection[str]], as_released: bool) -> dict[str, str]:
    """The object that a word stands for: itself, else the last that it is associated with; or as released, the first
    that it is associated with, else itself.

    >>> _stands_for(["dog", "cat"], {"cat": ["dog"]}, False), _stands_for(["dog", "cat"], {"cat": ["dog"]}, True)
    ({'dog': 'dog', 'cat': 'cat'}, {'cat': 'cat', 'dog': 'cat'})
    """
    themselves = [(word, word) for word in objects]
    associated = [(other, word) for word in objects for other in sorted(near.get(word, ()))]
    return dict([*themselves[::-1], *associated[::-1]] if as_released else [*associated, *themselves])


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


def _joined(questions: Path, annotations: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    known = {annotation.get("id"): annotation for annotation in rows_of([annotations], ("id", "type", "truth"))}
    for row in rows_of([questions], ("id", "image", "query")):
        if row["id"] not in known:
            raise InputError(f"{annotations} has no entry for the question {row['id']}")
        whole = {**known[row["id"]], **row}
        if missing := [name for name in columns if name not in whole]:
            raise InputError(f"question {row['id']} has no {', '.join(missing)}; it has {', '.join(whole)}")
        yield whole


def _named(files: list[Path], name: str) -> Path | None:
    return next((file for file in files if file.name == name), None)


def _needed(files: list[Path], name: str) -> Path:
    path = _named(files, name)
    if path is None:
        raise InputError(f"AMBER's {name} is not among {', '.join(sorted(file.name for file in files))}")
    return path


BENCHMARKS = [
    Benchmark(
        name="amber_discriminative",
        version=2,
        about="Yes or no: existence, attributes, relations. F1 with no as the positive answer.",
        hub="junyangwang0410/AMBER",
        columns=("id", "image", "query", "truth", "type"),
        items=discriminative_items,
        scorers={"accuracy": default("yesno_match")},
        metrics=discriminative_metrics,
        known_by="f1",
        rows=14216,
        read=amber_questions,
    ),
    Benchmark(
        name="amber_generative",
        about="A description. CHAIR, cover, Hal and Cog over listed words; with the above AMBER score.",
        hub="junyangwang0410/AMBER, data/",
        columns=("id", "image", "query", "truth", "hallu"),
        items=generative_items,
        scorers={"accuracy": default("eval.benchmarks.published.amber:amber_chair")},
        metrics=generative_metrics,
        known_by="chair",
        split="",
        rows=1004,
        read=amber_descriptions,
        needs="spaCy's en_core_web_lg for the published word similarity: here an embedding model, or none",
    ),
]
