"""MMMU: college exam questions with images at their places in the text, choices and open answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from eval.benchmarks.base import Benchmark, Item, Row, default, variant
from eval.benchmarks.cells import SHORT, choice_answer, choice_text, letter_index, listed_texts, picture
from eval.benchmarks.metrics import scored_by
from eval.benchmarks.scoring import PLAIN_NUMBER, by_task, text_and_golds
from mmrl.core.vision import CoordinateSpace
from rewards import Rollout, Verdict, get
from rewards.base import gold, per_rollout, unparsed
from rewards.parse.extract import answer_text, finite

DISCIPLINES = {
    "art_design": ("Art", "Art_Theory", "Design", "Music"),
    "business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "health_medicine": (
        *("Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine"),
        *("Pharmacy", "Public_Health"),
    ),
    "humanities": ("History", "Literature", "Psychology", "Sociology"),
    "engineering": (
        *("Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics", "Energy_and_Power"),
        *("Materials", "Mechanical_Engineering"),
    ),
}
_DISCIPLINE_OF = {subject: name for name, subjects in DISCIPLINES.items() for subject in subjects}
_MARKER = re.compile(r"<image (\d)>")
_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBER = re.compile(r"-?(?:(?<!\d)\.\d+|\b\d{1,3}(?:,\d{3})+(?:\.\d+)?|\b\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\d,])")
_LETTERED = (r"\(([{0}])\)", r"(?<![A-Za-z])([{0}]) ", r"(?<![A-Za-z])([{0}])\.")


def mmmu_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of MMMU: options are the text of a list. Images replace their markers; those without one come first."""
    options = listed_texts(row["options"])
    chosen = row["question_type"] == "multiple-choice"
    question = str(row["question"])
    text = choice_text(question, options) if chosen else f"{question}\n{SHORT}"
    order = [int(number) for number in _MARKER.findall(text)]
    left = [n for n in range(1, 8) if n not in order and picture(row.get(f"image_{n}"))]
    text = "<image>" * len(left) * bool(order) + _MARKER.sub("<image>", text)
    golds = listed_texts(row["answer"]) if str(row["answer"]).startswith("[") else [str(row["answer"])]
    subject = re.sub(r"^(?:dev|test|validation)_|_\d+$", "", str(row["id"]))
    yield Item(
        id=str(row["id"]),
        task="choice" if chosen else "text",
        text=text,
        answer=choice_answer(options, letter_index(row["answer"])) if chosen else {"text": golds},
        media=tuple(medium for n in [*left, *order] for medium in picture(row.get(f"image_{n}"))),
        meta={"subject": subject, "discipline": _DISCIPLINE_OF.get(subject, "other")},
    )


def mmmu_match(rollouts: Sequence[Rollout], *, official: bool = False, math: bool = False) -> list[Verdict]:
    """MMMU: choices by their letter (`official`: by the published parser), open items by the published rule (`math`: by
    mathematical equivalence with any of the gold answers)."""
    choice = mmmu_choice if official else get("choice_match")
    return by_task(rollouts, {"choice": choice}, _any_math if math else mmmu_open)


@per_rollout
def mmmu_choice(rollout: Rollout) -> Verdict:
    """1 if MMMU's published parser reads the gold letter (gold: `choice`, `options`).

    It looks for "(A)", then "A ", then "A.", then in replies of more than 5 words for the text of an option; the last
    one wins. If it finds nothing, the published parser guesses at random; here the answer is unparsed.

    >>> gold = {"choice": "B", "options": ["cat", "dog"]}
    >>> [one.score for one in mmmu_choice([Rollout("Not (A) but (B)", gold), Rollout("Hm", gold)])]
    [1.0, 0.0]
    """
    right, options = gold(rollout, "choice"), rollout.answer["options"]
    text = answer_text(rollout.answered)
    if not text:
        return unparsed("no answer")
    reply, letters = f" {text.strip(',.!?;:' + chr(39))} ", ascii_uppercase[: len(options)]
    for pattern in _LETTERED:
        if matches := re.findall(pattern.format(letters), reply):
            return Verdict(float(matches[-1] == right), f"answered {matches[-1]}")
    if len(reply.split()) > 5:
        places = [reply.lower().rfind(str(option).lower()) for option in options]
        place, letter = max(zip(places, letters, strict=True))
        if place >= 0:
            return Verdict(float(letter == right), f"answered {letter}")
    return unparsed(f"none of {letters}")


@per_rollout
def mmmu_open(rollout: Rollout) -> Verdict:
    """1 if a candidate answer is right by MMMU's published rule (gold: `text`, any of).

    Candidates are the shortest text after a cue in each line, or the whole reply, and all numbers in them, rounded to
    2 decimals. A candidate must contain a gold text, or equal a gold number. 1/2 is not 0.5.

    >>> [one.score for one in mmmu_open([Rollout("So the answer is 1,200.", "1200"), Rollout("1/2", "0.5")])]
    [1.0, 0.0]
    """
    read = text_and_golds(rollout)
    if isinstance(read, Verdict):
        return read
    text, golds = read
    tails = _tails(text.strip().strip(".").lower())
    numbers = {round(value, 2) for tail in tails for value in _numbers(tail)}
    hit = any(_open_right(right, tails, numbers) for right in golds)
    return Verdict(float(hit), f"read {tails[:3]}")


def _any_math(rollouts: Sequence[Rollout]) -> list[Verdict]:
    match = get("math_match")
    best = []
    for rollout in rollouts:
        golds = [Rollout(rollout.answered, {"math": answer}) for answer in rollout.answer["text"]]
        best.append(max(match(golds), key=lambda verdict: -1.0 if verdict.score is None else verdict.score))
    return best


def _tails(reply: str) -> list[str]:
    """The shortest text after a cue in each line; the whole reply if there is none."""
    lines = [line.strip() for line in reply.split("\n") if line.strip()]
    endings = []
    for i, line in enumerate(lines):
        cues = (*_CUES, "=") if i == len(lines) - 1 else _CUES
        tails = [line.rsplit(cue, 1)[1].strip() for cue in cues if cue in line]
        shortest = min(tails, key=len, default="")
        if shortest and shortest not in set(":,.!?;'"):
            endings.append(shortest)
    return endings or [reply]


def _numbers(text: str) -> list[float]:
    values = [finite(match.replace(",", "")) for match in _NUMBER.findall(text)]
    return [value for value in values if value is not None]


def _open_right(right: str, tails: Sequence[str], numbers: set[float]) -> bool:
    plain = right.strip().replace(",", "")
    value = finite(plain) if PLAIN_NUMBER.fullmatch(plain) else None
    if value is not None:
        return round(value, 2) in numbers
    text = right.strip().lower()
    if len(text) == 1:
        return any(form in f" {tail} " for tail in tails for form in (f" {text}", f"{text} "))
    return any(text in tail for tail in tails)


BENCHMARKS = [
    Benchmark(
        name="mmmu_val",
        version=2,
        about="A letter or a phrase about college exam questions with images in the text. Accuracy by discipline.",
        hub="MMMU/MMMU",
        columns=("id", "question", "options", "answer", "question_type", "image_1"),
        items=mmmu_items,
        scorers={
            "accuracy": default("eval.benchmarks.published.mmmu:mmmu_match"),
            "official": variant("eval.benchmarks.published.mmmu:mmmu_match", official=True),
            "math": variant("eval.benchmarks.published.mmmu:mmmu_match", math=True),
        },
        metrics=scored_by("discipline", "subject"),
        split="validation",
        rows=900,
    ),
]
