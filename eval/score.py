"""Scores records, from the records alone: the verdicts of the training rewards and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eval.records import RUN, TOTAL, Record, read_records, read_run, replace_records
from mmrl.core.config import InputError
from mmrl.core.locks import alone
from mmrl.core.media.kept import located
from rewards import RewardSpec, Rollout, Suite
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.parse.extract import answer_text


def evaluation_suite(
    specs: Mapping[str, RewardSpec | Mapping[str, Any]],
    judges: Mapping[str, JudgeSpec | Mapping[str, Any]] | None = None,
) -> Suite:
    """The suite of training, but failures never stop it: answers are expensive, and reports withhold failed means."""
    if TOTAL in specs:
        raise InputError(f"a reward cannot be called {TOTAL!r}: that is the weighted sum of all; choose another name")
    return Suite(specs, judges=judges, max_failed=1.0)


def suite_identity(suite: Suite) -> dict[str, Any]:
    """Everything that decides scores: the rewards with their options, their judges, and the version of the code."""
    rewards = {name: spec.model_dump(mode="json") for name, spec in suite.specs.items()}
    judges = {name: spec.model_dump(mode="json") for name, spec in suite.config.judges.items()}
    return {"version": version("mmrl-stack"), "rewards": rewards, **({"judges": judges} if judges else {})}


def rescore(out: Path, source: Path | None = None) -> list[Record]:
    """Score the records in `out` again: by the suite in the YAML file `source`, by that of the run in the directory
    `source`, else by their own."""
    with alone(out):
        return _rescored(out, source)


def _rescored(out: Path, source: Path | None) -> list[Record]:
    info, records = read_run(out), read_records(out)
    if source is None or (source / RUN).is_file():
        stored = read_run(source or out).suite
        specs, judges = stored["rewards"], stored.get("judges")
    else:
        config = Suite.load(source).config
        specs, judges = config.rewards, config.judges
    suite = evaluation_suite(specs, judges)
    suite.check_tasks(record.task for record in records)
    info = replace(info, suite=suite_identity(suite))
    rescored = scored(records, suite, info.scorer, out)
    replace_records(out, rescored, info)
    return rescored


def scored(records: Sequence[Record], suite: Suite, scorer: str, run: Path = Path()) -> list[Record]:
    """`records` of the folder `run` with the verdicts of `suite`, and with `scorer` as the hash of the suite."""
    rollouts = [rollout_of(record, run) for record in records]
    vectors = suite.score(rollouts)
    names = suite.tasks_scored(record.task for record in records)
    weights = dict(zip(suite.names, suite.weights, strict=True))
    signed = []
    for record, rollout, vector in zip(records, rollouts, vectors, strict=True):
        verdicts = {name: vector[name] for name in names[record.task]}
        scores = {name: verdict.score for name, verdict in verdicts.items()}
        signed.append(
            replace(
                record,
                answer_text=answer_text(rollout.answered),
                scorer=scorer,
                scores=scores,
                kinds={name: verdict.kind for name, verdict in verdicts.items()},
                why={name: verdict.why for name, verdict in verdicts.items() if verdict.why},
                total=weighted_sum(scores, weights),
            )
        )
    return signed


def weighted_sum(scores: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """The sum of weight times score over the rewards that have a score; None if none has.

    >>> weighted_sum({"accuracy": 1.0, "format": 0.5, "judge": None}, {"accuracy": 1.0, "format": 0.2, "judge": 1.0})
    1.1
    """
    present = [weights[name] * score for name, score in scores.items() if score is not None]
    return sum(present) if present else None


def rollout_of(record: Record, run: Path = Path()) -> Rollout:
    """The rollout of a record, as rewards take it; `run` is the folder of the run, where its own media lie."""
    return Rollout(
        completion=record.response,
        answer=record.gold,
        task=record.task,
        prompt=record.prompt,
        media=located(record.media, run),
        seen_size=[(width, height) for width, height in record.seen_size],
        meta=record.meta,
        group=record.item_id,
        opened=record.opened,
        made=located(record.made, run),
        gold_media=located(record.gold_media, run),
        turns=record.turns,
    )
