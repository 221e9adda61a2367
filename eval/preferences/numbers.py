"""The numbers that reward-model benchmarks report, from the choices and the scores of their candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from eval.benchmarks.metrics import mean
from eval.preferences.items import Choice
from eval.preferences.ranking import kendall, order_right, pairs, right_share, ties_score, with_ties, without_ties

Judged = Sequence[tuple[Choice, Sequence[float]]]
Numbers = dict[str, float | None]

EDIT_GROUPS = {  # EditScore's groups by words in the names of tasks; all other tasks are advanced
    "object": ("subject",),
    "appearance": ("color", "colour", "material", "style", "tone"),
    "scene": ("background", "extract"),
}


def by_group(judged: Judged) -> Numbers:
    """Accuracy over all items, by group, and the mean of the groups."""
    parts = {name: mean(right_share(s, c.ranks) for c, s in group) for name, group in _grouped(judged).items()}
    return {"overall": mean(right_share(s, c.ranks) for c, s in judged), "macro": mean(parts.values()), **parts}


def rewardbench_2_numbers(judged: Judged) -> Numbers:
    """The best-of-4 score of each subset, the ties rule for Ties, and the mean of the subsets."""
    numbers: Numbers = {}
    for name, group in _grouped(judged).items():
        if name.casefold() != "ties":
            numbers[name] = mean(right_share(s, c.ranks) for c, s in group)
            continue
        ties = ties_score([(str(c.meta["id"]), s, c.ranks) for c, s in group])
        numbers |= (
            {name: ties["score"], f"{name}.ref": ties["ref"], f"{name}.tied": ties["tied"]} if ties else {name: None}
        )
    return {"overall": mean(value for name, value in numbers.items() if "." not in name), **numbers}


def best_of_n_numbers(judged: Judged) -> Numbers:
    """The accuracy of the picked solutions (the expected one for ties), of a random pick, and of an oracle."""
    return {
        "picked": mean(right_share(s, c.ranks) for c, s in judged),
        "random": mean(1 - sum(c.ranks) / len(c.ranks) for c, _ in judged),
        "oracle": mean(float(0 in c.ranks) for c, _ in judged),
        **{f"picked.{name}": mean(right_share(s, c.ranks) for c, s in g) for name, g in _grouped(judged).items()},
    }


def ranking_numbers(judged: Judged) -> Numbers:
    """How scores order the answers to a prompt, over all and by group: the accuracy of the picked ones (the expected
    one for ties) and over pairs with a preference (equal scores are wrong), and Kendall's tau."""
    groups = _grouped(judged)
    parts = {"": judged} | ({f".{name}": group for name, group in groups.items()} if len(groups) > 1 else {})
    return {f"{number}{name}": value for name, part in parts.items() for number, value in _order_numbers(part).items()}


def editreward_ranking_numbers(judged: Judged) -> Numbers:
    """Pairwise accuracy (K=2 with ties, at the best threshold) and the share of groups in the right order."""
    groups = _grouped(judged)
    two = with_ties([pair for c, s in groups.get("K=2", []) for pair in pairs(s, c.ranks)])
    threshold = two[1] if two else None
    numbers: Numbers = {"K=2.pairwise": two[0] if two else None, "K=2.threshold": threshold}
    strict: list[float] = []
    for name, group in groups.items():
        right = [_ordered(c, s, threshold) for c, s in group]
        if name != "K=2":
            numbers[f"{name}.pairwise"] = without_ties([pair for c, s in group for pair in pairs(s, c.ranks)])
        numbers[f"{name}.strict"] = mean(right)
        strict += right
    return {"overall_strict": mean(strict), **numbers}


def editreward_pairs_numbers(judged: Judged) -> Numbers:
    """Strict accuracy of each dimension: the mean over its tasks, and over the tasks of each group."""
    numbers: Numbers = {}
    dimensions = dict.fromkeys(str(c.meta["dimension"]) for c, _ in judged)
    for dimension in dimensions:
        tasks = _grouped([(c, s) for c, s in judged if c.meta["dimension"] == dimension])
        right = {task: mean(float(s[0] > s[1]) for _, s in group) for task, group in tasks.items()}
        numbers[dimension] = mean(right.values())
        for name in (*EDIT_GROUPS, "advanced"):
            numbers[f"{dimension}.{name}"] = mean(v for task, v in right.items() if _edit_group(task) == name)
        numbers |= {f"{dimension}.{task}": value for task, value in right.items()}
    return numbers


def _order_numbers(judged: Judged) -> Numbers:
    return {
        "picked": mean(right_share(s, c.ranks) for c, s in judged),
        "pairwise": without_ties([pair for c, s in judged for pair in pairs(s, c.ranks)]),
        "kendall": mean(value for c, s in judged if (value := kendall(s, c.ranks)) is not None),
    }


def _ordered(choice: Choice, scores: Sequence[float], threshold: float | None) -> float:
    if len(choice.ranks) > 2 or threshold is None:
        return float(order_right(scores, choice.ranks))
    tie = abs(scores[0] - scores[1]) <= threshold
    return float(tie if not choice.counts else not tie and order_right(scores, choice.ranks))


def _edit_group(task: str) -> str:
    return next((name for name, words in EDIT_GROUPS.items() if any(w in task.lower() for w in words)), "advanced")


def _grouped(judged: Judged) -> dict[str, list[tuple[Choice, Sequence[float]]]]:
    groups: dict[str, list[tuple[Choice, Sequence[float]]]] = defaultdict(list)
    for choice, scores in judged:
        groups[choice.dimension].append((choice, scores))
    return dict(sorted(groups.items()))
