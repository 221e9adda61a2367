"""Claims about the demo's policy and the demo's tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims.band import difficulties, like, within
from benchmarks.claims.policy_claim import POOL, Arm, PolicyClaim, Report, greedy, passed
from data_engine.schema import Sample
from eval.difficulty import FILE, measured

# Vision-R1: rules that become harder


def _overlap(least: float) -> dict[str, Any]:
    return {"fn": "box_iou", "args": {"threshold": least}}


def _boxes(rule: dict[str, Any]) -> dict[str, Any]:
    return {"rewards": {"grounding": rule | {"tasks": ["grounding"]}, "format": {"fn": "think_format", "weight": 0.2}}}


RISING = Arm(
    "rising", _boxes({"fn": "progressive", "args": {"reward": _overlap(0.5), "schedule": {0.5: _overlap(0.75)}}})
)


def _rising(old: str, least: float, until: str) -> PolicyClaim:
    """The threshold that rises against one that stays."""
    return PolicyClaim(
        paper="Vision-R1 (2503.18013)",
        claim=f"a threshold that rises at half of the training teaches more than the {old} one {until}",
        setting=f"boxes of digits; IoU of greedy answers, from 0.5 to 0.75 - {least}",
        new=RISING,
        old=Arm(old, _boxes(_overlap(least))),
        measure=greedy,
        tasks=("grounding",),
    )


# THR: tokens weigh by what they do to the right answers


def _numbers(tokens: dict[str, Any]) -> dict[str, Any]:
    number = {"fn": "number_match", "tasks": ["number", "count"]}
    rewards = {"number": number, "format": {"fn": "think_format", "weight": 0.2}}
    return {"rewards": rewards, "advantages": {"name": "grpo"} | tokens}


def _thr(p: float, side: str, gaining: str, measure: Callable[[Sequence[Report]], float]) -> PolicyClaim:
    """Weights of tokens against none."""
    return PolicyClaim(
        paper="THR (2510.03669)",
        claim=f"with p {side} 0 {gaining} more than without weights of tokens",
        setting=f"counting, and the first digit of a video; p = {p} - GRPO",
        new=Arm(f"thr {p}", _numbers({"tokens": {"thr": {"reward": "number", "p": p}}})),
        old=Arm("grpo", _numbers({})),
        measure=measure,
        decodings=("greedy", "sampled"),
        tasks=("count", "number"),
    )


# The difficulty band


def _band(pool: Sequence[Sample], out: Path) -> list[Sample]:
    """The samples that the policy gets right sometimes, more than by guessing, or whose scores vary."""
    config = difficulties(out, POOL, [])
    if not (out / "difficulty" / FILE).exists():
        measured(config)
    return within(pool, config, out / "difficulty" / FILE)


POLICIES: dict[str, PolicyClaim] = {
    "progressive_strict": _rising("strict", 0.75, "from the start"),
    "progressive_lenient": _rising("lenient", 0.5, "to the end"),
    "thr_exploit": _thr(0.1, "above", "greedy answers gain", greedy),
    "thr_explore": _thr(-0.1, "below", "pass@8 gains", passed),
    "band": PolicyClaim(
        paper="difficulty band (ours)",
        claim="questions that are right sometimes teach more than as many drawn at random",
        setting="the demo's six tasks, 200 questions each; greedy answers, within the band - at random",
        new=Arm("band", {}, lambda pool, seed, out: _band(pool, out)),
        old=Arm("random", {}, lambda pool, seed, out: like(_band(pool, out), pool, seed)),
        measure=greedy,
    ),
}
