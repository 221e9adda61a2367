"""`mmrl reward attack CONFIG`: answers that a reward scores wrongly, found by decoding under the reward itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from data_engine.dataset.writer import DatasetWriter, check_place
from data_engine.schema import Sample, with_id
from eval.config import EvalConfig
from eval.generation import Sampling
from eval.records import Record
from eval.run import run
from eval.sample_sets import DatasetSplit
from eval.score import evaluation_suite, rollout_of
from mmrl.core.config import Config, InputError, validate
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.trainers.dataset import training_samples
from mmrl.trainers.preferences import TASK, as_pairs, sides
from rewards import RewardSpec, Rollout
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.prompt_form import PromptForm

Side = Literal["low", "high"]  # good answers of a low score, bad ones of a high score
IN_CLASS = 0.5  # the judge's score from which an answer is good
FOUND: dict[Side, str] = {"low": "good answers scored below the bad one", "high": "bad answers above the good one"}
LEFT, HELD, SILENT, BLANK = "left its class", "scored rightly", "no verdict", "blank, or the answer of the pair"


class AttackConfig(Config):
    """REFORM (2507.06419): failures of the reward `head` on the preferences `data`, and pairs to mend it with.

    `model` writes good answers and `misaligned` (default: the same) bad ones, token by token: of the `candidates`
    likeliest the one of largest log-probability x `weight` - score, or + score. `judge` says whether an answer is still
    good (from 0.5 on), because nothing else does. The answers are records in `out`, the pairs a dataset in `dataset`.
    """

    model: str
    misaligned: str | None = None
    data: DatasetSplit
    head: RewardSpec
    judge: RewardSpec
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    candidates: PositiveInt = 5
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    max_new_tokens: PositiveInt = 64
    vision: VisionBudget = VisionBudget()
    space: CoordinateSpace = CoordinateSpace.resized
    prompt: PromptForm | None = None
    batch_size: PositiveInt = 16
    out: str
    dataset: str


def attacked(config: AttackConfig) -> Counter[str]:
    """Find failures as `config` says and write the pairs; an interrupted run is resumed.

    Returns how many answers failed in either way, and how many did not, by the cause. Without a failure no dataset is
    written.
    """
    check_place(config.dataset, read=config.data.path, used=config.out)
    if (config.judge.fn, config.judge.args) == (config.head.fn, config.head.args):
        raise InputError(f"judge is the attacked head itself, {config.head.fn}; another reward must say what is good")
    samples = training_samples(config.data.path, config.data.split)
    pairs = {sample.id: as_pairs([sample])[0] for sample in samples}
    _check_head(config, pairs[samples[0].id])
    records: dict[Side, list[Record]] = {side: run(_searching(config, side)) for side in FOUND}
    counts: Counter[str] = Counter()
    found: list[Sample] = []
    for side, own in records.items():
        scores = _scores_of_pairs(config, own, Path(config.out, side), pairs)
        for record in own:
            made = _judged(side, record, pairs[record.item_id], scores[record.item_id])
            counts[made if isinstance(made, str) else FOUND[side]] += 1
            found += [] if isinstance(made, str) else [made]
    if found:
        with DatasetWriter(config.dataset, name=Path(config.dataset).name) as writer:
            writer.explain(origin={"sources": [], "operators": [], "prompt": {}})
            for sample in found:
                writer.add(sample)
    return counts


def _check_head(config: AttackConfig, pair: Sample) -> None:
    """Refuse a head that has no verdict on an answer alone, as one that compares the answers of a group."""
    asked = Rollout("", task=pair.task, prompt=pair.prompt, media=pair.media, meta=pair.meta)
    texts = [replace(asked, completion=text) for text in sides(pair.answer)]
    verdicts = [vector["head"] for vector in evaluation_suite({"head": config.head}, config.judges).score(texts)]
    if all(verdict.score is None for verdict in verdicts):
        raise InputError(f"head {config.head.fn} has no verdict on an answer of sample {pair.id}: {verdicts[0].why}")


def _searching(config: AttackConfig, side: Side) -> EvalConfig:
    """The evaluation whose answers are decoded towards a wrong score."""
    head, judge = (spec.model_dump(mode="json") for spec in (config.head, config.judge))
    guide = {**head, "weight": -1.0 if side == "low" else 1.0}
    decode = {"method": "deal", "rewards": {"head": guide}, "judges": config.judges, "lookahead": 0}
    decode |= {"candidates": config.candidates, "scale": 1 / config.weight}
    values = config.model_dump(include={"data", "vision", "space", "prompt", "batch_size", "judges"})
    values |= {"model": config.misaligned or config.model if side == "high" else config.model, "decode": decode}
    values |= {"rewards": {"head": head, "judge": judge}, "out": str(Path(config.out, side))}
    values["sampling"] = Sampling(max_new_tokens=config.max_new_tokens)
    return validate(EvalConfig, values, where="attack")


def _scores_of_pairs(
    config: AttackConfig, records: Sequence[Record], run: Path, pairs: Mapping[str, Sample]
) -> dict[str, tuple[float | None, float | None]]:
    """What the attacked reward gives the preferred answer and the other, to the question of each record."""
    suite = evaluation_suite({"head": config.head}, config.judges)
    texts = [sides(pairs[record.item_id].answer) for record in records]
    rollouts = [
        replace(rollout_of(record, run), completion=text, opened="")
        for record, both in zip(records, texts, strict=True)
        for text in both
    ]
    scores = [vector["head"].score for vector in suite.score(rollouts)]
    return {record.item_id: (scores[2 * i], scores[2 * i + 1]) for i, record in enumerate(records)}


def _judged(side: Side, record: Record, pair: Sample, known: tuple[float | None, float | None]) -> Sample | str:
    """The pair that a failure gives, or why an answer is none."""
    score, judged = record.scores["head"], record.scores["judge"]
    against = known[1] if side == "low" else known[0]
    if score is None or judged is None or against is None:
        return SILENT
    better, other = sides(pair.answer)
    text = record.opened + record.response
    if text.strip() in ("", better.strip(), other.strip()):
        return BLANK
    if (judged >= IN_CLASS) != (side == "low"):
        return LEFT
    if score >= against if side == "low" else score <= against:
        return HELD
    candidates = [text, other] if side == "low" else [better, text]
    meta: dict[str, Any] = {"task": pair.task, "split": "train", "of": record.item_id, "attack": side}
    return with_id(replace(pair, id="", task=TASK, answer={"candidates": candidates, "preferred": 0}, meta=meta))
