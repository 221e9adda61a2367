"""One scorer for benchmarks whose items are of several kinds: the task of a rollout decides its rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from rewards import Reward, Rollout, Verdict, get
from rewards.base import per_rollout, unparsed
from rewards.parse.extract import answer_text, choice_letter


def choice_or_text(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """`choice_match` for choices, `text_match` for everything else.

    >>> choice_or_text([Rollout("3.", {"text": ["3"]}, task="text")])[0].score
    1.0
    """
    return _by_task(rollouts, {"choice": get("choice_match")}, get("text_match"))


@per_rollout
def tempcompass(rollout: Rollout) -> Verdict:
    """TempCompass by its rules alone: an exact option line, its name, its letter or its text; yes or no as first word.

    Gold: `choice` and `options`, with `names` where options are called otherwise than A, B ...; or `yesno`.

    >>> two = {"choice": "B", "options": ["it runs", "it sits"], "names": ["Option 1", "Option 2"]}
    >>> said = ("Option 2: it sits", "option 1", "it sits.")
    >>> [one.score for one in tempcompass([Rollout(text, two) for text in said])]
    [1.0, 0.0, 1.0]
    """
    text, answer = answer_text(rollout.completion), rollout.answer
    if not text:
        return unparsed("no answer")
    if "yesno" in answer:
        begun = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
        return (
            Verdict(float((begun[1].lower() == "yes") == answer["yesno"]), begun[1]) if begun else unparsed("neither")
        )
    letters = ascii_uppercase[: len(answer["options"])]
    names = answer.get("names") or letters
    said = text.casefold().lstrip("(*\"' ")
    called = [
        letter for letter, name in zip(letters, names, strict=True) if re.match(rf"{name.casefold()}(?!\w)", said)
    ]
    letter = (
        called[0] if len(called) == 1 and len(str(names[0])) > 1 else choice_letter(text, letters, answer["options"])
    )
    return unparsed("no option") if letter is None else Verdict(float(letter == answer["choice"]), f"said {letter}")


def mmmu(rollouts: Sequence[Rollout], *, official: bool = False, math: bool = False) -> list[Verdict]:
    """MMMU: the letter of a choice (`official`: by the published parser), and open items by the published rule (`math`:
    by mathematical equivalence with any of the golds)."""
    choice = get("eval.scorers.exams:mmmu_choice" if official else "choice_match")
    return _by_task(rollouts, {"choice": choice}, _any_math if math else get("eval.scorers.exams:mmmu_open"))


def mathematics(rollouts: Sequence[Rollout], *, decimals: int | None = None) -> list[Verdict]:
    """The letter or the option's value of a choice, an equivalent expression otherwise; with `decimals`, values are
    compared after rounding, and expressions as before where one of the two is no plain value."""
    choice = get("eval.scorers.exams:letter_or_value", decimals=decimals)
    verdicts = _by_task(rollouts, {"choice": choice}, get("math_match"))
    if decimals is not None:
        rounded = get("eval.scorers.exams:rounded_match", decimals=decimals)
        open_ = [i for i, rollout in enumerate(rollouts) if rollout.task != "choice"]
        for i, verdict in zip(open_, rounded([rollouts[i] for i in open_]), strict=True):
            verdicts[i] = verdict if verdict.kind == "scored" else verdicts[i]
    return verdicts


def _any_math(rollouts: Sequence[Rollout]) -> list[Verdict]:
    match = get("math_match")
    best = []
    for rollout in rollouts:
        golds = [Rollout(rollout.completion, {"math": one}) for one in rollout.answer["text"]]
        best.append(max(match(golds), key=lambda verdict: -1.0 if verdict.score is None else verdict.score))
    return best


def _by_task(rollouts: Sequence[Rollout], rules: dict[str, Reward], otherwise: Reward) -> list[Verdict]:
    return [rules.get(rollout.task, otherwise)([rollout])[0] for rollout in rollouts]
