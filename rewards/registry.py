"""From names and YAML to rewards: the registry, checked options, and suites that route rollouts by task."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from mmrl.core.config import Config, InputError, load, nearest, validate
from mmrl.core.registry import checked_options, options_of, resolve
from rewards.base import Kind, Reward, Rollout, Verdict, abstain, checked
from rewards.isolation.deadline import deadlined
from rewards.judge_client.judge_spec import JudgeSpec

if TYPE_CHECKING:
    from rewards.judge_client.client import Judge

logger = logging.getLogger(__name__)

REWARDS = {
    "anls": "rewards.rules.text:anls",
    "blend": "rewards.composed.hybrid:blend",
    "bleu": "rewards.rules.text:bleu",
    "bmas": "rewards.rules.bmas:bmas",
    "box_iou": "rewards.rules.grounding:box_iou",
    "box_set": "rewards.rules.detection:box_set",
    "caption_language": "rewards.judged.captions:caption_language",
    "caption_precision": "rewards.judged.captions:caption_precision",
    "caption_recall": "rewards.judged.captions:caption_recall",
    "caption_utility": "rewards.judged.captions:caption_utility",
    "choice_match": "rewards.rules.exact_match:choice_match",
    "chrf": "rewards.rules.text:chrf",
    "cosine_length": "rewards.rules.lengths:cosine_length",
    "edit_score": "rewards.judged.edits:edit_score",
    "edit_verifier": "rewards.judged.edits:edit_verifier",
    "embedding_similarity": "rewards.heads.embedding_similarity:embedding_similarity",
    "endogenous": "rewards.heads.endogenous:endogenous",
    "fallback": "rewards.composed.hybrid:fallback",
    "gate": "rewards.composed.hybrid:gate",
    "group_rank": "rewards.composed.shaping:group_rank",
    "judge": "rewards.judged.judge:judge",
    "json_format": "rewards.rules.form:json_format",
    "length_mask": "rewards.rules.lengths:length_mask",
    "length_penalty": "rewards.rules.lengths:length_penalty",
    "length_window": "rewards.rules.lengths:length_window",
    "math_match": "rewards.rules.math_match:math_match",
    "number_match": "rewards.rules.exact_match:number_match",
    "multi_response": "rewards.heads.multi_response:multi_response",
    "nugget_support": "rewards.judged.rubrics:nugget_support",
    "object_hallucination": "rewards.rules.object_hallucination:object_hallucination",
    "object_probing": "rewards.judged.object_probing:object_probing",
    "overlong": "rewards.rules.lengths:overlong",
    "point_match": "rewards.rules.detection:point_match",
    "principle_ranking": "rewards.judged.rubrics:principle_ranking",
    "progressive": "rewards.composed.hybrid:progressive",
    "relaxed_match": "rewards.rules.text:relaxed_match",
    "relevance": "rewards.heads.relevance:relevance",
    "repetition": "rewards.rules.lengths:repetition",
    "reward_chain": "rewards.rules.text:reward_chain",
    "reward_model": "rewards.heads.reward_model:reward_model",
    "rouge_l": "rewards.rules.text:rouge_l",
    "rubric": "rewards.judged.rubrics:rubric",
    "self_hallucination": "rewards.judged.self_hallucination:self_hallucination",
    "shape": "rewards.composed.shaping:shape",
    "span_iou": "rewards.rules.grounding:span_iou",
    "tag_format": "rewards.rules.form:tag_format",
    "text_match": "rewards.rules.exact_match:text_match",
    "think_format": "rewards.rules.form:think_format",
    "tool_call": "rewards.rules.tool_call:tool_call",
    "verifier_score": "rewards.judged.edit_chain:verifier_score",
    "yesno_match": "rewards.rules.exact_match:yesno_match",
}


class Call(Config):
    """A reward in YAML: the name of its function and its options, which may be rewards themselves.

    With a `deadline` in seconds it runs in a process of its own (`rewards.isolation.deadline`).
    """

    fn: str
    args: dict[str, Any] = Field(default_factory=dict)
    deadline: Annotated[float | None, Field(gt=0, allow_inf_nan=False)] = None


class RewardSpec(Call):
    """A reward of a suite: what it weighs, and the tasks whose rollouts it scores (all if not said)."""

    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    tasks: Annotated[list[str], Field(min_length=1)] | None = None


class SuiteConfig(Config):
    """A suite file. A reward that fails on more than `max_failed` of `min_calls` or more rollouts stops the run."""

    rewards: Annotated[dict[str, RewardSpec], Field(min_length=1)]
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    max_failed: Annotated[float, Field(ge=0, le=1)] = 0.5
    min_calls: Annotated[int, Field(ge=1)] = 200


def get(name: str, /, **options: Any) -> Reward:
    """The reward of a registered name or "module:function" with its options; what is wrong with them shows here.

    An option that is a mapping with the key `fn` (and perhaps `args`) is a reward and is made one. A judge is given as
    a `Judge` or as the settings of one; in a suite also by its name.

    >>> get("number_match", rel_tol=0.1)([Rollout("<answer>21</answer>", answer=20)])[0].score
    1.0
    """
    return _reward(name, options, {})


def _reward(name: str, options: Mapping[str, Any], judges: Mapping[str, Judge]) -> Reward:
    function = function_of(name)
    schema = options_of(function)
    built = {key: _built(value, judges) for key, value in options.items()}
    if "judge" in options and "judge" in schema.model_fields:
        built["judge"] = _judge(built["judge"], schema, judges)
    return checked(functools.partial(function, **checked_options(function, built, f"reward {name}")), name=name)


def function_of(name: str) -> Callable[..., Any]:
    """The function behind a registered name or a "module:function"."""
    return resolve(name, REWARDS, "reward")


def _built(value: Any, judges: Mapping[str, Judge]) -> Any:
    """`value` with every mapping in it that has the key `fn` replaced by the reward it names."""
    if isinstance(value, Mapping) and "fn" in value:
        call = validate(Call, value, where=f"reward {value['fn']}")
        return _made(call, judges)
    if isinstance(value, Mapping):
        return {key: _built(inner, judges) for key, inner in value.items()}
    return [_built(inner, judges) for inner in value] if isinstance(value, list) else value


def _made(call: Call, judges: Mapping[str, Judge]) -> Reward:
    """The reward that a call asks for, under its deadline if it has one."""
    reward = _reward(call.fn, call.args, judges)
    if call.deadline is None:
        return reward
    return checked(deadlined(call.fn, _spelled(call.args, judges), call.deadline), name=call.fn)


def _spelled(args: Any, judges: Mapping[str, Judge]) -> Any:
    """Options for another process: the settings of every judge stand in place of its name."""
    if isinstance(args, list):
        return [_spelled(inner, judges) for inner in args]
    if not isinstance(args, Mapping):
        return args
    spelled = {key: _spelled(inner, judges) for key, inner in args.items()}
    judge = args.get("judge")
    if isinstance(judge, str) and judge in judges:
        spelled["judge"] = judges[judge].spec.model_dump(mode="json")
    return spelled


def _judge(given: Any, schema: type[BaseModel], judges: Mapping[str, Judge]) -> Any:
    """The judge that the option `judge` means, if that option takes one."""
    from rewards.judge_client.client import Judge, judge_of

    return judge_of(given, judges) if schema.model_fields["judge"].annotation is Judge else given


class RewardFailure(RuntimeError):  # noqa: N818 - named for what happened, not a mistake in the code
    """A reward fails too often to go on."""


class Suite:
    """Named rewards with weights, each scoring the rollouts of its tasks; `score` gives the reward vectors.

    `counts` says what became of the rollouts that a reward was called with, by kind of verdict: those of other tasks
    are not among them.

    >>> suite = Suite({"right": {"fn": "yesno_match", "tasks": ["yesno"]}, "form": {"fn": "think_format"}})
    >>> vectors = suite.score([Rollout("<answer>no</answer>", "no", "yesno"), Rollout("B", "B", "choice")])
    >>> [[vector[name].score for name in suite.names] for vector in vectors]
    [[1.0, 0.0], [None, 0.0]]
    """

    def __init__(
        self,
        specs: Mapping[str, RewardSpec | Mapping[str, Any]],
        *,
        judges: Mapping[str, JudgeSpec | Mapping[str, Any]] | None = None,
        max_failed: float = 0.5,
        min_calls: int = 200,
    ) -> None:
        values = {
            "rewards": dict(specs),
            "judges": dict(judges or {}),
            "max_failed": max_failed,
            "min_calls": min_calls,
        }
        self.config = validate(SuiteConfig, values, where="reward suite")
        self.specs = self.config.rewards
        self.counts: dict[str, Counter[Kind]] = {name: Counter() for name in self.specs}
        self.judges = _judges(self.config.judges)
        self._rewards = {name: _named(name, spec, self.judges) for name, spec in self.specs.items()}
        self._recent: dict[str, tuple[int, int]] = dict.fromkeys(
            self.specs, (0, 0)
        )  # calls, failures since last judged

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] | None = None) -> Suite:
        """The suite in a YAML file."""
        config = load(SuiteConfig, path, overrides)
        return cls(config.rewards, judges=config.judges, max_failed=config.max_failed, min_calls=config.min_calls)

    @property
    def names(self) -> list[str]:
        """The rewards, in the order of the reward vector."""
        return list(self.specs)

    @property
    def weights(self) -> list[float]:
        """Their weights, in the same order."""
        return [spec.weight for spec in self.specs.values()]

    def score(self, rollouts: Sequence[Rollout]) -> list[dict[str, Verdict]]:
        """The verdict of every reward on every rollout; RewardFailure once a reward fails too often."""
        columns = {name: self._column(name, rollouts) for name in self.specs}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(rollouts))]

    def tasks_scored(self, tasks: Iterable[str]) -> dict[str, list[str]]:
        """The rewards that can fire for each task."""
        return {
            task: [name for name, spec in self.specs.items() if spec.tasks is None or task in spec.tasks]
            for task in sorted(set(tasks))
        }

    def check_tasks(self, tasks: Iterable[str]) -> None:
        """InputError if there is a task that no reward scores."""
        known = {task for spec in self.specs.values() for task in spec.tasks or ()}
        for task, names in self.tasks_scored(tasks).items():
            if not names:
                raise InputError(f"no reward scores the task {task!r}; {nearest(task, known)}")

    def _column(self, name: str, rollouts: Sequence[Rollout]) -> list[Verdict]:
        tasks = self.specs[name].tasks
        mine = [i for i, rollout in enumerate(rollouts) if tasks is None or rollout.task in tasks]
        column = [OTHER_TASK] * len(rollouts)
        if mine:
            verdicts = self._rewards[name]([rollouts[i] for i in mine])
            for i, verdict in zip(mine, verdicts, strict=True):
                column[i] = verdict
            self._count(name, verdicts)
        return column

    def _count(self, name: str, verdicts: Sequence[Verdict]) -> None:
        self.counts[name].update(verdict.kind for verdict in verdicts)
        causes = [verdict.why for verdict in verdicts if verdict.kind == "failed"]
        if causes:
            logger.warning("reward %s failed on %d of %d rollouts: %s", name, len(causes), len(verdicts), causes[-1])
        calls, failures = self._recent[name]
        calls, failures = calls + len(verdicts), failures + len(causes)
        if calls < self.config.min_calls:
            self._recent[name] = (calls, failures)
            return
        self._recent[name] = (0, 0)  # a reward that breaks late is seen as soon as one that never worked
        if failures > self.config.max_failed * calls:
            raise RewardFailure(
                f"reward {name} failed on {failures} of its last {calls} rollouts, more than max_failed="
                f"{self.config.max_failed:g}; the last cause: {causes[-1] if causes else 'see the log'}"
            )


OTHER_TASK = abstain("a reward of other tasks")


def _judges(specs: Mapping[str, JudgeSpec]) -> dict[str, Judge]:
    """The judges of a suite by name; nothing is loaded for a suite without."""
    if not specs:
        return {}
    from rewards.judge_client.client import Judge

    return {name: Judge(spec, name) for name, spec in specs.items()}


def _named(name: str, spec: RewardSpec, judges: Mapping[str, Judge]) -> Reward:
    try:
        return _made(spec, judges)
    except InputError as error:
        raise InputError(f"rewards.{name}: {error}") from None
