"""Short answers about photographs: VQAv2, TextVQA, VizWiz by agreement with annotators; GQA, OCR-VQA exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from eval.benchmarks.base import Benchmark, Item, Row, default, variant
from eval.benchmarks.cells import SHORT, listed
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import scored_by
from eval.benchmarks.published.documents import short_item
from eval.benchmarks.scoring import text_and_golds
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.parse.extract import answer_text, composed, undressed

VQA = {
    "accuracy": default("eval.benchmarks.published.vqa:vqa_accuracy"),
    "official": variant("eval.benchmarks.published.vqa:vqa_accuracy", variant="official"),
}
_TEXTVQA = VQA | {"evalai": variant("eval.benchmarks.published.vqa:vqa_accuracy", variant="evalai")}
_EXACT = {"accuracy": default("eval.benchmarks.published.vqa:exact_match")}
_COLUMNS = ("question", "image", "answers")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(digit) for digit, word in enumerate(_DIGITS)}
_ARTICLES = {"a", "an", "the"}
_CONTRACTED = (
    "ain't aren't can't couldn't could've didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'd "
    "I'm I've isn't it'd it'll let's ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't "
    "she's shouldn't should've somebody's someone's something's that's there'd there're there's they'd they'll they're "
    "they've wasn't we'd we've weren't what'll what're what's what've when's where'd where's where've who'd who'll "
    "who's who've why'll why're why's won't wouldn't would've y'all you'd you'll you're you've"
)
_CONTRACTIONS = {word.replace("'", "").lower(): word for word in _CONTRACTED.split()}


def vqa_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row with up to ten annotators' answers, as texts or as mappings with the key `answer`."""
    answers = [str(answer["answer"] if isinstance(answer, Mapping) else answer) for answer in listed(row["answers"])]
    text, answer = f"{row['question']}\n{SHORT}", {"text": answers[:1], "answers": answers}
    yield short_item(row.get("question_id"), "text", text, row, answer, {"kind": row.get("answer_type")})


def exact_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row with one answer."""
    yield short_item(row.get("id"), "text", f"{row['question']}\n{SHORT}", row, {"text": [str(row["answer"])]}, {})


def gqa_rows(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows of GQA; its hub dataset holds images (id, image) and questions (imageId) in different files."""
    pictures: dict[Any, Any] = {}
    asked: list[Row] = []
    for file in files:
        for row in rows_of([file], ("id",)):
            if "question" in row:
                asked.append(row)
            elif "image" in row:
                pictures[row["id"]] = row["image"]
    for row in asked:
        whole = {"image": pictures[row["imageId"]], **row} if row.get("imageId") in pictures else row
        if missing := [name for name in columns if name not in whole]:
            raise InputError(f"question {row['id']} has no {', '.join(missing)}; it has {', '.join(whole)}")
        yield whole


@per_rollout
def vqa_accuracy(rollout: Rollout, *, variant: Literal["default", "official", "evalai"] = "default") -> Verdict:
    """Agreement with annotators: the mean over leaving each one out of min(agreeing others / 3, 1) (gold: `answers`).

    `official` normalises only if the annotators differ; `evalai` first removes commas and question marks and separates
    "'s". With a single gold answer that mean is always 0, so it is compared exactly.

    >>> golds = {"answers": ["cat"] * 2 + ["dog"] * 8}
    >>> round(vqa_accuracy([Rollout("A cat.", golds)])[0].score, 3)
    0.6
    """
    golds = gold(rollout, "answers")
    if not isinstance(golds, Sequence) or isinstance(golds, str) or not golds:
        return abstain(f"gold answers {golds!r:.80} are not a list of texts")
    text = answer_text(rollout.answered)
    if not text:
        return unparsed("no answer")
    predicted, others = text, [str(right) for right in golds]
    if variant == "evalai":
        predicted, others = _split_s(predicted), [_split_s(other) for other in others]
    if variant != "official" or len(set(others)) > 1:
        predicted, others = vqa_normal(predicted), [vqa_normal(other) for other in others]
    agreeing = others.count(predicted)
    if len(others) == 1:
        return Verdict(float(agreeing), f"answered {predicted[:80]}")
    left_out = [min((agreeing - (other == predicted)) / 3, 1.0) for other in others]
    return Verdict(sum(left_out) / len(left_out), f"{agreeing} of {len(others)} answered {predicted[:80]}")


def vqa_normal(text: str) -> str:
    """A text as VQA compares it: no punctuation, digits for number words, no articles, apostrophes restored.

    >>> vqa_normal("The two dogs, dont!"), vqa_normal("1,000"), vqa_normal("red/blue")
    ("2 dogs don't", '1000', 'red blue')
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    spaced, digits = text, bool(_DIGIT_COMMA.search(text))
    for mark in _PUNCTUATION:
        touching = f"{mark} " in text or f" {mark}" in text
        spaced = spaced.replace(mark, "" if touching or digits else " ")
    words = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", spaced).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@per_rollout
def exact_match(rollout: Rollout) -> Verdict:
    """1 if the answer is a gold text but for case, dress and a final period (gold: `text`, any of).

    >>> [one.score for one in exact_match([Rollout(" Red.", "red"), Rollout("dark red", "red")])]
    [1.0, 0.0]
    """
    read = text_and_golds(rollout)
    if isinstance(read, Verdict):
        return read
    text, golds = read
    same = _bare(text) in {_bare(right) for right in golds}
    return Verdict(float(same), f"answered {text[:80]}")


def _bare(text: str) -> str:
    return undressed(composed(text)).strip().casefold().removesuffix(".")


def _split_s(text: str) -> str:
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's")


BENCHMARKS = [
    Benchmark(
        name="vqav2",
        version=2,
        about="A word or phrase. Agreement with ten annotators.",
        hub="lmms-lab/VQAv2",
        columns=_COLUMNS,
        items=vqa_items,
        scorers=VQA,
        metrics=scored_by("kind"),
        split="validation",
        rows=214354,
    ),
    Benchmark(
        name="textvqa",
        version=2,
        about="A word or phrase that is written in the image. Agreement with ten annotators.",
        hub="lmms-lab/textvqa",
        columns=_COLUMNS,
        items=vqa_items,
        scorers=_TEXTVQA,
        metrics=scored_by(),
        split="validation",
        rows=5000,
    ),
    Benchmark(
        name="vizwiz",
        version=2,
        about="A word or phrase about photographs by blind people; some have no answer. Agreement with ten annotators.",
        hub="lmms-lab/VizWiz-VQA",
        columns=_COLUMNS,
        items=vqa_items,
        scorers=VQA,
        metrics=scored_by(),
        split="val",
    ),
    Benchmark(
        name="gqa",
        version=2,
        about="A word about a scene. Exactly the answer, but for case and blanks around it.",
        hub="lmms-lab/GQA",
        columns=("id", "question", "answer", "image"),
        items=exact_items,
        scorers=_EXACT,
        metrics=scored_by(),
        split="testdev",
        read=gqa_rows,
        folders=("testdev_balanced_images", "testdev_balanced_instructions"),
    ),
    Benchmark(
        name="ocrvqa",
        version=2,
        about="A phrase from a book cover. Exactly the answer, but for case and blanks around it.",
        hub="howard-hou/OCR-VQA",
        columns=("question", "answer", "image"),
        items=exact_items,
        scorers=_EXACT,
        metrics=scored_by(),
    ),
]
