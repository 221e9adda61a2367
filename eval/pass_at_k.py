"""Numbers of several answers to a question: pass@k, the expected best of k, the majority, a bound for best of n."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from statistics import fmean
from typing import Any

from eval.records import Record

RIGHT = 0.5  # the lowest score of a right answer


def pass_at_k(n: int, right: int, k: int) -> float:
    """The unbiased estimate of pass@k from `n` answers of which `right` are right (arXiv 2107.03374).

    >>> [round(pass_at_k(8, 2, k), 4) for k in (1, 2, 4, 8)]
    [0.25, 0.4643, 0.7857, 1.0]
    """
    if not 1 <= k <= n:
        raise ValueError(f"k {k} of {n} answers; expected 1 to {n}")
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def best_of_k(scores: Sequence[float], k: int) -> float:
    """The expected best of `k` of the scores.

    >>> [round(best_of_k([0.1, 0.4, 0.4, 0.9, 0.3, 0.7], k), 7) for k in (1, 2, 3, 6)]
    [0.4666667, 0.64, 0.74, 0.9]
    """
    n = len(scores)
    if not 1 <= k <= n:
        raise ValueError(f"k {k} of {n} scores; expected 1 to {n}")
    return sum(math.comb(at, k - 1) * score for at, score in enumerate(sorted(scores))) / math.comb(n, k)


def majority(answers: Sequence[str | None], rewards: Sequence[float] | None = None) -> tuple[int, float]:
    """(index of the first answer of the largest class, the share of that class).

    Ties between classes go to the larger mean reward, then to the earlier class.

    Answers are compared in lower case, without outer punctuation. None belongs to no class.

    >>> majority(["12", "12", "7", "12.", "7"])
    (0, 0.6)
    """
    plain = [normalised(answer) for answer in answers]
    counts = Counter(answer for answer in plain if answer)
    if not counts:
        return 0, 0.0

    def strength(answer: str) -> tuple[int, float, int]:
        members = [at for at, other in enumerate(plain) if other == answer]
        return len(members), fmean(rewards[at] for at in members) if rewards else 0.0, -members[0]

    winner = max(counts, key=strength)
    return plain.index(winner), counts[winner] / len(answers)


def normalised(answer: str | None) -> str | None:
    """An answer in the form in which majorities compare it; None if it is empty."""
    return re.sub(r"\s+", " ", answer).strip(" .,:;!?()\"'*`").lower() or None if answer else None


def best_of_n_kl_bound(n: int) -> float:
    """The most that taking the best of `n` moves a policy, as a KL divergence in nats (arXiv 2401.01879).

    >>> round(best_of_n_kl_bound(8), 7)
    1.2044415
    """
    return math.log(n) - (n - 1) / n


def draw_rows(records: Sequence[Record], live: Collection[tuple[str, str]]) -> list[dict[str, Any]]:
    """For each task and reward with several draws an item: pass@k, the expected best of k and the majority's score.

    A draw passes if its score is at least 0.5. Items with fewer than k scored draws do not count for that k.
    """
    groups: dict[tuple[str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for reward, score in record.scores.items():
            if score is not None and (record.task, reward) in live:
                groups[record.task, reward][record.item_id].append(record)
    rows = []
    for (task, reward), items in sorted(groups.items()):
        most = max(map(len, items.values()))
        if most < 2:
            continue
        voted = [_voted(draws, reward) for draws in items.values()]
        row = {"task": task, "reward": reward, "majority": fmean(voted), "items": len(items), "k": []}
        for k in sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most}):
            scores = [[draw.scores[reward] or 0.0 for draw in draws] for draws in items.values() if len(draws) >= k]
            passed = fmean(pass_at_k(len(item), sum(score >= RIGHT for score in item), k) for item in scores)
            best = fmean(best_of_k(item, k) for item in scores)
            row["k"].append({"k": k, "pass": passed, "best": best, "items": len(scores)})
        rows.append(row)
    return rows


def _voted(draws: Sequence[Record], reward: str) -> float:
    chosen, _ = majority([draw.answer_text for draw in draws])
    return draws[chosen].scores[reward] or 0.0
