"""Suites: named rewards with weights that score the rollouts of their tasks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveInt

from mmrl.core.config import Config, InputError, RunError, load, nearest, validate
from rewards.base import IN_UNIT, Kind, Reward, Rollout, Verdict, abstain, checked
from rewards.functions import of_rollouts
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.registry import Call, made

if TYPE_CHECKING:
    from rewards.judge_client.client import Judge

logger = logging.getLogger(__name__)
OTHER_TASK = abstain("a reward of other tasks")
DOUBTED = 4  # answers of a batch, and half of it, from which on their coordinates are doubted
FailedShare = Annotated[float, Field(ge=0, le=1)]


class RewardSpec(Call):
    """A reward of a suite: its weight, and the tasks whose rollouts it scores (all if not given)."""

    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    tasks: Annotated[list[str], Field(min_length=1)] | None = None


class SuiteConfig(Config):
    """A suite file. A reward that fails on more than `max_failed` of `min_calls` or more rollouts stops the run.

    Training refuses a task that only rewards of form score, unless `form_only` names it.
    """

    rewards: Annotated[dict[str, RewardSpec], Field(min_length=1)]
    judges: dict[str, JudgeSpec] = Field(default_factory=dict)
    max_failed: FailedShare = 0.5
    min_calls: PositiveInt = 200
    form_only: list[str] = Field(default_factory=list)


class RewardError(RunError):
    """A reward fails too often to continue."""


class Suite:
    """Named rewards with weights, each scoring the rollouts of its tasks; `score` gives the reward vectors.

    `counts` has the verdicts of each reward by kind; rollouts of other tasks are not counted.

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
        form_only: Sequence[str] = (),
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        values = {
            "rewards": dict(specs),
            "judges": dict(judges or {}),
            "max_failed": max_failed,
            "min_calls": min_calls,
            "form_only": list(form_only),
        }
        self.config = validate(SuiteConfig, values, where="reward suite")
        self.specs = self.config.rewards
        self.counts: dict[str, Counter[Kind]] = {name: Counter() for name in self.specs}
        self.judges = _judges(self.config.judges)
        given = {name: checked(of_rollouts(function), name=name) for name, function in (functions or {}).items()}
        self._rewards = {name: given.get(name) or _named(name, spec, self.judges) for name, spec in self.specs.items()}
        self._doubted = set[str]()  # rewards whose coordinates were doubted in the log
        self._recent: dict[str, tuple[int, int]] = dict.fromkeys(
            self.specs, (0, 0)
        )  # calls, failures since last judged

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] | None = None) -> Suite:
        """The suite in a YAML file."""
        config = load(SuiteConfig, path, overrides)
        options = {name: getattr(config, name) for name in SuiteConfig.model_fields}
        return cls(options.pop("rewards"), **options)

    @classmethod
    def of(cls, given: Any, *, weights: Sequence[float] | None = None) -> Suite:
        """A suite of rewards as one gives them in Python: a suite, the name of a reward, a function, a list of names
        and functions, or a mapping of names to any of these and to settings.

        A function takes rollouts, or what TRL gives its reward functions (`rewards.functions`).

        >>> Suite.of(["think_format", len], weights=[0.2, 1]).weights
        [0.2, 1.0]
        """
        if isinstance(given, Suite):
            return given
        several = given if isinstance(given, list | tuple) else [given]
        named = given if isinstance(given, Mapping) else {_name_of(each): each for each in several}
        if not named or len(named) < len(several):
            raise InputError(f"rewards need names that differ; got {', '.join(map(_name_of, several)) or 'none'}")
        if weights is not None and len(weights) != len(named):
            raise InputError(f"{len(weights)} weights for the rewards {', '.join(named)}")
        functions = {name: each for name, each in named.items() if callable(each)}
        specs = {name: each if isinstance(each, Mapping | RewardSpec) else _call(each) for name, each in named.items()}
        if weights is not None:
            specs = {name: {**dict(specs[name]), "weight": weight} for name, weight in zip(specs, weights, strict=True)}
        return cls(specs, functions=functions)

    @property
    def names(self) -> list[str]:
        """The rewards, in the order of the reward vector."""
        return list(self.specs)

    @property
    def weights(self) -> list[float]:
        """Their weights, in the same order."""
        return [spec.weight for spec in self.specs.values()]

    def score(self, rollouts: Sequence[Rollout]) -> list[dict[str, Verdict]]:
        """The verdict of every reward on every rollout; RewardError once a reward fails too often."""
        columns = {name: self.column(name, rollouts) for name in self.specs}
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

    def unreached_judges(self) -> dict[str, str]:
        """The judges that do not answer, and why."""
        from rewards.judge_client.probe import judges_in, unreached

        inside = [found for name, spec in self.specs.items() for found in judges_in(spec.args, f"of the reward {name}")]
        return unreached({**self.config.judges, **dict(inside)})

    def check_judges(self) -> None:
        """RunError if a judge does not answer: its rewards would have no verdict on anything."""
        if causes := self.unreached_judges():
            told = "; ".join(f"judge {name} does not answer ({cause:.200})" for name, cause in causes.items())
            raise RunError(f"{told}; start the server, or correct its base_url and model")

    def column(self, name: str, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """The verdict of one reward on every rollout."""
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
        doubted = sum(IN_UNIT in verdict.why for verdict in verdicts)
        if doubted >= max(DOUBTED, len(verdicts) / 2) and name not in self._doubted:
            self._doubted.add(name)
            logger.warning(
                "reward %s: %d of %d answers have %s; is that what the model speaks?",
                name,
                doubted,
                len(verdicts),
                IN_UNIT,
            )
        calls, failures = self._recent[name]
        calls, failures = calls + len(verdicts), failures + len(causes)
        if calls < self.config.min_calls:
            self._recent[name] = (calls, failures)
            return
        self._recent[name] = (0, 0)  # a reward that breaks late is seen as soon as one that never worked
        if failures > self.config.max_failed * calls:
            raise RewardError(
                f"reward {name} failed on {failures} of its last {calls} rollouts, more than max_failed="
                f"{self.config.max_failed:g}; the last cause: {causes[-1] if causes else 'see the log'}"
            )


def _name_of(given: Any) -> str:
    """The name of a reward that is given without one."""
    if isinstance(given, str):
        return given
    if not callable(given):
        raise InputError(f"a reward is a name, a function, or a mapping of names to them; got {given!r:.80}")
    return getattr(given, "__name__", type(given).__name__)


def _call(given: Any) -> dict[str, str]:
    """The settings of a reward without options; those of a function say where it was written."""
    name = _name_of(given)
    return {"fn": name if isinstance(given, str) else f"{getattr(given, '__module__', None)}:{name}"}


def _judges(specs: Mapping[str, JudgeSpec]) -> dict[str, Judge]:
    """The judges of a suite by name; nothing is loaded for a suite without."""
    if not specs:
        return {}
    from rewards.judge_client.client import Judge

    return {name: Judge(spec, name) for name, spec in specs.items()}


def _named(name: str, spec: RewardSpec, judges: Mapping[str, Judge]) -> Reward:
    try:
        return made(spec, judges)
    except InputError as error:
        raise InputError(f"rewards.{name}: {error}") from None
