"""One scorer for benchmarks whose items are of several kinds: the task of a rollout decides its rule."""

from __future__ import annotations

from collections.abc import Sequence

from rewards import Reward, Rollout, Verdict, get


def choice_or_text(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """`choice_match` for choices, `text_match` for everything else.

    >>> choice_or_text([Rollout("3.", {"text": ["3"]}, task="text")])[0].score
    1.0
    """
    return _by_task(rollouts, {"choice": get("choice_match")}, get("text_match"))


def choice_or_yesno(rollouts: Sequence[Rollout]) -> list[Verdict]:
    """`choice_match` for choices, `yesno_match` for everything else."""
    return _by_task(rollouts, {"choice": get("choice_match")}, get("yesno_match"))


def mmmu(rollouts: Sequence[Rollout], *, official: bool = False, math: bool = False) -> list[Verdict]:
    """MMMU: the letter of a choice (`official`: by the published parser), and open items by the published rule (`math`:
    by mathematical equivalence with any of the golds)."""
    choice = get("eval.scorers.exams:mmmu_choice" if official else "choice_match")
    return _by_task(rollouts, {"choice": choice}, _any_math if math else get("eval.scorers.exams:mmmu_open"))


def mathematics(rollouts: Sequence[Rollout], *, decimals: int | None = None) -> list[Verdict]:
    """The letter or the option's value of a choice, an equivalent expression otherwise; with `decimals`, values are
    compared after rounding."""
    choice = get("eval.scorers.exams:letter_or_value", decimals=decimals)
    if decimals is None:
        return _by_task(rollouts, {"choice": choice}, get("math_match"))
    return _by_task(rollouts, {"choice": choice}, get("eval.scorers.exams:rounded_match", decimals=decimals))


def _any_math(rollouts: Sequence[Rollout]) -> list[Verdict]:
    match = get("math_match")
    best = []
    for rollout in rollouts:
        golds = [Rollout(rollout.completion, {"math": one}) for one in rollout.answer["text"]]
        best.append(max(match(golds), key=lambda verdict: -1.0 if verdict.score is None else verdict.score))
    return best


def _by_task(rollouts: Sequence[Rollout], rules: dict[str, Reward], otherwise: Reward) -> list[Verdict]:
    return [rules.get(rollout.task, otherwise)([rollout])[0] for rollout in rollouts]
